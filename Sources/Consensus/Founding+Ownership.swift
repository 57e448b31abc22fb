import MeshBase

/// The owner asks all voters for a hold; the answers of one nonce count together.
struct HoldRequest: Hashable, Sendable {
    let nonce: UInt64
    /// The deadline counts from here, before the first grant can have been given.
    let askedAt: BootInstant
    var grants: Set<NodeID> = []
    var resendAt: BootInstant
    let endsAt: BootInstant
}

/// The owner's datastore runs, not yet certified.
struct DatastoreStart: Hashable, Sendable {
    let deadline: BootInstant
    var report: ReadyReport?
}

/// What the host found out about the datastore that it started.
struct ReadyReport: Hashable, Sendable {
    let caHash: Bytes32
    let facts: [UInt8]
}

extension Founding {
    /// The datastore works: propose `ready`.
    ///
    /// - Parameters:
    ///   - caHash: names the certificate authority that the datastore made.
    ///   - facts: up to 64 bytes that the outcome fixes for ever, such as the founder's address.
    package mutating func datastoreReady(
        caHash: Bytes32, facts: [UInt8] = [], at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        precondition(facts.count <= Outcome.factsLimit, "facts have a bound")
        fenceIfDue(at: now, into: &actions)
        start?.report = ReadyReport(caHash: caHash, facts: facts)
        advance(at: now, random: &random, into: &actions)
    }

    /// The datastore did not come up; it is stopped and tried again after a pause.
    package mutating func datastoreFailed(
        reason: String, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        lastFailure = String(reason.prefix(200))
        if start != nil {
            stopDatastore(reason: "it did not come up", into: &actions)
            restUntil = now + timing.backoffLimit
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// The data of an abandoned founding was renamed; this node may be considered again.
    package mutating func datastoreFenced(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        guard hasDataToFence || hasForeignData else { return }
        record.startedGeneration = 0
        configuration.hasLocalData = false
        fenceRequested = false
        save(into: &actions)
        advance(at: now, random: &random, into: &actions)
    }

    /// Stops what must not run any longer.
    mutating func fenceIfDue(at now: BootInstant, into actions: inout [FoundingAction]) {
        if let start, now >= start.deadline, rules.obeysDeadline {
            stopDatastore(reason: "ready was not certified in time", into: &actions)
            wasFenced = true
        }
        if hasDataToFence, !fenceRequested {
            fenceRequested = true
            wasFenced = true
            actions.append(.fenceDatastore(generation: record.startedGeneration))
        }
    }

    mutating func stopDatastore(reason: String, into actions: inout [FoundingAction]) {
        start = nil
        hold = nil
        actions.append(.stopDatastore(reason: reason))
    }

    /// Nothing that this node began may go on.
    mutating func abortEverything(reason: String, into actions: inout [FoundingAction]) {
        proposal = nil
        proposalDue = nil
        hold = nil
        if start != nil { stopDatastore(reason: reason, into: &actions) }
    }

    private func shouldHold(at now: BootInstant) -> Bool {
        isOwner && canVote && start == nil && now >= restUntil && !operatorWantsTakeover
            && !hasForeignData && !hasDataToFence && configuration.mayFound
            && !heardAbandonment
    }

    mutating func stepHold(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        guard shouldHold(at: now) else {
            hold = nil
            return
        }
        if let hold, now < hold.endsAt {
            if now >= hold.resendAt { askForHold(at: now, into: &actions) }
            return
        }
        hold = HoldRequest(
            nonce: random.next(), askedAt: now, resendAt: now, endsAt: now + timing.attempt)
        guard grant(timing.hold, at: now) else {
            heardAbandonment = true
            hold = nil
            return
        }
        askForHold(at: now, into: &actions)
        receiveGrant(nonce: hold?.nonce ?? 0, from: node, at: now, into: &actions)
    }

    private mutating func askForHold(at now: BootInstant, into actions: inout [FoundingAction]) {
        guard var hold else { return }
        hold.resendAt = now + timing.resendInterval
        self.hold = hold
        let milliseconds = UInt32(clamping: timing.hold.clampedNanoseconds / 1_000_000)
        for voter in reachableVoters where !hold.grants.contains(voter) {
            send(.hold(nonce: hold.nonce, milliseconds: milliseconds), to: voter, into: &actions)
        }
    }

    mutating func receiveGrant(
        nonce: UInt64, from peer: NodeID, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        guard isVoter(peer) else {
            actions.append(.dropped(.notAVoter))
            return
        }
        guard let asked = hold, asked.nonce == nonce, shouldHold(at: now) else {
            actions.append(.dropped(.stale))
            return
        }
        hold?.grants.insert(peer)
        guard let grants = hold?.grants.count, grants >= quorum else { return }
        let deadline = asked.askedAt + timing.hold
        hold = nil
        guard now < deadline else { return }
        start = DatastoreStart(deadline: deadline)
        wasFenced = false
        record.startedGeneration = record.generation
        save(into: &actions)
        actions.append(.startDatastore(generation: record.generation, deadline: deadline))
    }

    mutating func receiveHoldRefusal(
        nonce: UInt64, from peer: NodeID, into actions: inout [FoundingAction]
    ) {
        guard isVoter(peer), let asked = hold, asked.nonce == nonce else {
            actions.append(.dropped(.stale))
            return
        }
        heardAbandonment = true
        hold = nil
    }
}
