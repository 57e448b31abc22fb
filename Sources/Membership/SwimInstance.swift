import Cryptography
import MeshBase

/// Who is there: SWIM with Lifeguard's three refinements (arXiv 1707.00788), fed by the tunnels.
///
/// 1. `heard(from:)`: every authenticated packet proves its sender alive, so busy peers are never
///    probed.
/// 2. `timeout`: one probe per interval: ping, then three helpers, then suspicion. Rumors ride on
///    every message, and on gossip of their own while there is news.
/// 3. `receive`: answers, helps, merges rumors, and refutes what is said about this node.
/// 4. A suspicion that runs out makes a member dead; hearing from it makes it alive again.
///
/// Rumors are authenticated hop by hop only: a lying member can make others look dead until they
/// are heard. That is why nothing may derive authority from a state.
package struct SwimInstance: Sendable {
    package let local: NodeID
    package let timing: SwimTiming

    var incarnation: UInt32
    var hasLeft = false
    /// Lifeguard's local health: 0 is well, 8 is doubtful of its own timing.
    package internal(set) var localHealth = 0
    /// How long answers to probes took lately.
    var slowestAnswer = Duration.zero
    var sequence: UInt32 = 0

    var members: [NodeID: SwimMember] = [:]
    /// Admitted members by their place on the ring.
    var ring: [RingPlace] = []
    /// Of these, who is there: alive or suspect.
    var present: [RingPlace] = []
    var suspects: Set<NodeID> = []
    /// Peers with live sessions, sorted; probed besides the ring neighbours.
    var sessions: [NodeID] = []

    var probe: Probe?
    var nextProbe: BootInstant
    var probeRound: [NodeID] = []
    var relays: [Relay] = []

    var queue: [NodeID: QueuedRumor] = [:]
    var nextGossip: BootInstant?
    var nextRevive: BootInstant
    /// Where the filling of messages with table rows goes on.
    var fillerCursor = 0
    /// When a member's state changed here.
    var lastChange: BootInstant

    /// - Parameter incarnation: any start value is right; the mesh corrects one that is too low.
    package init(
        local: NodeID, timing: SwimTiming = SwimTiming(), incarnation: UInt32 = 0,
        at now: BootInstant
    ) {
        self.local = local
        self.timing = timing
        self.incarnation = incarnation
        nextProbe = now + timing.probeInterval
        nextRevive = now + timing.reviveInterval
        lastChange = now
    }
}

extension SwimInstance {
    /// The instance of another node that knows the same members. Simulations of large meshes begin
    /// with one table.
    package init(copying other: SwimInstance, as local: NodeID, at now: BootInstant) {
        self.init(local: local, timing: other.timing, at: now)
        (members, ring) = (other.members, other.ring)
        (present, suspects) = (other.present, other.suspects)
        expel(local)
    }
}

struct SwimMember: Sendable {
    var state: MemberState
    /// `nil` until somebody names one: anything said first is news.
    var incarnation: UInt32?
    var lastHeard: BootInstant?
    var suspicion: Suspicion?
    var leftAt: BootInstant?
}

struct RingPlace: Sendable {
    let position: Bytes32
    let node: NodeID
}

/// The one probe in progress.
struct Probe: Sendable {
    let target: NodeID
    let sequence: UInt32
    let sentAt: BootInstant
    /// When helpers are asked; `nil` once they are.
    var indirectAt: BootInstant?
    let failsAt: BootInstant
    var helpers: [NodeID] = []
    var silentHelpers: [NodeID] = []
}

/// An indirect probe that this node makes for `origin`.
struct Relay: Sendable {
    let origin: NodeID
    let originSequence: UInt32
    let target: NodeID
    let sequence: UInt32
    /// When the origin is told that no answer came; `nil` once it is.
    var nackAt: BootInstant?
    let endsAt: BootInstant
}

struct QueuedRumor: Sendable {
    var rumor: Rumor
    var sent = 0
}

// MARK: - Membership of the table

