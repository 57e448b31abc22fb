import MeshBase

/// One piece of work on this node that wants a name. Its number is its own for ever; when it has
/// lost the lease, it is over.
struct Session: Hashable, Sendable {
    enum Phase: UInt64, Hashable, Sendable {
        /// Looks whether the name is free.
        case waiting
        /// A round writes it as the holder.
        case acquiring
        /// It is the holder; a first majority of grants is being gathered.
        case gathering
        case held
        case releasing
        case lost
    }

    let id: UInt64
    var phase = Phase.waiting
    var number: UInt64 = 0
    /// Whoever asked for it must ask again before; else it is given up.
    var wantedUntil: BootInstant
    /// The work ends by then.
    var deadline: BootInstant?
    /// The latest deadline that the work was told.
    var toldDeadline: BootInstant?
    var nonce: UInt64 = 0
    var askedAt = BootInstant.zero
    var grants: Set<NodeID> = []
    var free: Set<NodeID> = []
    var holder: NodeID?
    var nextStep: BootInstant

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(id)
        fingerprint.mix(phase.rawValue)
        fingerprint.mix(number)
        fingerprint.mix(wantedUntil)
        fingerprint.mix(deadline)
        fingerprint.mix(nonce)
        fingerprint.mix(nextStep)
        for node in grants.sorted() { fingerprint.mix(node) }
        for node in free.sorted() { fingerprint.mix(node) }
    }
}

