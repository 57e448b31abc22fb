import MeshBase
import NetAddress

/// Knocking at all addresses of a member while it does the same.
///
/// A NAT lets in what looks like an answer. So both ends send, each opening its own NAT for the
/// other:
/// 1. Opening: who begins calls over whatever way there is; who is called calls back. Each sends
///    datagrams that die on the way (``openerHops``) to the addresses that it was told.
/// 2. Knocking: who knows that the other has its addresses, and so has opened, sends for real.
///
/// Why not at once: a datagram that reached the far NAT before its own end had sent would leave an
/// entry there, with which the far end's flow then collides and gets another port (Linux conntrack,
/// where the router accepts input). Every further knock keeps that entry alive.
struct Punch {
    let startedAt: BootInstant
    var step = 0
    var nextSend: BootInstant
    /// The other end has called: it opens for this one.
    var hasCalled = false
    /// The other end has our addresses, and its NAT is open for them.
    var isHeard = false

    /// Enough to leave a home and its provider, too few to arrive.
    static let openerHops: UInt8 = 4

    /// From call to call: a round trip through a relay of another continent.
    static let callPause = Duration.milliseconds(250)
    /// Whoever has not heard after a dozen calls is no member who calls back, or the only way to it
    /// is gone: knocking may still help.
    static let openingTime = Duration.seconds(3)
    /// For the opener to be out before what is sent next.
    static let openerTime = Duration.milliseconds(60)

    /// From each knock to the next; the last one ends the attempt. About eight seconds in all.
    static let pauses: [Duration] =
        Array(repeating: .milliseconds(100), count: 10)
        + Array(repeating: .milliseconds(250), count: 8)
        + Array(repeating: .seconds(1), count: 5)

    /// As openers and from here on also ports that a NAT may have given next. The opener comes
    /// before what the other end sends from there can spoil the entry.
    static let predictionStep = 4
    static let predictions = 8
    /// The NAT may also have given the port before those that others saw, or between them.
    static let neighbours = 4

    /// By how much the guessed ports differ from one that others saw.
    static func offsets(step: Int8) -> [Int] {
        let stride = step == 0 ? 1 : Int(step)
        let ahead = (1...predictions).map { $0 * stride }
        let around = (1...neighbours).flatMap { [$0, -$0] }
        return ahead + around.filter { !ahead.contains($0) }
    }

    /// At once at most so many per node: knocking fills the tables of home routers.
    static let limit = 4

    static let longest = pauses.reduce(openingTime + .seconds(1), +)

    /// At once through a door; then longer than routers keep an unanswered entry (30 s), and ever
    /// rarer.
    static let backOff: [Duration] = [
        .seconds(1), .seconds(40), .seconds(60), .seconds(300), .seconds(1_800),
    ]
}