extension SwimInstance {
    /// Admits a node whose certificate was verified. Rumors about others are ignored.
    ///
    /// Returns `false` when the table is full.
    @discardableResult
    package mutating func admit(_ node: NodeID) -> Bool {
        guard node != local, members[node] == nil else { return true }
        guard members.count < SwimLimits.members else { return false }
        members[node] = SwimMember(state: .unknown)
        let place = RingPlace(position: ringPosition(node), node: node)
        ring.insert(place, at: ringIndex(of: place.position, in: ring))
        return true
    }

    /// Forgets a node whose membership ended.
    package mutating func expel(_ node: NodeID) {
        members[node] = nil
        ring.removeAll { $0.node == node }
        present.removeAll { $0.node == node }
        suspects.remove(node)
        sessions.removeAll { $0 == node }
        queue[node] = nil
        probeRound.removeAll { $0 == node }
        relays.removeAll { $0.origin == node || $0.target == node }
        if probe?.target == node { probe = nil }
    }

    /// Names the peers with live sessions; they are probed besides the eight ring neighbours.
    package mutating func setProbeTargets(_ peers: [NodeID]) {
        sessions = Array(Set(peers).sorted().prefix(SwimLimits.sessionTargets))
    }

    package func state(of node: NodeID) -> MemberState? {
        node == local ? (hasLeft ? .left : .alive) : members[node]?.state
    }

    /// Every admitted member with its state, sorted by node.
    package var table: [(node: NodeID, state: MemberState)] {
        members.keys.sorted().compactMap { node in
            members[node].map { (node, $0.state) }
        }
    }

    /// The members to watch: ring neighbours and session peers that are not known to be gone.
    package var probeTargets: [NodeID] {
        var targets = Set(ringNeighbours)
        for peer in sessions where members[peer]?.isPresent == true { targets.insert(peer) }
        return targets.sorted()
    }

    /// Half of the neighbours before the own place and half behind it, among present members.
    private var ringNeighbours: [NodeID] {
        guard present.count > SwimLimits.ringNeighbours else { return present.map(\.node) }
        let start = ringIndex(of: ringPosition(local), in: present)
        let half = SwimLimits.ringNeighbours / 2
        return (-half..<half).map { present[(start + $0 + present.count) % present.count].node }
    }

    private func ringPosition(_ node: NodeID) -> Bytes32 {
        sha256(Array("edgevpn-swift ring".utf8) + node.bytes.bytes)
    }

