import MeshBase
import NetAddress

/// Our own addresses as others see them (BEP 42, `ip`): the newest word of each observer.
struct AddressVotes: Sendable {
    private var votes: [Vote] = []

    private struct Vote: Sendable {
        var observer: IPAddress
        var address: SocketAddress
    }

    /// Enough for a clear majority in both families; old words leave.
    static let limit = 32

    mutating func add(_ address: SocketAddress, by observer: SocketAddress) {
        guard address.isUsable, address.family == observer.family else { return }
        votes.removeAll { $0.observer == observer.ip }
        votes.append(Vote(observer: observer.ip, address: address))
        if votes.count > Self.limit { votes.removeFirst() }
    }

    /// The address that most observers saw, the newest among equals.
    func believed(_ family: AddressFamily) -> SocketAddress? {
        var counts: [SocketAddress: Int] = [:]
        var best: (address: SocketAddress, count: Int)?
        for vote in votes where vote.address.family == family {
            let count = (counts[vote.address] ?? 0) + 1
            counts[vote.address] = count
            if count >= best?.count ?? 0 { best = (vote.address, count) }
        }
        return best?.address
    }

    /// Whether observers in so many different networks agree on `ip`.
    func agree(on ip: IPAddress, count: Int) -> Bool {
        let observers = votes.filter { $0.address.ip == ip }.map(\.observer.neighbourhood)
        return Set(observers).count >= count
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        for vote in votes {
            fingerprint.mix(vote.observer.bytes)
            fingerprint.mix(vote.address.compact)
        }
    }
}
