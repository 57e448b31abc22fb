import MeshBase

/// The memory of one voter about one register (Lamport, "Paxos Made Simple", section 2.2).
///
/// Whoever owns it makes a change durable before anybody hears of it.
package struct Acceptor: Hashable, Sendable {
    /// No ballot below this one is accepted any more.
    package private(set) var promised: Ballot?
    /// The newest value that was accepted.
    package private(set) var accepted: AcceptedValue?

    package init() {}

    package enum Answer: Hashable, Sendable {
        /// The state changed: make it durable, then say so.
        case yes
        /// Said before; say it again.
        case again
        /// A higher ballot has the promise.
        case promisedHigher(Ballot)
        /// The same ballot came with two values: its proposer is broken or a clone.
        case contradiction
    }

    /// Asks for the promise to ignore ballots below `ballot`.
    package mutating func prepare(_ ballot: Ballot) -> Answer {
        if let promised {
            if promised == ballot { return .again }
            if promised > ballot { return .promisedHigher(promised) }
        }
        promised = ballot
        return .yes
    }

    /// Asks to accept `value` under `ballot`.
    package mutating func accept(
        _ ballot: Ballot, _ value: RegisterValue, rules: FoundingRules
    ) -> Answer {
        if let accepted, accepted.ballot == ballot {
            return accepted.value == value ? .again : .contradiction
        }
        if let promised, promised > ballot, rules.keepsPromises {
            return .promisedHigher(promised)
        }
        promised = promised.map { max($0, ballot) } ?? ballot
        accepted = AcceptedValue(ballot: ballot, value: value)
        return .yes
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(UInt8((promised == nil ? 0 : 1) | (accepted == nil ? 0 : 2)))
        promised?.encode(into: &writer)
        if let accepted {
            accepted.ballot.encode(into: &writer)
            accepted.value.encode(into: &writer)
        }
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        let flags = try reader.readByte()
        guard flags < 4 else { throw .field("acceptor flags") }
        if flags & 1 != 0 { promised = try Ballot(from: &reader) }
        if flags & 2 != 0 {
            let ballot = try Ballot(from: &reader)
            accepted = AcceptedValue(ballot: ballot, value: try RegisterValue(from: &reader))
        }
    }
}

/// A register that is written at most once in the whole mesh: this voter's share of it and, when
/// known, the proof of what was written.
package struct WriteOnceRegister: Hashable, Sendable {
    package var acceptor = Acceptor()
    package var certificate: DecisionCertificate?

    package init() {}

    package var value: RegisterValue? { certificate?.statement.value }

    func encode(into writer: inout ByteWriter) {
        acceptor.encode(into: &writer)
        writer.write(long: certificate?.encoded ?? [])
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        acceptor = try Acceptor(from: &reader)
        let bytes = try reader.readLongBytes(limit: DecisionCertificate.encodedLimit)
        if !bytes.isEmpty { certificate = try DecisionCertificate(decoding: bytes) }
    }
}