    /// The first place behind `position`, by binary search.
    private func ringIndex(of position: Bytes32, in places: [RingPlace]) -> Int {
        var (low, high) = (0, places.count)
        while low < high {
            let middle = (low + high) / 2
            if position < places[middle].position { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Keeps the derived tables of who is there and who is suspected.
    private mutating func note(_ node: NodeID, was former: MemberState, is state: MemberState) {
        if state == .suspect { suspects.insert(node) } else { suspects.remove(node) }
        let wasPresent = former == .alive || former == .suspect
        let isPresent = state == .alive || state == .suspect
        guard wasPresent != isPresent else { return }
        if isPresent {
            let place = RingPlace(position: ringPosition(node), node: node)
            present.insert(place, at: ringIndex(of: place.position, in: present))
        } else {
            present.removeAll { $0.node == node }
        }
    }
}

extension SwimMember {
    var isPresent: Bool { state == .alive || state == .suspect }
}

// MARK: - Time

extension SwimInstance {
    /// When ``timeout(at:random:into:)`` wants to be called next.
    package var deadline: BootInstant? {
        guard !hasLeft else { return nextGossip }
        var next = earlier(nextGossip, nextProbe)
        next = earlier(next, nextRevive)
        if let probe { next = earlier(next, probe.indirectAt ?? probe.failsAt) }
        for relay in relays { next = earlier(next, relay.nackAt ?? relay.endsAt) }
        for node in suspects { next = earlier(next, members[node]?.suspicion?.deadline) }
        return next
    }

    /// Does everything that is due. Calling early or often does no harm.
    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [SwimAction]
    ) {
        if let due = deadline, now - due > SwimLimits.stall { restartTimers(at: now) }
        gossipIfDue(at: now, random: &random, into: &actions)
        guard !hasLeft else { return }
        endSuspicions(at: now, into: &actions)
        advanceRelays(at: now, into: &actions)
        advanceProbe(at: now, random: &random, into: &actions)
        reviveIfDue(at: now, random: &random, into: &actions)
    }

    /// After a stall of this node its timers say nothing about others: everybody gets a full
    /// suspicion again.
    private mutating func restartTimers(at now: BootInstant) {
        localHealth = 0
        slowestAnswer = .zero
        probe = nil
        relays = []
        nextProbe = now + timing.probeInterval
        nextRevive = now + timing.reviveInterval
        for node in members.keys { members[node]?.suspicion?.start = now }
    }

    private mutating func endSuspicions(
        at now: BootInstant, into actions: inout [SwimAction]
    ) {
        let expired = suspects.filter { node in
            members[node]?.suspicion.map { $0.deadline <= now } ?? false
        }
        for node in expired.sorted() {
            guard let incarnation = members[node]?.incarnation else { continue }
            change(node, to: .dead, incarnation: incarnation, at: now, into: &actions)
            spread(
                Rumor(state: .dead, subject: node, incarnation: incarnation, accuser: local),
                at: now)
        }
    }

    /// Sets a state; the only place that does, so that every change is announced once.
    mutating func change(
        _ node: NodeID, to state: MemberState, incarnation: UInt32?, at now: BootInstant,
        into actions: inout [SwimAction]
    ) {
        guard var member = members[node] else { return }
        let isNews = member.state != state
        note(node, was: member.state, is: state)
        member.state = state
        member.incarnation = incarnation
        if state != .suspect { member.suspicion = nil }
        member.leftAt = state == .left ? now : nil
        members[node] = member
        guard isNews else { return }
        lastChange = now
        actions.append(.memberChanged(node, state))
    }
}

extension SwimInstance {
    package func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(local)
        fingerprint.mix(UInt64(incarnation))
        fingerprint.mix(hasLeft)
        fingerprint.mix(localHealth)
        fingerprint.mix(UInt64(sequence))
        for node in members.keys.sorted() {
            guard let member = members[node] else { continue }
            fingerprint.mix(node)
            fingerprint.mix(UInt64(member.state.rawValue))
            fingerprint.mix(member.incarnation.map { UInt64($0) } ?? .max)
            fingerprint.mix(member.lastHeard)
            fingerprint.mix(member.suspicion?.deadline)
            fingerprint.mix(member.suspicion?.accusers.count ?? 0)
            fingerprint.mix(member.leftAt)
        }
        for node in sessions + probeRound { fingerprint.mix(node) }
        if let probe {
            fingerprint.mix(probe.target)
            fingerprint.mix(UInt64(probe.sequence))
            fingerprint.mix(probe.indirectAt)
            fingerprint.mix(probe.failsAt)
            for helper in probe.silentHelpers { fingerprint.mix(helper) }
        }
        for relay in relays {
            fingerprint.mix(relay.origin)
            fingerprint.mix(relay.target)
            fingerprint.mix(UInt64(relay.sequence))
            fingerprint.mix(relay.nackAt)
        }
        for node in queue.keys.sorted() {
            guard let queued = queue[node] else { continue }
            fingerprint.mix(node)
            fingerprint.mix(UInt64(queued.rumor.state.rawValue))
            fingerprint.mix(UInt64(queued.rumor.incarnation))
            fingerprint.mix(queued.sent)
        }
        fingerprint.mix(nextProbe)
        fingerprint.mix(nextGossip)
        fingerprint.mix(nextRevive)
        fingerprint.mix(fillerCursor)
        fingerprint.mix(lastChange)
    }
}