extension LeaseBoard {
    /// A piece of work wants `name` and asks how it stands. Whoever asks must ask again within L,
    /// or the name is given up.
    ///
    /// - Parameters:
    ///   - session: a random number that no other piece of work uses.
    package mutating func campaign(
        _ name: String, session: UInt64, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LeaseAction]
    ) -> LeaseStatus {
        let timing = self.timing
        precondition(LeaseRecord.isName(name), "the caller has checked the name")
        guard chain != nil else {
            return LeaseStatus(
                phase: .unavailable, number: 0,
                reason: "leases need a cluster that is ready: its founder is their first voter")
        }
        var list = sessions[name] ?? []
        if let index = list.firstIndex(where: { $0.id == session }) {
            list[index].wantedUntil = now + timing.hold
        } else {
            guard sessions.values.reduce(0, { $0 + $1.count }) < Self.sessionLimit else {
                return LeaseStatus(
                    phase: .unavailable, number: 0,
                    reason: "this node has \(Self.sessionLimit) pieces of work that want leases")
            }
            list.append(Session(id: session, wantedUntil: now + timing.hold, nextStep: now))
        }
        sessions[name] = list
        advance(at: now, random: &random, into: &actions)
        return status(of: name, session: session, at: now)
    }

    /// The work has ended, or nobody wants the name any more.
    package mutating func release(
        _ name: String, session: UInt64, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LeaseAction]
    ) {
        guard let index = sessions[name]?.firstIndex(where: { $0.id == session }) else { return }
        giveUp(name, index, at: now)
        advance(at: now, random: &random, into: &actions)
    }

    private mutating func giveUp(_ name: String, _ index: Int, at now: BootInstant) {
        let timing = self.timing
        switch sessions[name]?[index].phase {
        case .waiting, .lost: remove(name, index)
        case .acquiring, .gathering, .held:
            sessions[name]?[index].phase = .releasing
            sessions[name]?[index].deadline = nil
            // The holds end by themselves when the voters cannot be told.
            sessions[name]?[index].wantedUntil = now + timing.hold * 2
            sessions[name]?[index].nextStep = now
        case .releasing, nil: break
        }
    }

    private mutating func remove(_ name: String, _ index: Int) {
        sessions[name]?.remove(at: index)
        if sessions[name]?.isEmpty ?? false { sessions[name] = nil }
    }

    private mutating func status(
        of name: String, session: UInt64, at now: BootInstant
    ) -> LeaseStatus {
        guard let index = sessions[name]?.firstIndex(where: { $0.id == session }),
            let own = sessions[name]?[index]
        else { return LeaseStatus(phase: .unavailable, number: 0, reason: "the lease is lost") }
        switch own.phase {
        case .held:
            sessions[name]?[index].toldDeadline = own.deadline
            return LeaseStatus(
                phase: .held, number: own.number, holder: node, deadline: own.deadline,
                reason: "held under the fencing number \(own.number)")
        case .lost:
            remove(name, index)
            return LeaseStatus(
                phase: .unavailable, number: own.number, reason: "the lease is lost")
        case .waiting, .acquiring, .gathering, .releasing:
            let words = own.holder.map { "node \($0.short) holds it" } ?? "being decided"
            return LeaseStatus(phase: .waiting, number: 0, holder: own.holder, reason: words)
        }
    }

    mutating func stepSessions(
        _ name: String, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LeaseAction]
    ) {
        for index in (sessions[name] ?? []).indices.reversed() {
            guard let session = sessions[name]?[index] else { continue }
            if let deadline = session.deadline, now >= deadline {
                sessions[name]?[index].phase = .lost
                sessions[name]?[index].deadline = nil
                sessions[name]?[index].nextStep = session.wantedUntil
            }
            let end = max(session.wantedUntil, session.toldDeadline ?? .zero)
            if now >= end {
                if session.phase == .releasing {
                    remove(name, index)
                } else {
                    giveUp(name, index, at: now)
                }
            }
        }
        // One at a time: the first that is not over.
        guard let index = sessions[name]?.firstIndex(where: { $0.phase != .lost }) else { return }
        let count = sessions[name]?.count ?? 0
        for later in (index + 1)..<max(count, index + 1) {
            guard let session = sessions[name]?[later] else { continue }
            let end = max(session.wantedUntil, session.toldDeadline ?? .zero)
            sessions[name]?[later].nextStep = max(end, now + .milliseconds(1))
        }
        guard let session = sessions[name]?[index], now >= session.nextStep else { return }
        step(name, index, session, at: now, random: &random, into: &actions)
    }

    private mutating func step(
        _ name: String, _ index: Int, _ session: Session, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        let timing = self.timing
        let key = LeaseMessage.Key.lease(name)
        switch session.phase {
        case .waiting:
            sessions[name]?[index].free = []
            sessions[name]?[index].nextStep =
                now + timing.look * Double.random(in: 0.5...1.5, using: &random)
            sendVoters(.look(name), into: &actions)
            if isVoter, let state = record?.slots[name]?.accepted?.state ?? Optional(firstState) {
                seen(
                    name, state, isFree: ownIsFree(name, at: now), by: node, at: now, into: &actions
                )
            }
        case .acquiring:
            sessions[name]?[index].nextStep = now + timing.resend
            if rounds[key] == nil { sessions[name]?[index].phase = .waiting }
        case .gathering, .held:
            askForHolds(name, index, at: now, random: &random, into: &actions)
        case .releasing:
            sessions[name]?[index].nextStep = now + timing.resend
            if session.number == 0 {
                // The round under way may make this session the holder; it decides first.
                if rounds[key] == nil {
                    begin(.release(session: session.id), on: key, at: now, into: &actions)
                }
            } else {
                begin(.release(session: session.id), on: key, at: now, into: &actions)
            }
        case .lost: break
        }
    }

    private func ownIsFree(_ name: String, at now: BootInstant) -> Bool {
        guard let state = record?.slots[name]?.accepted?.state, state.holder != nil else {
            return true
        }
        guard let hold = holds[name], hold.number >= state.number else { return true }
        return hold.until <= now
    }

    /// A voter told how the name stands.
    mutating func seen(
        _ name: String, _ state: LeaseState, isFree: Bool, by voter: NodeID, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        let timing = self.timing
        guard let index = sessions[name]?.firstIndex(where: { $0.phase != .lost }),
            let session = sessions[name]?[index], session.phase == .waiting
        else { return }
        sessions[name]?[index].holder = isFree ? nil : state.holder?.node
        guard isFree else { return }
        sessions[name]?[index].free.insert(voter)
        guard let free = sessions[name]?[index].free.count, free >= chain?.quorum ?? .max,
            rounds[.lease(name)] == nil
        else { return }
        sessions[name]?[index].phase = .acquiring
        sessions[name]?[index].nextStep = now + timing.resend
        begin(.acquire(session: session.id), on: .lease(name), at: now, into: &actions)
    }

    /// A round came to its end.
    mutating func chosen(
        _ name: String, _ state: LeaseState, by intent: Round.Intent, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        switch intent {
        case .acquire(let id):
            guard let index = sessions[name]?.firstIndex(where: { $0.id == id }),
                state.holder == LeaseHolder(node: node, session: id)
            else { return }
            sessions[name]?[index].number = state.number
            sessions[name]?[index].nextStep = now
            if sessions[name]?[index].phase == .acquiring {
                sessions[name]?[index].phase = .gathering
            }
        case .release(let id):
            guard let index = sessions[name]?.firstIndex(where: { $0.id == id }) else { return }
            remove(name, index)
        case .settle, .change: break
        }
    }

    /// A failed round is tried again after a while, at another moment than the rival's.
    mutating func pause(
        _ key: LeaseMessage.Key, at now: BootInstant, random: inout SeededGenerator
    ) {
        let timing = self.timing
        guard case .lease(let name) = key else { return }
        let pause = timing.resend * Double.random(in: 0.2...2, using: &random)
        for index in (sessions[name] ?? []).indices {
            if sessions[name]?[index].phase == .acquiring {
                sessions[name]?[index].phase = .waiting
                sessions[name]?[index].nextStep = now + pause
            }
        }
    }

    private mutating func askForHolds(
        _ name: String, _ index: Int, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LeaseAction]
    ) {
        let timing = self.timing
        guard let session = sessions[name]?[index] else { return }
        let nonce = random.next()
        sessions[name]?[index].nonce = nonce
        sessions[name]?[index].askedAt = now
        sessions[name]?[index].grants = []
        let interval = session.phase == .held ? timing.renewal : timing.resend
        sessions[name]?[index].nextStep = min(now + interval, session.deadline ?? .distantFuture)
        let milliseconds = UInt32(clamping: timing.hold.clampedNanoseconds / 1_000_000)
        sendVoters(
            .hold(name, number: session.number, nonce: nonce, milliseconds: milliseconds),
            into: &actions)
        if grantOwn(name, number: session.number, at: now) {
            granted(name, nonce: nonce, by: node, at: now)
        }
    }

    mutating func granted(_ name: String, nonce: UInt64, by voter: NodeID, at now: BootInstant) {
        let timing = self.timing
        guard let index = sessions[name]?.firstIndex(where: { $0.nonce == nonce }),
            let session = sessions[name]?[index],
            session.phase == .gathering || session.phase == .held
        else { return }
        sessions[name]?[index].grants.insert(voter)
        guard let grants = sessions[name]?[index].grants.count, grants >= chain?.quorum ?? .max
        else { return }
        let deadline = session.askedAt + timing.hold
        guard now < deadline else { return }
        sessions[name]?[index].deadline = max(deadline, session.deadline ?? .zero)
        if session.phase == .gathering {
            sessions[name]?[index].phase = .held
            sessions[name]?[index].nextStep = session.askedAt + timing.renewal
        }
    }

    /// A voter knows a later number.
    mutating func holdRefused(_ name: String, nonce: UInt64, at now: BootInstant) {
        let timing = self.timing
        guard let index = sessions[name]?.firstIndex(where: { $0.nonce == nonce }),
            sessions[name]?[index].phase == .gathering
        else { return }
        // No work has begun under this number, so the session may get another one.
        sessions[name]?[index].phase = .waiting
        sessions[name]?[index].number = 0
        sessions[name]?[index].nextStep = now + timing.resend
    }
}
