import MeshBase

/// What this node believes about another member.
package enum MemberState: UInt8, Sendable, CaseIterable {
    /// Admitted, and nothing heard of it since this node started. Never announced by an action.
    case unknown = 0
    case alive = 1
    /// Probes fail; it has until the end of its suspicion to show up.
    case suspect = 2
    case dead = 3
    /// Said good-bye.
    case left = 4
}

package enum SwimAction: Hashable, Sendable {
    /// Deliver to `to` over a path that is known already; without one, drop it.
    case send(to: NodeID, [UInt8])
    /// A hint for names, displays and repair. It never gives or takes authority.
    case memberChanged(NodeID, MemberState)
    case dropped(SwimDropReason)
}

package enum SwimDropReason: Hashable, Sendable {
    /// From a node that was not admitted.
    case stranger
    case malformed(DecodingFailure)
    /// An answer to a question that was not asked, or came too late.
    case unexpected
    /// More indirect probes at once than this node serves.
    case busy
}

/// The numbers of SWIM and Lifeguard (arXiv 1707.00788), with memberlist's LAN values.
package struct SwimTiming: Hashable, Sendable {
    package var probeInterval: Duration = .seconds(1)
    /// From a direct probe to the indirect ones.
    package var probeTimeout: Duration = .milliseconds(500)
    package var gossipInterval: Duration = .milliseconds(200)
    package var gossipFanout = 3
    package var indirectProbes = 3
    /// Shortest suspicion in probe intervals, times log10 of the mesh size.
    package var suspicionFactor = 4
    /// Longest suspicion in shortest ones.
    package var suspicionCeiling = 6
    /// A rumor is sent this often, times log10 of the mesh size.
    package var retransmitFactor = 4
    /// How often one silent member is asked whether it is back.
    package var reviveInterval: Duration = .seconds(10)

    package init() {}
}

/// Hard limits, each with its reason.
enum SwimLimits {
    /// Fits one small datagram under every tunnel.
    static let messageBytes = 512
    /// Four times the largest mesh that is tested; a member costs about 200 bytes.
    static let members = 4_096
    /// Spreads the work; every node is watched by as many as it watches.
    static let ringNeighbours = 8
    /// A probe round over these lasts about a minute; members heard from need no probe anyway.
    static let sessionTargets = 64
    /// Indirect probes in progress for others: three helpers, some twenty suspects.
    static let relays = 64
    /// Lifeguard's ceiling of the local health multiplier.
    static let localHealth = 8
    /// Table rows that fill the spare room of a message, so that a newcomer learns the table
    /// without a transfer of its own.
    static let fillerRumors = 4
    /// The same when nobody came or went for ``calm``: an idle mesh stays under 1 kB/s and node.
    static let calmFillerRumors = 1
    static let calm: Duration = .seconds(60)
    /// Packets under way when a member leaves may arrive this much later.
    static let leaveGrace: Duration = .seconds(5)
    /// Longer than any scheduling delay: this node was suspended, not its peers.
    static let stall: Duration = .seconds(3)
}
