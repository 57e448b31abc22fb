import MeshBase

/// Leases with fencing numbers, decided by a majority of certified voters after the founding.
///
/// 1. Voters: the founder first; changed one at a time (LeaseBoard+Voters).
/// 2. Campaign: look who holds the name; when nobody seems to, write the next number with this
///    session as its holder by a round of CASPaxos (LeaseBoard+Sessions, +Rounds).
/// 3. Hold: gather a majority of grants under a fresh nonce, again and again. The deadline counts
///    from asking, and whoever works under the lease stops by then.
/// 4. Vote: keep later numbers out while a hold lasts (LeaseBoard+Voting).
///
/// A number is given to one session only, numbers grow, and a later number is chosen only when
/// every hold of an earlier one has passed. The rules are in docs/protocols/leases.md.
package struct LeaseBoard: Sendable {
    package let configuration: LeaseConfiguration
    let signer: any FoundingSigner
    var record: LeaseRecord?
    var chain: VoterChain?
    let startBarrier: BootInstant
    var latest: BootInstant

    // Voting
    var holds: [String: Hold] = [:]
    /// When this node learned of the present voters.
    var votersSince: BootInstant

    // Working
    /// By name, the sessions of this node, in the order in which they came.
    var sessions: [String: [Session]] = [:]
    var rounds: [LeaseMessage.Key: Round] = [:]
    var highestRound: UInt32 = 0
    /// Names that must be written again before the voters may change.
    var unsettled: Set<String> = []

    // Voters
    var wishes = VoterWishes()

    struct Hold: Hashable, Sendable {
        var number: UInt64
        var until: BootInstant
    }

    /// 256 names, and a few sessions of this node for one of them.
    static let sessionLimit = 256

    /// - Parameters:
    ///   - record: what ``LeaseAction/persist(_:)`` gave last.
    ///   - voters: what ``LeaseAction/persistVoters(_:)`` gave last.
    package init(
        configuration: LeaseConfiguration, record: [UInt8]?, voters: [UInt8]?,
        at now: BootInstant, signer: any FoundingSigner
    ) {
        var configuration = configuration
        self.record = record.flatMap { try? LeaseRecord(decoding: $0) }
        chain = voters.flatMap { try? VoterChain(decoding: $0) }
        // What is there and cannot be read is forgotten: never vote again under this identity.
        if record != nil, self.record == nil { configuration.mayVote = false }
        if voters != nil, chain == nil { configuration.mayVote = false }
        // Nobody votes before it knows the voters.
        if chain == nil, let known = self.record, !known.isEmpty { configuration.mayVote = false }
        // The record is durable before the voters are known, so one that is missing was lost.
        if let chain, self.record == nil, !configuration.rules.persistsVotes {
            self.record = LeaseRecord(generation: chain.generation)
        }
        self.configuration = configuration
        self.signer = signer
        latest = now
        votersSince = now
        startBarrier =
            configuration.rules.waitsAfterStart ? now + configuration.timing.hold * 2 : now
    }

    var node: NodeID { configuration.node }
    var timing: LeaseTiming { configuration.timing }
    var rules: LeaseRules { configuration.rules }
    var epoch: UInt32 { chain?.epoch ?? 0 }
    package var voters: [NodeID] { chain?.members ?? [] }
    package var voterEpoch: UInt32 { epoch }
    /// Whoever does not remember what it said in this generation says nothing more in it.
    var isVoter: Bool {
        configuration.mayVote && voters.contains(node)
            && record?.generation == chain?.generation
    }

    /// A cluster is ready: its founder is the first voter of this generation.
    package mutating func founded(
        generation: UInt32, founder: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LeaseAction]
    ) {
        guard chain?.generation ?? 0 < generation else { return }
        chain = VoterChain(generation: generation, founder: founder)
        record = LeaseRecord(generation: generation)
        holds = [:]
        rounds = [:]
        unsettled = []
        // Nothing was granted under these voters, here or by anybody: there were none.
        votersSince = now
        // In this order: see `init`.
        persist(into: &actions)
        persistVoters(into: &actions)
        actions.append(.votersChanged(epoch: epoch, voters))
        advance(at: now, random: &random, into: &actions)
    }

    /// A message arrived from `peer`, whom the tunnel has authenticated.
    package mutating func receive(
        _ bytes: [UInt8], from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        guard let message = try? LeaseMessage(decoding: bytes) else {
            actions.append(.dropped(.malformed))
            return
        }
        guard let chain, message.generation == chain.generation else {
            actions.append(.dropped(.noCluster))
            return
        }
        switch message.body {
        case .want:
            sendLinks(after: message.epoch, to: peer, into: &actions)
            return
        case .voters(let link):
            receive(link, from: peer, at: now, into: &actions)
            advance(at: now, random: &random, into: &actions)
            return
        default: break
        }
        guard message.epoch == epoch else {
            actions.append(.dropped(.otherEpoch))
            if message.epoch < epoch {
                sendLinks(after: message.epoch, to: peer, into: &actions)
            } else {
                send(.want, to: peer, into: &actions)
            }
            return
        }
        handle(message.body, from: peer, at: now, random: &random, into: &actions)
        advance(at: now, random: &random, into: &actions)
    }

    private mutating func handle(
        _ body: LeaseMessage.Body, from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        switch body {
        case .look, .prepare, .accept, .hold, .settled:
            answer(body, from: peer, at: now, into: &actions)
        case .seen, .promise, .accepted, .refusal, .holdGrant, .holdRefusal:
            guard voters.contains(peer) else {
                actions.append(.dropped(.notAVoter))
                return
            }
            take(body, from: peer, at: now, random: &random, into: &actions)
        case .want, .voters: break
        }
    }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        advance(at: now, random: &random, into: &actions)
    }

    /// When to call ``timeout(at:random:into:)`` next.
    package var deadline: BootInstant? {
        guard chain != nil else { return nil }
        var next: BootInstant?
        for round in rounds.values { next = earlier(next, min(round.resendAt, round.endsAt)) }
        for session in sessions.values.joined() { next = earlier(next, session.nextStep) }
        return earlier(earlier(next, nextVoterStep), nextInquiry)
    }

    mutating func advance(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        latest = now
        guard chain != nil else { return }
        stepRounds(at: now, random: &random, into: &actions)
        for name in sessions.keys.sorted() {
            stepSessions(name, at: now, random: &random, into: &actions)
        }
        stepVoters(at: now, random: &random, into: &actions)
        stepInquiry(at: now, random: &random, into: &actions)
    }

    mutating func persist(into actions: inout [LeaseAction]) {
        guard let record, rules.persistsVotes else { return }
        actions.append(.persist(record.encoded))
    }

    func persistVoters(into actions: inout [LeaseAction]) {
        if let chain { actions.append(.persistVoters(chain.encoded)) }
    }

    func send(_ body: LeaseMessage.Body, to peer: NodeID, into actions: inout [LeaseAction]) {
        guard let chain else { return }
        let message = LeaseMessage(generation: chain.generation, epoch: chain.epoch, body: body)
        actions.append(.send(to: peer, message.encode()))
    }

    /// Sends to every voter but this node.
    func sendVoters(_ body: LeaseMessage.Body, into actions: inout [LeaseAction]) {
        for voter in voters where voter != node { send(body, to: voter, into: &actions) }
    }

    /// Folds in everything that decides what happens next.
    package func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(record?.encoded ?? [])
        fingerprint.mix(chain?.encoded ?? [])
        fingerprint.mix(votersSince)
        for name in holds.keys.sorted() {
            fingerprint.mix(name)
            fingerprint.mix(holds[name]?.number ?? 0)
            fingerprint.mix(holds[name]?.until)
        }
        for name in sessions.keys.sorted() {
            fingerprint.mix(name)
            for session in sessions[name] ?? [] { session.fingerprint(into: &fingerprint) }
        }
        for round in rounds.values.sorted(by: { $0.ballot < $1.ballot }) {
            round.fingerprint(into: &fingerprint)
        }
        fingerprint.mix(UInt64(highestRound))
        for name in unsettled.sorted() { fingerprint.mix(name) }
        wishes.fingerprint(into: &fingerprint)
    }
}
