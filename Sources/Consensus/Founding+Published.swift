import MeshBase

extension Founding {
    /// A proof that somebody published where every member reads it, so that nodes learn of a
    /// decision which no voter talks to. Counts exactly as far as its votes do.
    ///
    /// - Parameter bytes: a ``DecisionCertificate``, encoded.
    package mutating func certificateFound(
        _ bytes: [UInt8], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        let certificate: DecisionCertificate
        do throws(DecodingFailure) {
            certificate = try DecisionCertificate(decoding: bytes)
        } catch {
            actions.append(.dropped(.malformed(error)))
            return
        }
        guard policy != nil else {
            actions.append(.dropped(.noPolicy))
            return
        }
        receiveVotes(certificate.statement, certificate.votes, at: now, into: &actions)
        advance(at: now, random: &random, into: &actions)
    }
}
