import Consensus
import MeshBase

/// Stands in for Ed25519: a keyed hash that any instance can check.
struct KeyedHashSigner: FoundingSigner {
    let node: NodeID

    func sign(_ bytes: [UInt8]) -> [UInt8] { Self.tag(bytes, node) }

    func verify(_ signature: [UInt8], _ bytes: [UInt8], by signer: NodeID) -> Bool {
        signature == Self.tag(bytes, signer)
    }

    private static func tag(_ bytes: [UInt8], _ node: NodeID) -> [UInt8] {
        var fingerprint = Fingerprint()
        fingerprint.mix(node.bytes.prefix64)
        fingerprint.mix(bytes)
        var tag = [UInt8](repeating: 0, count: 64)
        let value = fingerprint.value
        for index in 0..<8 { tag[index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
        return tag
    }
}

/// Fast and good enough to choose faults (Steele, Lea, Flood, "Fast Splittable Pseudorandom
/// Number Generators", 2014).
struct Dice: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    mutating func chance(_ probability: Double) -> Bool {
        Double.random(in: 0..<1, using: &self) < probability
    }

    mutating func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &self) }

    /// Milliseconds of true time.
    mutating func span(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}

/// A queue of events in order of time, first come first served at equal times.
struct EventQueue<Event> {
    private var heap: [(time: Int, order: Int, event: Event)] = []
    private var order = 0

    mutating func add(_ event: Event, at time: Int) {
        heap.append((time, order, event))
        order += 1
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func next() -> (time: Int, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [parent * 2 + 1, parent * 2 + 2]
                where child < heap.count && precedes(child, least) { least = child }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return (first.time, first.event)
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (heap[a].time, heap[a].order) < (heap[b].time, heap[b].order)
    }
}

func nodeID(_ number: Int) -> NodeID {
    NodeID(Bytes32(word0: UInt64(number + 1) << 32, word1: 0, word2: 0, word3: UInt64(number)))
}

/// The mesh root of the tests.
let testRoot = nodeID(999)

let testMesh = [UInt8](repeating: 7, count: 16)