extension PathFinder {
    /// Calls the member, if it is time.
    mutating func beginPunch(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node], !path.hasLiveDirectWay(at: now), path.punch == nil,
            path.nextPunch <= now, birthday?.peer != node,
            path.hasLiveWay(at: now) || !path.candidates.isEmpty,
            peers.values.count(where: { $0.punch != nil }) < Punch.limit
        else { return }
        guard doorIsReady(for: node, at: now, random: &random, into: &actions) else {
            peers[node]?.nextCheck = now + .milliseconds(50)
            return
        }
        peers[node]?.punch = Punch(startedAt: now, nextSend: now)
        continuePunch(node, at: now, random: &random, into: &actions)
    }

    /// Tells the member our addresses over whatever way there is.
    private mutating func call(
        _ node: NodeID, isAnswer: Bool, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node], let address = path.address, path.hasLiveWay(at: now) else {
            return
        }
        call(node, isAnswer: isAnswer, over: address, random: &random, into: &actions)
    }

    private mutating func call(
        _ node: NodeID, isAnswer: Bool, over address: SocketAddress,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard let path = peers[node] else { return }
        let call = ProbeMessage.CallMe(
            isAnswer: isAnswer, hasHeard: path.punch?.hasCalled ?? isAnswer, portStep: portStep,
            candidates: Array(
                (doorCandidates(for: node) + callCandidates).prefix(
                    ProbeMessage.CallMe.limit)))
        seal(
            ProbeMessage.callMe(call).encode(), to: node, at: address, random: &random,
            into: &actions)
    }

    mutating func called(
        _ call: ProbeMessage.CallMe, by node: NodeID, over source: SocketAddress,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard var path = peers[node] else { return }
        let isNew = path.addCandidates(call.candidates)
        path.portStep = call.portStep
        path.wantedUntil = max(path.wantedUntil, now + .seconds(60))
        if path.nextCheck == nil { path.nextCheck = now }
        peers[node] = path
        guard !path.hasLiveDirectWay(at: now) else {
            // What is live here may be broken for the other end.
            if !call.isAnswer {
                open(node, at: now, random: &random, into: &actions)
                self.call(
                    node, isAnswer: true, over: source, random: &random, into: &actions)
            }
            return
        }
        var punch = path.punch ?? Punch(startedAt: now, nextSend: now)
        // It has knocked without being called, or the other end begins anew.
        let isStale =
            !punch.hasCalled
            || !call.isAnswer && !call.hasHeard && now - punch.startedAt > Punch.openingTime
        if punch.step > 0, isStale { punch = Punch(startedAt: now, nextSend: now) }
        let wasOpen = punch.hasCalled && !isNew
        punch.hasCalled = true
        punch.isHeard = punch.isHeard || call.hasHeard
        peers[node]?.punch = punch
        if !wasOpen { open(node, at: now, random: &random, into: &actions) }
        if !call.isAnswer {
            self.call(
                node, isAnswer: punch.isHeard, over: source, random: &random, into: &actions)
        }
        guard punch.step == 0 else { return }
        peers[node]?.punch?.nextSend =
            now + (!punch.isHeard ? Punch.callPause : wasOpen ? .zero : Punch.openerTime)
    }

    mutating func continuePunch(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node], let punch = path.punch else { return }
        guard !path.hasLiveDirectWay(at: now) else {
            peers[node]?.punch = nil
            return
        }
        if !punch.isHeard {
            call(node, isAnswer: false, at: now, random: &random, into: &actions)
            // Without any way to it there is nobody to wait for.
            if path.hasLiveWay(at: now) || punch.hasCalled,
                now - punch.startedAt < Punch.openingTime
            {
                open(node, at: now, random: &random, into: &actions)
                peers[node]?.punch?.nextSend = now + Punch.callPause
                return
            }
        }
        guard punch.step < Punch.pauses.count else {
            let pause = Punch.backOff[min(path.failedPunches, Punch.backOff.count - 1)]
            peers[node]?.punch = nil
            peers[node]?.failedPunches += 1
            peers[node]?.wishesDoor = true
            closeDoor(of: node, into: &actions)
            peers[node]?.nextPunch = now + pause + random.duration(in: .zero...(pause / 8))
            return
        }
        for target in targets(of: path, guessing: punch.step >= Punch.predictionStep) {
            knock(node, at: target, hops: nil, now: now, random: &random, into: &actions)
        }
        peers[node]?.punch?.nextSend = now + Punch.pauses[punch.step]
        peers[node]?.punch?.step += 1
    }

    /// Opens the own NAT for the member.
    private mutating func open(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node] else { return }
        for target in targets(of: path, guessing: true) {
            // Nothing of a private network is behind a NAT of ours.
            let hops = target.ip.isPrivate ? nil : Punch.openerHops
            knock(node, at: target, hops: hops, now: now, random: &random, into: &actions)
        }
    }

    private mutating func knock(
        _ node: NodeID, at target: SocketAddress, hops: UInt8?, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        probe(node, at: target, hops: hops, now: now, random: &random, into: &actions)
        guard target.ip.isIPv4, !target.ip.isPrivate, peers[node].map(knocksThroughDoor) == true
        else { return }
        probe(node, through: node, at: target, hops: hops, random: &random, into: &actions)
    }

    private func targets(of path: PeerPath, guessing: Bool) -> [SocketAddress] {
        var targets = path.candidates
        for address in path.knownAddresses where !targets.contains(address) {
            targets.append(address)
        }
        guard guessing else { return targets }
        let offsets = Punch.offsets(step: path.portStep)
        for base in path.candidates where base.ip.isIPv4 && !base.ip.isPrivate {
            for offset in offsets {
                let port = Int(base.port) + offset
                guard (1...65_535).contains(port) else { continue }
                let guess = SocketAddress(ip: base.ip, port: UInt16(port))
                if !targets.contains(guess) { targets.append(guess) }
            }
        }
        return Array(targets.prefix(PeerPath.wayLimit - 8))
    }
}
