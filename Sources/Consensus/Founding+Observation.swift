import MeshBase

/// What a voter said about itself, and when.
struct PeerReport: Hashable, Sendable {
    var status: PeerStatus
    var at: BootInstant
}

extension Founding {
    /// A voter's certificate was verified. Votes of nodes that were never announced this way do
    /// not count.
    package mutating func voterSeen(
        _ voter: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        guard let policy, !isVoter(voter) else { return }
        if hasTooManyVoters {
            if furtherVoters.count < Self.furtherVoterLimit { furtherVoters.insert(voter) }
            return
        }
        record.voters.append(voter)
        save(into: &actions)
        if record.voters.count > policy.identityLimit, let problem = votingProblem {
            abortEverything(reason: problem, into: &actions)
            actions.append(.alarm(problem))
        }
        hurryProbe(at: now)
        advance(at: now, random: &random, into: &actions)
    }

    /// Four times the largest mesh's voters; the alarm is raised long before.
    static let furtherVoterLimit = 256

    /// Who can be talked to now. Messages go to nobody else.
    package mutating func setReachable(_ nodes: [NodeID]) {
        let sorted = Set(nodes).subtracting([node]).sorted()
        guard sorted != reachable else { return }
        let known = Set(reachable)
        let isNew = sorted.contains { !known.contains($0) }
        reachable = sorted
        if isNew { hurryProbe(at: latest) }
    }

    /// Reachable voters, ascending.
    var reachableVoters: [NodeID] { reachable.filter { isVoter($0) } }

    var ownStatus: PeerStatus {
        PeerStatus(
            votes: canVote, mayFound: foundingProblem == nil && canVote,
            hasLocalData: hasForeignData, knowsClaim: record.claim.certificate != nil,
            knowsOutcome: record.outcome.certificate != nil)
    }

    /// A change of company must not turn into a flood of probes.
    private static let probeSpacing = Duration.milliseconds(200)

    mutating func hurryProbe(at now: BootInstant) {
        let earliest = lastProbe.map { $0 + Self.probeSpacing } ?? now
        nextProbe = min(nextProbe, max(earliest, now))
    }

    mutating func probeIfDue(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        guard now >= nextProbe, !reachable.isEmpty else { return }
        let isBusy = record.claim.certificate == nil || isOwner
        let settles = now >= observationEnd + timing.observation
        let interval =
            isBusy && !settles ? timing.probeInterval : timing.slowProbeInterval
        nextProbe = now + interval * Double.random(in: 0.9...1.1, using: &random)
        lastProbe = now
        let status = ownStatus
        for peer in probeTargets() { send(.probe(status), to: peer, into: &actions) }
    }

    /// Every voter, and a few others in turn: they keep certificates too.
    private mutating func probeTargets() -> [NodeID] {
        let others = reachable.filter { !isVoter($0) }
        var chosen: [NodeID] = []
        for offset in 0..<min(others.count, 4) {
            chosen.append(others[(probeCursor + offset) % others.count])
        }
        probeCursor = others.isEmpty ? 0 : (probeCursor + chosen.count) % others.count
        return reachableVoters + chosen
    }

    mutating func receiveStatus(
        _ status: PeerStatus, generation: UInt32, isProbe: Bool, from peer: NodeID,
        at now: BootInstant, into actions: inout [FoundingAction]
    ) {
        if isVoter(peer) { reports[peer] = PeerReport(status: status, at: now) }
        if isProbe {
            send(.status(ownStatus), to: peer, into: &actions)
        }
        // A node that is done probes no more; it hears of a new generation when it answers.
        if isProbe || generation < record.generation {
            pushCertificates(
                to: peer, generation: generation, knowsClaim: status.knowsClaim,
                knowsOutcome: status.knowsOutcome, into: &actions)
        }
        if isBehind(generation: generation, status: status) { hurryProbe(at: now) }
    }

    private func isBehind(generation: UInt32, status: PeerStatus) -> Bool {
        if generation != record.generation { return generation > record.generation }
        return (status.knowsClaim && record.claim.certificate == nil)
            || (status.knowsOutcome && record.outcome.certificate == nil)
    }

    /// Fresh reports of voters, ascending by node.
    func freshReports(at now: BootInstant) -> [(node: NodeID, status: PeerStatus)] {
        reports.keys.sorted().compactMap { peer in
            guard let report = reports[peer], now - report.at <= timing.statusLifetime,
                report.status.votes
            else { return nil }
            return (peer, report.status)
        }
    }

    /// Voters that answer, this node included.
    func answering(at now: BootInstant) -> Int {
        freshReports(at: now).count + (canVote ? 1 : 0)
    }
}
