import MeshBase

/// What a lease board is told at start.
package struct LeaseConfiguration: Sendable {
    /// 16 bytes.
    package var meshID: [UInt8]
    package var node: NodeID
    /// The store had a record and cannot read it, or forgets at a power cut: never vote.
    package var mayVote: Bool
    package var timing: LeaseTiming
    package var rules: LeaseRules

    package init(
        meshID: [UInt8], node: NodeID, mayVote: Bool, timing: LeaseTiming = LeaseTiming(),
        rules: LeaseRules = LeaseRules()
    ) {
        self.meshID = meshID
        self.node = node
        self.mayVote = mayVote
        self.timing = timing
        self.rules = rules
    }
}

package struct LeaseTiming: Hashable, Sendable {
    /// L: how long a holder may go on after asking for holds. Voters keep others out for 2L, so
    /// clocks may drift by a half.
    package var hold: Duration = .seconds(10)
    /// Between two requests for holds: three may get lost.
    package var renewal: Duration = .milliseconds(2_500)
    package var resend: Duration = .milliseconds(500)
    /// A round that takes longer begins anew.
    package var attempt: Duration = .seconds(3)
    /// Between two looks at a lease that somebody else holds.
    package var look: Duration = .seconds(1)
    /// A voter that is away for longer is replaced.
    package var absence: Duration = .seconds(300)
    /// Between two questions to a server about voters that this node may not have heard of.
    package var inquiry: Duration = .seconds(30)

    package init() {}
}

/// The rules whose absence the simulation must notice. Production code uses the defaults.
package struct LeaseRules: Hashable, Sendable {
    /// A voter keeps later holders out while its hold lasts.
    package var honoursHolds = true
    /// A voter that started anew assumes that it granted a hold just before.
    package var waitsAfterStart = true
    /// A voter agrees to new voters only when all it knows is written under the present ones.
    package var settlesFirst = true
    /// A proposer goes on with the newest value that it hears of.
    package var adoptsNewest = true
    package var persistsVotes = true
    /// A node asks servers for voters that it may not have heard of.
    package var asksForVoters = true

    package init() {}
}

/// Who holds a lease: one session of one node.
package struct LeaseHolder: Hashable, Sendable {
    package let node: NodeID
    package let session: UInt64

    package init(node: NodeID, session: UInt64) {
        self.node = node
        self.session = session
    }
}

/// What the register of one name says.
package struct LeaseState: Hashable, Sendable {
    /// The fencing number: it grows with every new holder and never goes back.
    package var number: UInt64
    package var holder: LeaseHolder?

    package init(number: UInt64, holder: LeaseHolder?) {
        self.number = number
        self.holder = holder
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(number)
        writer.write(UInt8(holder == nil ? 0 : 1))
        if let holder {
            writer.write(holder.node)
            writer.write(holder.session)
        }
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        number = try reader.readUInt64()
        guard number < 1 << 62 else { throw .field("fencing number") }
        switch try reader.readByte() {
        case 0: holder = nil
        case 1:
            let node = try reader.readNodeID()
            holder = LeaseHolder(node: node, session: try reader.readUInt64())
        default: throw .field("holder flag")
        }
    }
}

/// How a session stands.
package struct LeaseStatus: Hashable, Sendable {
    package enum Phase: String, Hashable, Sendable {
        /// Nothing can be decided now: see ``LeaseStatus/reason``.
        case unavailable
        /// Another one holds the lease, or it is being decided.
        case waiting
        case held
    }

    package var phase: Phase
    package var number: UInt64
    package var holder: NodeID?
    /// While held: the work under this number must have ended by then.
    package var deadline: BootInstant?
    package var reason: String

    package init(
        phase: Phase, number: UInt64, holder: NodeID? = nil, deadline: BootInstant? = nil,
        reason: String
    ) {
        self.phase = phase
        self.number = number
        self.holder = holder
        self.deadline = deadline
        self.reason = reason
    }
}

/// Everything that a lease board can want, to be carried out in order.
package enum LeaseAction: Hashable, Sendable {
    /// The whole ``LeaseRecord``; durable before any later action of the same list.
    case persist([UInt8])
    /// The whole chain of certified voters; durable before any later action of the same list.
    case persistVoters([UInt8])
    /// At most 1,200 bytes; may get lost, repeated or overtaken.
    case send(to: NodeID, [UInt8])
    case votersChanged(epoch: UInt32, [NodeID])
    case dropped(LeaseDrop)
}

/// Why a message had no effect.
package enum LeaseDrop: Hashable, Sendable {
    case malformed
    /// No cluster is ready, or it is another generation's.
    case noCluster
    /// About other voters than the present ones.
    case otherEpoch
    case notAVoter
    case stale
    case forbidden
    case badVote
}
