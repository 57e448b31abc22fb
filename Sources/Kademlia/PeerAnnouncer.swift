import Cryptography
import MeshBase
import NetAddress

/// Finds members the way BitTorrent finds peers: each announces itself under a name of the hour
/// that only holders of the token can compute.
///
/// Every node of the DHT serves that, where slots of the ``Rendezvous`` need BEP 44. But whoever is
/// asked for the name learns it and can list everybody there, so it is done only where it was asked
/// for.
package struct PeerAnnouncer: Sendable {
    private let secret: SecretBytes
    let port: UInt16
    private var isAlone = true
    private var rounds = 0
    private var nextRound: BootInstant

    /// Peers that count per walk: strangers may add as many as they like, and members introduce
    /// each other once one is found.
    static let peerLimit = 16

    /// - Parameters:
    ///   - secret: the token's discovery secret.
    ///   - port: that of our socket.
    package init(secret: SecretBytes, port: UInt16, at now: BootInstant) {
        self.secret = secret
        self.port = port
        nextRound = now
    }

    /// The name under which members announce themselves in an hour since 1970.
    package static func name(of epoch: Int64, secret: SecretBytes) -> KademliaID {
        var key = deriveKey(
            from: secret, label: "rendezvous peers", context: RendezvousSlot.bytes(epoch)
        ).exposedCopy()
        defer { zeroize(&key) }
        return KademliaID(hashing: key)
    }

    mutating func setAlone(_ alone: Bool, at now: BootInstant) {
        guard alone != isAlone else { return }
        isAlone = alone
        rounds = 0
        nextRound = alone ? now : now + .seconds(60)
    }

    mutating func dhtIsReady(at now: BootInstant) {
        rounds = 0
        nextRound = now
    }

    var deadline: BootInstant { nextRound }

    /// Where to look and announce now.
    mutating func timeout(at now: Now, random: inout SeededGenerator) -> [KademliaID] {
        guard nextRound <= now.boot else { return [] }
        rounds += 1
        let pause = RendezvousSlot.pause(afterRound: rounds, isAlone: isAlone)
        nextRound = now.boot + pause + random.duration(in: .zero...(pause / 4))
        return RendezvousSlot.epochs(at: now.wall).map {
            PeerAnnouncer.name(of: $0, secret: secret)
        }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(nextRound)
        fingerprint.mix(rounds)
    }
}
