/// What an operator tells the founding.
package struct ClusterOrderModel: Codable, Hashable, Sendable {
    package enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// Found on this machine.
        case found = "init"
        /// Give up on the founder that has the claim.
        case takeover
        /// Void everything that was founded; needs `resetBase64`.
        case reset
    }

    package var order: Kind
    /// The reset that the mesh's root key signed, standard base64.
    package var resetBase64: String?

    package init(order: Kind, resetBase64: String? = nil) {
        self.order = order
        self.resetBase64 = resetBase64
    }
}

/// A machine in the datastore, by its name there.
package struct ClusterMachineModel: Codable, Hashable, Sendable {
    package var name: String

    package init(name: String) {
        self.name = name
    }
}

/// What a piece of work says about a lease. Whoever wants it says so again within seconds, or it is
/// given up.
package struct LeaseRequestModel: Codable, Hashable, Sendable {
    /// A random number that no other piece of work uses, 16 hexadecimal digits.
    package var session: String
    /// The work has ended; absent means no.
    package var isOver: Bool?

    package init(session: String, isOver: Bool? = nil) {
        self.session = session
        self.isOver = isOver
    }
}

/// How a piece of work stands.
package struct LeaseModel: Codable, Hashable, Sendable {
    package enum State: String, Codable, Hashable, Sendable, CaseIterable {
        case held
        case waiting
        /// It cannot be decided, or it was held and is lost.
        case unavailable
    }

    package var state: State
    /// The fencing number: larger than that of every earlier holder.
    package var number: UInt64?
    /// The holder's node id, when another one has it.
    package var holder: String?
    /// How long the work may go on, counted from before the question.
    package var validMs: Double?
    package var reason: String

    package init(
        state: State, number: UInt64? = nil, holder: String? = nil, validMs: Double? = nil,
        reason: String
    ) {
        self.state = state
        self.number = number
        self.holder = holder
        self.validMs = validMs
        self.reason = reason
    }
}

/// The founding in words for a person.
package struct ExplanationModel: Codable, Hashable, Sendable {
    /// How things stand, sentence by sentence.
    package var facts: [String]
    /// What a person can do next, sentence by sentence; empty when nothing needs doing.
    package var next: [String]

    package init(facts: [String], next: [String]) {
        self.facts = facts
        self.next = next
    }
}
