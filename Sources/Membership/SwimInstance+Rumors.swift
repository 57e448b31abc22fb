import MeshBase

// MARK: - Input

extension SwimInstance {
    /// Any authenticated packet of `node`: it is alive, whatever anybody says.
    package mutating func heard(
        from node: NodeID, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        guard !hasLeft, let member = members[node] else { return }
        members[node]?.lastHeard = now
        if probe?.target == node { probeSucceeded(at: now) }
        switch member.state {
        case .alive: return
        case .left:
            if let leftAt = member.leftAt, now - leftAt < SwimLimits.leaveGrace { return }
        case .unknown, .suspect, .dead: break
        }
        // The same incarnation does not outrank what others hold; only the member itself can say
        // more, so it has to learn what is said.
        tellSubject(node, at: now, into: &actions)
        let incarnation = member.incarnation ?? 0
        change(node, to: .alive, incarnation: incarnation, at: now, into: &actions)
        if member.incarnation == nil {
            spread(
                Rumor(state: .alive, subject: node, incarnation: incarnation, accuser: local),
                at: now)
        }
    }

    /// A message of the membership protocol from an authenticated sender.
    package mutating func receive(
        _ bytes: [UInt8], from sender: NodeID, at now: BootInstant,
        into actions: inout [SwimAction]
    ) {
        guard !hasLeft else { return }
        guard members[sender] != nil else { return actions.append(.dropped(.stranger)) }
        let message: SwimMessage
        do {
            message = try SwimMessage(decoding: bytes, sender: sender)
        } catch {
            return actions.append(.dropped(.malformed(error)))
        }

        let answersProbe = message.kind == probe.map { .ack(sequence: $0.sequence) }
        merge(
            Rumor(
                state: .alive, subject: sender, incarnation: message.incarnation, accuser: sender),
            at: now, into: &actions)
        heard(from: sender, at: now, into: &actions)
        for rumor in message.rumors { merge(rumor, at: now, into: &actions) }
        switch message.kind {
        case .gossip: break
        case .ping(let sequence):
            send(.ack(sequence: sequence), to: sender, at: now, into: &actions)
        case .pingRequest(let sequence, let target):
            guard target != local, members[target] != nil,
                beginRelay(
                    origin: sender, originSequence: sequence, target: target, at: now,
                    into: &actions)
            else { return actions.append(.dropped(.busy)) }
        case .ack(let sequence):
            if let current = probe, answersProbe, current.helpers.contains(sender) {
                probeSucceeded(at: now)
            } else if !answersProbe,
                !finishRelay(sequence: sequence, target: sender, at: now, into: &actions)
            {
                actions.append(.dropped(.unexpected))
            }
        case .nack(let sequence):
            guard probe?.sequence == sequence,
                let index = probe?.silentHelpers.firstIndex(of: sender)
            else { return actions.append(.dropped(.unexpected)) }
            probe?.silentHelpers.remove(at: index)
        }
    }

    /// Says good-bye to everybody who watches; from now on only ``timeout(at:random:into:)`` does
    /// anything, until ``deadline`` is `nil`.
    package mutating func leave(at now: BootInstant, into actions: inout [SwimAction]) {
        guard !hasLeft else { return }
        let targets = probeTargets
        hasLeft = true
        probe = nil
        relays = []
        queue = [:]
        spread(
            Rumor(state: .left, subject: local, incarnation: incarnation, accuser: local), at: now)
        for target in targets { send(.gossip, to: target, at: now, into: &actions) }
    }
}

// MARK: - Rumors

extension SwimInstance {
    /// Believes a rumor when it outranks what is known: first by incarnation, then alive <
    /// suspect < dead < left. The order is total, so all members end with the same belief.
    mutating func merge(
        _ rumor: Rumor, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        guard rumor.subject != local else { return answer(rumor, at: now) }
        guard let member = members[rumor.subject] else { return }
        if member.state == .suspect, rumor.state == .suspect,
            rumor.incarnation == member.incarnation
        {
            if members[rumor.subject]?.suspicion?.confirm(by: rumor.accuser) == true {
                spread(rumor, at: now)
            }
            return
        }
        guard member.isOutranked(by: rumor) else { return }
        switch rumor.state {
        case .unknown: return
        case .alive, .left:
            change(
                rumor.subject, to: rumor.state, incarnation: rumor.incarnation, at: now,
                into: &actions)
            spread(rumor, at: now)
        case .suspect, .dead:
            // Own ears beat hearsay, but the subject must get the chance to refute.
            if let heard = member.lastHeard, now - heard <= timing.probeInterval {
                return tell(rumor, at: now, into: &actions)
            }
            if rumor.state == .suspect {
                accuse(rumor, at: now, into: &actions)
            } else {
                change(
                    rumor.subject, to: .dead, incarnation: rumor.incarnation, at: now,
                    into: &actions)
                spread(rumor, at: now)
            }
        }
    }

    /// What is said about this node: anything but "alive" is refuted by a higher incarnation.
    private mutating func answer(_ rumor: Rumor, at now: BootInstant) {
        if rumor.state == .alive {
            incarnation = max(incarnation, rumor.incarnation)
            return
        }
        guard rumor.incarnation >= incarnation else { return }
        incarnation = rumor.incarnation == .max ? .max : rumor.incarnation + 1
        if rumor.state == .suspect { localHealth = min(SwimLimits.localHealth, localHealth + 1) }
        spread(
            Rumor(state: .alive, subject: local, incarnation: incarnation, accuser: local),
            at: now)
    }

