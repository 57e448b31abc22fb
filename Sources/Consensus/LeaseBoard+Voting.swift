import MeshBase

/// What a voter answers. It is durable before it leaves.
extension LeaseBoard {
    mutating func answer(
        _ body: LeaseMessage.Body, from peer: NodeID, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        guard isVoter else {
            actions.append(.dropped(.notAVoter))
            return
        }
        switch body {
        case .look(let name):
            let state = record?.slots[name]?.accepted?.state
            send(
                .seen(name, state ?? firstState, isFree: isFree(name, state: state, at: now)),
                to: peer, into: &actions)
        case .prepare(let key, let ballot):
            guard ballot.node == peer else {
                actions.append(.dropped(.forbidden))
                return
            }
            send(promise(key, ballot, into: &actions), to: peer, into: &actions)
        case .accept(let key, let ballot, let value):
            guard ballot.node == peer else {
                actions.append(.dropped(.forbidden))
                return
            }
            send(accept(key, ballot, value, at: now, into: &actions), to: peer, into: &actions)
        case .settled(let name, let ballot):
            settle(name, ballot, into: &actions)
        case .hold(let name, let number, let nonce, let milliseconds):
            let length = Duration.milliseconds(Int64(milliseconds))
            guard length <= Self.holdLimit else {
                actions.append(.dropped(.forbidden))
                return
            }
            let granted = grant(name, number: number, length: length, at: now)
            send(
                granted ? .holdGrant(name, nonce: nonce) : .holdRefusal(name, nonce: nonce),
                to: peer, into: &actions)
        case .seen, .promise, .accepted, .refusal, .holdGrant, .holdRefusal, .want, .voters: break
        }
    }

    /// No holder may keep the others out for longer.
    private static let holdLimit = Duration.seconds(600)

    /// Numbers of a later founding are larger than all of an earlier one.
    var firstState: LeaseState {
        LeaseState(number: UInt64((chain?.generation ?? 1) - 1) << 31, holder: nil)
    }

    private func isFree(_ name: String, state: LeaseState?, at now: BootInstant) -> Bool {
        let isHeld = holds[name].map { $0.until > now && $0.number >= state?.number ?? 0 } ?? false
        return state?.holder == nil || !(isHeld && rules.honoursHolds)
    }

    mutating func promise(
        _ key: LeaseMessage.Key, _ ballot: Ballot, into actions: inout [LeaseAction]
    ) -> LeaseMessage.Body {
        highestRound = max(highestRound, ballot.round)
        switch key {
        case .lease(let name):
            var slot = record?.slots[name] ?? LeaseSlot()
            if let promised = slot.promised, promised > ballot {
                return .refusal(key, ballot, .promisedHigher(promised))
            }
            if record?.slots[name] == nil, record?.slots.count ?? 0 >= LeaseRecord.nameLimit {
                return .refusal(key, ballot, .full)
            }
            if slot.promised != ballot {
                slot.promised = ballot
                record?.slots[name] = slot
                persist(into: &actions)
            }
            return .promise(
                key, ballot,
                accepted: slot.accepted.map {
                    LeaseMessage.Mark(epoch: $0.epoch, ballot: $0.ballot)
                },
                slot.accepted.map { .lease($0.state) })
        case .voters:
            resetVoterSlot()
            if let promised = record?.voters.promised, promised > ballot {
                return .refusal(key, ballot, .promisedHigher(promised))
            }
            if record?.voters.promised != ballot {
                record?.voters.promised = ballot
                persist(into: &actions)
            }
            return .promise(
                key, ballot,
                accepted: record?.voters.accepted.map {
                    LeaseMessage.Mark(epoch: epoch, ballot: $0.ballot)
                },
                record?.voters.accepted.map { .voters($0.members) })
        }
    }

    mutating func accept(
        _ key: LeaseMessage.Key, _ ballot: Ballot, _ value: LeaseMessage.Value,
        at now: BootInstant, into actions: inout [LeaseAction]
    ) -> LeaseMessage.Body {
        switch (key, value) {
        case (.lease(let name), .lease(let state)):
            return accept(name, ballot, state, at: now, into: &actions)
        case (.voters, .voters(let members)):
            return accept(members, ballot, at: now, into: &actions)
        case (.lease, .voters), (.voters, .lease):
            preconditionFailure("a value belongs to its key")
        }
    }

    private mutating func accept(
        _ name: String, _ ballot: Ballot, _ state: LeaseState, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) -> LeaseMessage.Body {
        let key = LeaseMessage.Key.lease(name)
        var slot = record?.slots[name] ?? LeaseSlot()
        if let promised = slot.promised, promised > ballot {
            return .refusal(key, ballot, .promisedHigher(promised))
        }
        if record?.slots[name] == nil, record?.slots.count ?? 0 >= LeaseRecord.nameLimit {
            return .refusal(key, ballot, .full)
        }
        if let accepted = slot.accepted, accepted.ballot == ballot, accepted.epoch == epoch {
            return accepted.state == state
                ? .accepted(key, ballot, vote: []) : .refusal(key, ballot, .held)
        }
        if keepsOut(name, state, at: now) { return .refusal(key, ballot, .held) }
        slot.promised = ballot
        slot.accepted = LeaseSlot.Accepted(ballot: ballot, epoch: epoch, state: state)
        record?.slots[name] = slot
        // Only the holder gives a lease up, and only when its work has ended.
        if state.holder == nil, holds[name]?.number == state.number { holds[name] = nil }
        persist(into: &actions)
        return .accepted(key, ballot, vote: [])
    }

    /// Whether a hold, granted or possibly forgotten, keeps a later number out now.
    private func keepsOut(_ name: String, _ state: LeaseState, at now: BootInstant) -> Bool {
        guard rules.honoursHolds else { return false }
        if let hold = holds[name], hold.until > now, state.number > hold.number { return true }
        let known = record?.slots[name]?.accepted?.state.number ?? 0
        return now < startBarrier && state.number > known && state.number > firstState.number + 1
    }

    private mutating func grant(
        _ name: String, number: UInt64, length: Duration, at now: BootInstant
    ) -> Bool {
        if let known = record?.slots[name]?.accepted?.state.number, known > number { return false }
        if record?.slots[name] == nil, record?.slots.count ?? 0 >= LeaseRecord.nameLimit {
            return false
        }
        // A name that was granted is one that is remembered, so the table of holds is bounded.
        if record?.slots[name] == nil { record?.slots[name] = LeaseSlot() }
        if let hold = holds[name], hold.number > number, hold.until > now { return false }
        let until = now + max(length, timing.hold) * 2
        holds[name] = Hold(number: number, until: max(until, holds[name]?.until ?? now))
        return true
    }

    mutating func grantOwn(_ name: String, number: UInt64, at now: BootInstant) -> Bool {
        isVoter && grant(name, number: number, length: timing.hold, at: now)
    }

    mutating func settle(_ name: String, _ ballot: Ballot, into actions: inout [LeaseAction]) {
        let present = epoch
        guard let accepted = record?.slots[name]?.accepted, accepted.ballot == ballot,
            accepted.epoch == present, record?.slots[name]?.settledEpoch != present
        else { return }
        record?.slots[name]?.settledEpoch = present
        persist(into: &actions)
    }
}
