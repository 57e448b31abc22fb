import MeshBase

extension Founding {
    /// How things stand at the time of the last call.
    package var view: FoundingView {
        let (phase, reason) = standing
        return FoundingView(
            phase: phase, generation: generation, owner: owner, isOwner: owner == node,
            votersSeen: record.voters.sorted(), voters: voterViews,
            answering: answering(at: latest),
            quorum: policy?.quorum ?? 0, reason: reason, startDeadline: startDeadline,
            claimCertificate: record.claim.certificate,
            readyCertificate: isReady ? record.outcome.certificate : nil, reset: record.reset,
            alarm: alarm, takeoverDue: takeoverDue,
            takeoverProblem: policy == nil ? nil : takeoverProblem, votingProblem: votingProblem,
            ownerSilence: claimOwner.flatMap { $0 == node ? nil : latest - ownerHeardAt })
    }

    package var generation: UInt32 { record.generation }

    /// See ``FoundingView/owner``.
    package var owner: NodeID? {
        if case .outcome(.ready(let founder, _, _)) = record.outcome.value { return founder }
        return claimOwner
    }

    /// See ``FoundingView/startDeadline``.
    package var startDeadline: BootInstant? { start?.deadline }

    /// The certificate authority that a certified `ready` names.
    package var readyAuthority: Bytes32? {
        if case .outcome(.ready(_, let caHash, _)) = record.outcome.value { caHash } else { nil }
    }

    /// What a certified `ready` fixed besides its authority.
    package var readyFacts: [UInt8] {
        if case .outcome(.ready(_, _, let facts)) = record.outcome.value { facts } else { [] }
    }

    private var voterViews: [FoundingView.VoterView] {
        record.voters.sorted().map { voter in
            if voter == node {
                return FoundingView.VoterView(
                    node: node, answers: canVote, mayFound: ownStatus.mayFound,
                    hasLocalData: ownStatus.hasLocalData, silence: .zero)
            }
            let report = reports[voter]
            let silence = report.map { latest - $0.at }
            return FoundingView.VoterView(
                node: voter, answers: silence.map { $0 <= timing.statusLifetime } ?? false,
                mayFound: report?.status.mayFound ?? false,
                hasLocalData: report?.status.hasLocalData ?? false, silence: silence)
        }
    }

    /// A violated assumption, for as long as it is.
    var alarm: String? {
        if record.isAmnesiac || record.hasContradiction || hasTooManyVoters || recordProblem != nil
        {
            return votingProblem
        }
        return foreignVoters.first.map { "node \($0.short) works with another founding policy" }
    }

    /// The phase, and why in words for a person.
    package var standing: (phase: FoundingView.Phase, reason: String) {
        if isReady {
            return (.ready, alarm.map { "the cluster is ready; \($0)" } ?? "the cluster is ready")
        }
        if policy == nil, !configuration.mayFound { return (.none, "no cluster is wanted here") }
        if let alarm { return (.alarm, alarm) }
        if policy == nil { return (.refused, votingProblem ?? "") }
        if let owner = claimOwner {
            return owner == node ? ownStanding : (.starting, othersStanding(owner))
        }
        if wasFenced, hasDataToFence {
            return (.fenced, "this node's claim was abandoned; its data is being moved away")
        }
        if proposal != nil { return (.claiming, "asking the voters for the claim to found") }
        if let problem = foundingProblem ?? votingProblem {
            let hopes = configuration.mayFound && !isOtherDesignated
            return (hopes ? .refused : .waiting, problem + "; waiting for a founder")
        }
        if let policy, !policy.foundsFromTokenAlone, !operatorWantsInit {
            return (.refused, claimObstacle(at: latest) ?? "")
        }
        return (.waiting, claimObstacle(at: latest) ?? "waiting for this node's turn to propose")
    }

    private var isOtherDesignated: Bool {
        if case .designated(let only) = policy?.mode { only != node } else { false }
    }

    private var ownStanding: (FoundingView.Phase, String) {
        let failure = lastFailure.map { "; the last start failed: \($0)" } ?? ""
        if start?.report != nil { return (.starting, "having ready certified") }
        if start != nil { return (.starting, "this node starts the datastore" + failure) }
        if heardAbandonment || operatorWantsTakeover {
            return (.fenced, "this node's claim is being abandoned")
        }
        if let problem = foundingProblem { return (.refused, problem) }
        let text = "this node has the claim and gathers \(quorum) holds" + failure
        return wasFenced ? (.fenced, "ready was not certified in time; " + text) : (.claiming, text)
    }

    private func othersStanding(_ owner: NodeID) -> String {
        if operatorWantsTakeover { return "giving up on node \(owner.short)" }
        let silence = latest - ownerHeardAt
        if silence > timing.hold {
            let seconds = Int(silence.inSeconds)
            return "node \(owner.short) has the claim and was not heard for \(seconds) s; "
                + (takeoverProblem ?? "if it is lost, say `cluster takeover`")
        }
        return "node \(owner.short) founds the cluster"
    }

    /// Folds in everything that decides what happens next.
    package func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(record.encoded)
        fingerprint.mix(configuration.hasLocalData)
        fingerprint.mix(hasSaved)
        fingerprint.mix(observingSince)
        for peer in reachable { fingerprint.mix(peer) }
        for peer in reports.keys.sorted() {
            fingerprint.mix(peer)
            fingerprint.mix(Int(reports[peer]?.status.bits ?? 0))
            fingerprint.mix(reports[peer]?.at)
        }
        fingerprint.mix(lastProbe)
        fingerprint.mix(nextProbe)
        fingerprint.mix(probeCursor)
        for voter in furtherVoters.sorted() { fingerprint.mix(voter) }
        for voter in foreignVoters { fingerprint.mix(voter) }
        tally.fingerprint(into: &fingerprint)
        fingerprint.mix(grantedUntil)
        proposal?.proposer.fingerprint(into: &fingerprint)
        fingerprint.mix(proposal?.resendAt)
        fingerprint.mix(proposal?.endsAt)
        fingerprint.mix(proposalDue)
        fingerprint.mix(quietUntil)
        fingerprint.mix(failures)
        fingerprint.mix(Int(highestRound))
        fingerprint.mix(operatorWantsInit)
        fingerprint.mix(operatorWantsTakeover)
        fingerprint.mix(UInt64(hold?.nonce ?? 0))
        for voter in (hold?.grants ?? []).sorted() { fingerprint.mix(voter) }
        fingerprint.mix(hold?.resendAt)
        fingerprint.mix(start?.deadline)
        fingerprint.mix(start?.report?.caHash.bytes ?? [])
        fingerprint.mix(start?.report?.facts ?? [])
        fingerprint.mix(restUntil)
        fingerprint.mix(heardAbandonment)
        fingerprint.mix(ownerHeardAt)
        fingerprint.mix(fenceRequested)
        fingerprint.mix(wasFenced)
        fingerprint.mix(lastFailure ?? "")
    }
}