    /// Begins a suspicion, or adds an accuser to the one that runs.
    mutating func accuse(
        _ rumor: Rumor, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        if members[rumor.subject]?.state == .suspect,
            members[rumor.subject]?.incarnation == rumor.incarnation
        {
            return merge(rumor, at: now, into: &actions)
        }
        let present = present.count
        let wanted = timing.suspicionFactor - 2
        let thousandths = timing.suspicionFactor * meshScale(members: present + 1)
        let minimum = timing.probeInterval * thousandths / 1_000
        change(
            rumor.subject, to: .suspect, incarnation: rumor.incarnation, at: now, into: &actions)
        members[rumor.subject]?.suspicion = Suspicion(
            start: now, minimum: minimum, maximum: minimum * timing.suspicionCeiling,
            // Too small a mesh for so many second opinions must not wait for them.
            confirmationsWanted: present - 1 < wanted ? 0 : wanted, accuser: rumor.accuser)
        spread(rumor, at: now)
        if rumor.accuser != local { hurryProbe(of: rumor.subject) }
    }

    /// Queues a rumor for every message that leaves; a newer one about the same node replaces it.
    mutating func spread(_ rumor: Rumor, at now: BootInstant) {
        queue[rumor.subject] = QueuedRumor(rumor: rumor)
        nextGossip = nextGossip ?? now
    }

    mutating func gossipIfDue(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [SwimAction]
    ) {
        guard let due = nextGossip, due <= now else { return }
        guard !queue.isEmpty else {
            nextGossip = nil
            return
        }
        nextGossip = now + timing.gossipInterval
        var targets = probeTargets
        targets.shuffle(using: &random)
        for target in targets.prefix(timing.gossipFanout) where !queue.isEmpty {
            send(.gossip, to: target, at: now, into: &actions)
        }
        // Without anybody to tell, news would keep the timer running for ever.
        if targets.isEmpty { queue = [:] }
    }

    /// Tells a member what this node holds against it, if anything.
    private mutating func tellSubject(
        _ node: NodeID, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        guard let rumor = row(of: node), rumor.state != .alive else { return }
        tell(rumor, at: now, into: &actions)
    }

    private mutating func tell(
        _ rumor: Rumor, at now: BootInstant, into actions: inout [SwimAction]
    ) {
        var message = SwimMessage(kind: .gossip, incarnation: incarnation)
        message.rumors = [rumor]
        actions.append(.send(to: rumor.subject, message.encode()))
    }

    /// The table's row of `node` as a rumor.
    private func row(of node: NodeID) -> Rumor? {
        guard let member = members[node], let incarnation = member.incarnation else { return nil }
        return Rumor(
            state: member.state, subject: node, incarnation: incarnation,
            accuser: member.suspicion?.accusers.first ?? local)
    }
}

// MARK: - Output

extension SwimInstance {
    /// Sends a message with as many rumors as fit: first what the receiver must refute, then
    /// news, least told first, then a few rows of the table.
    mutating func send(
        _ kind: SwimMessage.Kind, to target: NodeID, at now: BootInstant,
        into actions: inout [SwimAction]
    ) {
        var message = SwimMessage(kind: kind, incarnation: incarnation)
        var room = SwimLimits.messageBytes - message.headerCount
        func add(_ rumor: Rumor) -> Bool {
            guard rumor.encodedCount <= room,
                !message.rumors.contains(where: { $0.subject == rumor.subject })
            else { return false }
            message.rumors.append(rumor)
            room -= rumor.encodedCount
            return true
        }
        if let held = row(of: target), held.state != .alive { _ = add(held) }

        let limit = timing.retransmitFactor * ((meshScale(members: members.count) + 999) / 1_000)
        let news = queue.values.sorted {
            ($0.sent, $0.rumor.subject) < ($1.sent, $1.rumor.subject)
        }
        for queued in news {
            let subject = queued.rumor.subject
            guard add(queued.rumor) else { continue }
            queue[subject] =
                queued.sent + 1 < limit
                ? QueuedRumor(rumor: queued.rumor, sent: queued.sent + 1) : nil
        }
        if kind != .gossip {
            for rumor in nextFillers(at: now) { _ = add(rumor) }
        }
        actions.append(.send(to: target, message.encode()))
    }

    private mutating func nextFillers(at now: BootInstant) -> [Rumor] {
        guard !ring.isEmpty else { return [] }
        var rumors: [Rumor] = []
        let isCalm = now - lastChange >= SwimLimits.calm
        let count = isCalm ? SwimLimits.calmFillerRumors : SwimLimits.fillerRumors
        for _ in 0..<min(count, ring.count) {
            fillerCursor = (fillerCursor + 1) % ring.count
            if let rumor = row(of: ring[fillerCursor].node) { rumors.append(rumor) }
        }
        return rumors
    }
}

extension SwimMember {
    func isOutranked(by rumor: Rumor) -> Bool {
        guard let incarnation else { return true }
        if rumor.incarnation != incarnation { return rumor.incarnation > incarnation }
        return rumor.state.rawValue > state.rawValue
    }
}
