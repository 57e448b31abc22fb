import Synchronization

/// A number that one thread raises and any thread reads.
struct Counter: ~Copyable {
    private let value = Atomic<UInt64>(0)

    /// For the owning thread only: no locked instruction.
    @inline(__always)
    func add(_ amount: UInt64) {
        value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    @inline(__always)
    func reset() {
        value.store(0, ordering: .relaxed)
    }

    var current: UInt64 { value.load(ordering: .relaxed) }
}

/// One worker's counters of one peer.
struct PeerCounters: ~Copyable {
    let receivedPackets = Counter()
    let receivedBytes = Counter()
    let sentPackets = Counter()
    let sentBytes = Counter()

    func reset() {
        receivedPackets.reset()
        receivedBytes.reset()
        sentPackets.reset()
        sentBytes.reset()
    }

    var traffic: PeerTraffic {
        var traffic = PeerTraffic()
        traffic.receivedPackets = receivedPackets.current
        traffic.receivedBytes = receivedBytes.current
        traffic.sentPackets = sentPackets.current
        traffic.sentBytes = sentBytes.current
        return traffic
    }
}
