import MeshBase
import NetAddress

/// Knocking at all addresses of a member while it does the same.
///
/// A NAT lets in what looks like an answer. So both ends send at once, each opening its own NAT for
/// the other: who is called when the call comes, who calls when the answer comes. Both know all
/// addresses by then, and neither is heard before the other has opened. The first datagrams die on the way (``openerHops``): one that reached the far NAT
/// before its own end had sent would leave an entry there, with which the far end's flow then
/// collides and gets another port (Linux conntrack, where the router accepts input).
struct Punch {
    var startedAt: BootInstant
    var step = 0
    var nextSend: BootInstant
    /// Whether the other end knocks, too: it called, or answered.
    var hasCalled = false

    /// Enough to leave a home and its provider, too few to arrive.
    static let openerHops: UInt8 = 4
    static let openers = 2

    /// From each step to the next; the last one ends the attempt. About nine seconds in all.
    static let pauses: [Duration] =
        [.milliseconds(60), .milliseconds(340)]
        + Array(repeating: .milliseconds(100), count: 10)
        + Array(repeating: .milliseconds(250), count: 8)
        + Array(repeating: .seconds(1), count: 5)

    /// As openers and from here on also ports that a NAT may have given next. The opener comes
    /// before what the other end sends from there can spoil the entry.
    static let predictionStep = 6
    static let predictions = 10

    /// At once at most so many per node: knocking fills the tables of home routers.
    static let limit = 4

    /// Until then an answer has come, or neither call nor answer gets through.
    static let answerPatience = Duration.seconds(1)
    /// From call to call: a round trip through a relay of another continent.
    static let callPause = Duration.milliseconds(250)

    static let longest = pauses.reduce(.seconds(1), +)

    /// At once through a door; then longer than routers keep an unanswered entry (30 s), and ever
    /// rarer.
    static let backOff: [Duration] = [
        .seconds(1), .seconds(40), .seconds(60), .seconds(300), .seconds(1_800),
    ]
}

extension PathFinder {
    /// Calls the member and knocks, if it is time.
    mutating func beginPunch(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node], !path.hasLiveDirectWay(at: now) else { return }
        if path.awaitsAnswer != nil || path.punch?.hasCalled == false {
            // It began alone, its call or the answer was lost, or the addresses of this end changed.
            if now - (path.lastCall ?? .zero) >= Punch.callPause {
                _ = call(node, isAnswer: false, at: now, random: &random, into: &actions)
            }
            if path.punch == nil, let called = path.awaitsAnswer,
                now - called >= Punch.answerPatience
            {
                peers[node]?.awaitsAnswer = nil
                startPunch(node, hasCalled: false, at: now)
            }
            return
        }
        guard path.punch == nil else { return }
        guard path.nextPunch <= now,
            peers.values.count(where: { $0.punch != nil || $0.awaitsAnswer != nil }) < Punch.limit
        else { return }
        guard doorIsReady(for: node, at: now, random: &random, into: &actions) else {
            peers[node]?.nextCheck = now + .milliseconds(50)
            return
        }
        let hasCalled = call(node, isAnswer: false, at: now, random: &random, into: &actions)
        // The answer starts it.
        guard !hasCalled, !path.candidates.isEmpty else { return }
        startPunch(node, hasCalled: false, at: now)
    }

    private mutating func startPunch(_ node: NodeID, hasCalled: Bool, at now: BootInstant) {
        peers[node]?.punch = Punch(startedAt: now, nextSend: now, hasCalled: hasCalled)
    }

    /// Tells the member our addresses over whatever way there is.
    private mutating func call(
        _ node: NodeID, isAnswer: Bool, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) -> Bool {
        guard let path = peers[node], let address = path.address, path.hasLiveWay(at: now) else {
            return false
        }
        let call = ProbeMessage.CallMe(
            isAnswer: isAnswer, portStep: portStep,
            candidates: Array(
                (doorCandidates(for: node) + callCandidates).prefix(
                    ProbeMessage.CallMe.limit)))
        if !isAnswer {
            if path.awaitsAnswer == nil { peers[node]?.awaitsAnswer = now }
            peers[node]?.lastCall = now
            peers[node]?.nextCheck = earlier(path.nextCheck, now + Punch.callPause)
        }
        seal(
            ProbeMessage.callMe(call).encode(), to: node, at: address, random: &random,
            into: &actions)
        return true
    }

    mutating func called(
        _ call: ProbeMessage.CallMe, by node: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard var path = peers[node] else { return }
        _ = path.addCandidates(call.candidates)
        path.portStep = call.portStep
        path.wantedUntil = max(path.wantedUntil, now + .seconds(60))
        if path.nextCheck == nil { path.nextCheck = now }
        peers[node] = path
        if !call.isAnswer {
            // When both called, the call of the smaller id counts, and is answered.
            if let called = path.awaitsAnswer, now - called < Punch.answerPatience,
                configuration.node < node
            {
                return
            }
            _ = self.call(node, isAnswer: true, at: now, random: &random, into: &actions)
        }
        peers[node]?.awaitsAnswer = nil
        guard !path.hasLiveDirectWay(at: now) else { return }
        // A repeated call, or the answer to one: this end knocks already.
        if let punch = path.punch, punch.hasCalled, now - punch.startedAt < Punch.answerPatience {
            return
        }
        startPunch(node, hasCalled: true, at: now)
        continuePunch(node, at: now, random: &random, into: &actions)
    }

    mutating func continuePunch(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node], var punch = path.punch else { return }
        guard !path.hasLiveDirectWay(at: now) else {
            peers[node]?.punch = nil
            return
        }
        guard punch.step < Punch.pauses.count else {
            let pause = Punch.backOff[min(path.failedPunches, Punch.backOff.count - 1)]
            peers[node]?.punch = nil
            peers[node]?.awaitsAnswer = nil
            peers[node]?.failedPunches += 1
            peers[node]?.wishesDoor = true
            closeDoor(of: node, into: &actions)
            peers[node]?.nextPunch = now + pause + random.duration(in: .zero...(pause / 8))
            return
        }
        let isOpener = punch.step < Punch.openers
        for target in targets(of: path, step: punch.step) {
            // Nothing of a private network is behind a NAT of ours.
            let hops = isOpener && !target.ip.isPrivate ? Punch.openerHops : nil
            probe(node, at: target, hops: hops, now: now, random: &random, into: &actions)
            guard target.ip.isIPv4, !target.ip.isPrivate else { continue }
            probe(
                node, through: node, at: target, hops: hops, random: &random, into: &actions)
        }
        punch.nextSend = now + Punch.pauses[punch.step]
        punch.step += 1
        peers[node]?.punch = punch
    }

    private func targets(of path: PeerPath, step: Int) -> [SocketAddress] {
        var targets = path.candidates
        for address in path.knownAddresses where !targets.contains(address) {
            targets.append(address)
        }
        guard step < Punch.openers || step >= Punch.predictionStep else { return targets }
        let stride = path.portStep == 0 ? 1 : Int(path.portStep)
        for base in path.candidates where base.ip.isIPv4 && !base.ip.isPrivate {
            for offset in 1...Punch.predictions {
                let port = Int(base.port) + offset * stride
                guard (1...65_535).contains(port) else { continue }
                let guess = SocketAddress(ip: base.ip, port: UInt16(port))
                if !targets.contains(guess) { targets.append(guess) }
            }
        }
        return Array(targets.prefix(PeerPath.wayLimit - 8))
    }
}
