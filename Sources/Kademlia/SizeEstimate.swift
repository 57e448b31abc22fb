import MeshBase

/// How many nodes a DHT has, from how near the nearest ones are to targets.
///
/// Of n names spread evenly the i-th nearest is expected at i / n of the whole space. Each walk
/// gives one estimate by least squares over its nearest; the median of the last walks counts, so
/// that a crowd around one target says nothing about the whole.
struct SizeEstimate: Sendable {
    private var samples: [Double] = []

    /// An odd number; enough for the spread of a single one (some 28 %) not to matter.
    static let sampleLimit = 15
    /// Below that many walks nothing is known.
    static let sampleMinimum = 3

    /// - Parameter distances: of the nearest that answered, ascending, as parts of the space.
    mutating func add(distances: [Double]) {
        guard distances.count >= RoutingTable.bucketSize else { return }
        var (squares, products) = (0.0, 0.0)
        for (index, distance) in distances.enumerated() {
            let rank = Double(index + 1)
            squares += rank * rank
            products += rank * distance
        }
        guard products > 0 else { return }
        samples.append(squares / products)
        if samples.count > Self.sampleLimit { samples.removeFirst() }
    }

    /// `nil` while too little is known.
    var count: Double? {
        guard samples.count >= Self.sampleMinimum else { return nil }
        return samples.sorted()[samples.count / 2]
    }

    /// The part of the space around a target within which more than a bucketful of names is a
    /// crowd: half of what eight should span, which chance alone brings about in one of twenty walks.
    var crowdRadius: Double {
        guard let count else { return 0 }
        return Double(RoutingTable.bucketSize) / count / 2
    }
}
