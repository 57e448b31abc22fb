import MeshBase
import NetAddress

/// How a node behaves among strangers, and how among its own.
package struct DHTRules: Hashable, Sendable {
    /// BEP 42: names must fit addresses.
    var requiresEarnedNames: Bool
    /// One place per /24 or /64 instead of one per address and port.
    var limitsNeighbourhoods: Bool
    /// BEP 43: read-only until somebody from outside reached us.
    var startsReadOnly: Bool
    /// Queries that one source may make: refill per second and most at once.
    var sourceRate: Double
    var sourceBurst: Double
    /// Bytes of answers per second, and most at once.
    var replyRate: Double
    var replyBurst: Double
    /// Never answer an address that has not proven itself with more than it sent.
    var trimsReplies: Bool
    /// How many distinct observers must agree before our name follows our address.
    var observerQuorum: Int
    /// Halves of a walk that share no node.
    var branches: Int
    /// Whether somebody may settle around a target with many names.
    var expectsCrowds: Bool
    /// Pings per second to nodes that asked us, to learn whether they can be entered.
    var verificationRate: Double

    /// The world's DHT: libtorrent's limits (5 messages per second and source, 8 kB/s).
    package static let world = DHTRules(
        requiresEarnedNames: true, limitsNeighbourhoods: true, startsReadOnly: true,
        sourceRate: 5, sourceBurst: 50, replyRate: 8_000, replyBurst: 24_000,
        trimsReplies: false, observerQuorum: 5, branches: 2, expectsCrowds: true,
        verificationRate: 2)

    /// Our own nodes inside the sealed envelope, many of them perhaps behind one address.
    package static let members = DHTRules(
        requiresEarnedNames: false, limitsNeighbourhoods: false, startsReadOnly: false,
        sourceRate: 50, sourceBurst: 200, replyRate: 64_000, replyBurst: 192_000,
        trimsReplies: true, observerQuorum: 2, branches: 1, expectsCrowds: false,
        verificationRate: 10)

    /// A private network that speaks plain KRPC, for tests with other programs.
    package static let plain = DHTRules(
        requiresEarnedNames: false, limitsNeighbourhoods: false, startsReadOnly: false,
        sourceRate: 50, sourceBurst: 200, replyRate: 64_000, replyBurst: 192_000,
        trimsReplies: false, observerQuorum: 2, branches: 1, expectsCrowds: false,
        verificationRate: 10)

    func admits(_ contact: NodeContact) -> Bool {
        contact.address.isUsable
            && (!requiresEarnedNames || contact.id.isEarned(by: contact.address.ip))
    }

    /// Whether two addresses count as one source.
    func areNeighbours(_ first: SocketAddress, _ second: SocketAddress) -> Bool {
        limitsNeighbourhoods
            ? first.ip.neighbourhood == second.ip.neighbourhood : first == second
    }
}
