import MeshBase

extension SwimInstance {
    /// Moves the probe in progress on, or begins the next one.
    mutating func advanceProbe(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [SwimAction]
    ) {
        if var current = probe {
            if current.failsAt <= now {
                probeFailed(current, at: now, into: &actions)
            } else if let due = current.indirectAt, due <= now {
                current.indirectAt = nil
                askHelpers(&current, at: now, random: &random, into: &actions)
                probe = current
            }
        }
        guard nextProbe <= now else { return }
        let interval = scaledByHealth(timing.probeInterval)
        nextProbe = now + interval
        guard probe == nil, let target = nextTarget(at: now, random: &random) else { return }
        sequence &+= 1
        probe = Probe(
            target: target, sequence: sequence, sentAt: now,
            indirectAt: now + scaledByHealth(timing.probeTimeout), failsAt: now + interval)
        send(.ping(sequence: sequence), to: target, at: now, into: &actions)
    }

    /// The answer came. Where answers are slow the pace is such that helpers are not asked in vain:
    /// where everybody is slow, more questions make everybody slower.
    mutating func probeSucceeded(at now: BootInstant) {
        if let probe { slowestAnswer = max(now - probe.sentAt, slowestAnswer * 7 / 8) }
        probe = nil
        let needed = Int(slowestAnswer / timing.probeTimeout)
        localHealth = min(max(localHealth - 1, needed), SwimLimits.localHealth)
    }

    /// Helpers that stayed silent altogether speak against this node's own link, not against the
    /// target (Lifeguard, section IV-A).
    private mutating func probeFailed(
        _ failed: Probe, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        probe = nil
        let penalty = failed.helpers.isEmpty ? 1 : failed.silentHelpers.count
        localHealth = min(SwimLimits.localHealth, localHealth + penalty)
        guard let member = members[failed.target], member.isPresent,
            let incarnation = member.incarnation
        else { return }
        accuse(
            Rumor(
                state: .suspect, subject: failed.target, incarnation: incarnation, accuser: local),
            at: now, into: &actions)
    }

    private mutating func askHelpers(
        _ current: inout Probe, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [SwimAction]
    ) {
        var candidates = probeTargets.filter {
            $0 != current.target && members[$0]?.state == .alive
        }
        candidates.shuffle(using: &random)
        current.helpers = Array(candidates.prefix(timing.indirectProbes))
        current.silentHelpers = current.helpers
        let request = SwimMessage.Kind.pingRequest(
            sequence: current.sequence, target: current.target)
        for helper in current.helpers { send(request, to: helper, at: now, into: &actions) }
    }

    /// The next member of a shuffled round that has not been heard within an interval. Suspects
    /// that are watched come first: a second opinion is worth more than a routine check.
    private mutating func nextTarget(
        at now: BootInstant, random: inout SeededGenerator
    ) -> NodeID? {
        let fresh = now - timing.probeInterval
        for _ in 0...SwimLimits.sessionTargets + SwimLimits.ringNeighbours {
            if probeRound.isEmpty {
                probeRound = probeTargets
                probeRound.shuffle(using: &random)
            }
            guard let target = probeRound.popLast() else { return nil }
            guard let member = members[target], member.isPresent else { continue }
            if let heard = member.lastHeard, heard > fresh { continue }
            return target
        }
        return nil
    }

    /// Puts a watched suspect at the front of the round.
    mutating func hurryProbe(of node: NodeID) {
        guard probe?.target != node, probeTargets.contains(node) else { return }
        probeRound.removeAll { $0 == node }
        probeRound.append(node)
    }

    func scaledByHealth(_ duration: Duration) -> Duration {
        duration * (localHealth + 1)
    }

    /// Asks one silent member in ten seconds whether it is back: it learns what is said about it
    /// and refutes, and so the halves of a healed partition find each other.
    mutating func reviveIfDue(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [SwimAction]
    ) {
        guard nextRevive <= now else { return }
        nextRevive = now + timing.reviveInterval
        let silent = members.filter { !$0.value.isPresent }.keys.sorted()
        guard let node = silent.randomElement(using: &random) else { return }
        sequence &+= 1
        send(.ping(sequence: sequence), to: node, at: now, into: &actions)
    }

    // MARK: Helping others

    /// Begins an indirect probe for `origin`; `false` when there is no room for it.
    mutating func beginRelay(
        origin: NodeID, originSequence: UInt32, target: NodeID, at now: BootInstant,
        into actions: inout [SwimAction]
    ) -> Bool {
        guard relays.count < SwimLimits.relays else { return false }
        sequence &+= 1
        relays.append(
            Relay(
                origin: origin, originSequence: originSequence, target: target,
                sequence: sequence, nackAt: now + timing.probeTimeout * 3 / 5,
                endsAt: now + timing.probeInterval))
        send(.ping(sequence: sequence), to: target, at: now, into: &actions)
        return true
    }

    mutating func advanceRelays(at now: BootInstant, into actions: inout [SwimAction]) {
        relays.removeAll { $0.endsAt <= now }
        for index in relays.indices {
            guard let due = relays[index].nackAt, due <= now else { continue }
            relays[index].nackAt = nil
            let relay = relays[index]
            send(.nack(sequence: relay.originSequence), to: relay.origin, at: now, into: &actions)
        }
    }

    /// Passes the target's answer on; `false` when nobody waits for it.
    mutating func finishRelay(
        sequence: UInt32, target: NodeID, at now: BootInstant, into actions: inout [SwimAction]
    ) -> Bool {
        guard
            let index = relays.firstIndex(where: {
                $0.sequence == sequence && $0.target == target
            })
        else { return false }
        let relay = relays.remove(at: index)
        send(.ack(sequence: relay.originSequence), to: relay.origin, at: now, into: &actions)
        return true
    }
}
