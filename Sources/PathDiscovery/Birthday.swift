import MeshBase
import NetAddress

/// Finding a port of a NAT that gives every flow another one, by the birthday paradox.
///
/// The end behind such a NAT (many) opens 256 ports, each with an entry in its NAT for the other
/// end's address. The other end (guesser), whose NAT shows it at one address, asks 512 ports at
/// random. Of 64,512 ports one is hit in 87 of 100 attempts, of two attempts in 98. In order:
/// 1. many -> guesser: an offer, over the relay that carries for them
/// 2. guesser -> many: its address; many opens its ports, and sends a datagram from each that dies
///    on the way
/// 3. many -> guesser: ready; the guesser asks port after port
/// 4. what is answered is a way; all other ports are closed
///
/// That is much for the tables of two home routers. So both ends must have been told to, a node
/// does it for one member at a time, once a minute at most, and after two attempts with one member not
/// for half an hour, unless its network changes.
struct Birthday {
    enum Step: Hashable {
        case offering(count: Int)
        case opening
        case waitingForAnswers(told: Int)
        case waitingForReady
        case guessing(IPAddress)
        case listening
    }

    let peer: NodeID
    var step: Step
    var nextStep: BootInstant
    /// Where the guesser is.
    var target: SocketAddress?
    var doors: Set<UInt32> = []
    var openedCount = 0
    /// The guesser's questions that are not answered; at most ``guesses``.
    var questions: Set<UInt64> = []
    var asked: Set<UInt16> = []

    /// As many as the 87 % need. A router holds some thousand flows.
    static let doorCount = 256
    static let guesses = 512
    /// 300 a second.
    static let guessesPerRound = 6
    static let round = Duration.milliseconds(20)
    static let ports: ClosedRange<UInt64> = 1_024...65_535

    static let offers = 4
    static let offerPause = Duration.milliseconds(500)
    /// For the ports to be open.
    static let openingTime = Duration.seconds(2)
    /// For the guesses and the answer to the last one.
    static let answerTime = Duration.seconds(3)
    static let pause = Duration.seconds(60)
    /// After the first attempt with a member and later ones.
    static let backOff: [Duration] = [.seconds(60), .seconds(1_800)]

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(peer)
        hash.mix(nextStep)
        hash.mix("\(step)")
        hash.mix(target?.description ?? "-")
        hash.mix(doors.count)
        hash.mix(openedCount)
        hash.mix(asked.count)
        hash.mix(questions.count)
    }
}

extension PathFinder {
    /// Whether this node and the member may try, as far as this node knows.
    private func mayGuess(with node: NodeID, at now: BootInstant) -> Bool {
        guard let path = peers[node] else { return false }
        return configuration.capabilities & PathCapability.guessesPorts != 0
            && path.capabilities & PathCapability.guessesPorts != 0
            && birthday == nil && nextBirthday <= now && path.nextBirthday <= now
            && !path.hasLiveDirectWay(at: now) && path.hasLiveWay(at: now)
    }

    /// Offers to open many ports, when knocking failed and a relay carries.
    mutating func beginBirthday(_ node: NodeID, at now: BootInstant) {
        guard mayGuess(with: node, at: now), configuration.hasCarrier, natBehaviour == .symmetric,
            let path = peers[node], path.punch == nil, path.failedPunches > 0,
            publicAddress != nil
        else { return }
        birthday = Birthday(peer: node, step: .offering(count: 0), nextStep: now)
    }

    /// Where others see this node by IPv4.
    private var publicAddress: SocketAddress? {
        observations.last { $0.address.ip.isIPv4 && !$0.address.ip.isPrivate }?.address
    }

    mutating func runBirthday(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard let present = birthday, present.nextStep <= now else { return }
        guard peers[present.peer]?.hasLiveDirectWay(at: now) == false else {
            endBirthday(at: now, into: &actions)
            return
        }
        switch present.step {
        case .offering(let count):
            guard count < Birthday.offers, let own = publicAddress else { break }
            birthday?.step = .offering(count: count + 1)
            birthday?.nextStep = now + Birthday.offerPause
            tell(present.peer, .offer, own, random: &random, into: &actions)
            return
        case .opening:
            birthday?.step = .waitingForAnswers(told: 0)
            birthday?.nextStep = now
            runBirthday(at: now, random: &random, into: &actions)
            return
        case .waitingForAnswers(let told):
            guard told < 3, let own = publicAddress else { break }
            birthday?.step = .waitingForAnswers(told: told + 1)
            birthday?.nextStep =
                now + (told < 2 ? Birthday.offerPause : Birthday.answerTime)
            tell(present.peer, .ready, own, random: &random, into: &actions)
            return
        case .guessing(let ip):
            guess(at: ip, now: now, random: &random, into: &actions)
            return
        case .waitingForReady, .listening:
            break
        }
        endBirthday(at: now, into: &actions)
    }

    private mutating func tell(
        _ node: NodeID, _ step: ProbeMessage.BirthdayStep, _ address: SocketAddress,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        send(
            ProbeMessage.birthday(step, address).encode(), to: node, random: &random,
            into: &actions)
    }

    /// Takes what the other end says about an attempt.
    mutating func receiveBirthday(
        _ step: ProbeMessage.BirthdayStep, _ address: SocketAddress, from node: NodeID,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard address.ip.isIPv4, address.isUsableCandidate, !address.ip.isPrivate else { return }
        let present = birthday?.peer == node ? birthday?.step : nil
        switch (step, present) {
        case (.offer, nil), (.offer, .waitingForReady):
            // Ports that count up are found by prediction, and two that move never meet.
            guard let own = publicAddress, natBehaviour != .symmetric,
                present != nil || mayGuess(with: node, at: now)
            else { return }
            birthday = Birthday(
                peer: node, step: .waitingForReady,
                nextStep: now + Birthday.openingTime + Birthday.answerTime)
            tell(node, .accept, own, random: &random, into: &actions)
        case (.accept, .offering):
            birthday?.target = address
            birthday?.step = .opening
            birthday?.nextStep = now + Birthday.openingTime
            for _ in 0..<Birthday.doorCount {
                let id = UInt32(truncatingIfNeeded: random.next())
                guard doors[id] == nil else { continue }
                doors[id] = node
                birthday?.doors.insert(id)
                actions.append(.carrier(.openDoor(id)))
            }
        case (.ready, .waitingForReady):
            birthday?.step = .guessing(address.ip)
            birthday?.nextStep = now
        default:
            break
        }
    }

    /// Makes an entry in the own NAT for one of many ports; whether the door is one of them.
    mutating func birthdayDoorOpened(
        _ id: UInt32, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) -> Bool {
        guard let present = birthday, present.doors.contains(id), let target = present.target else {
            return false
        }
        birthday?.openedCount += 1
        if present.openedCount + 1 == present.doors.count {
            birthday?.nextStep = now + Punch.openerTime
        }
        let ping = ProbeMessage.ping(id: random.next()).encode()
        if let datagram = sealed(ping, for: present.peer, random: &random) {
            actions.append(
                .carrier(.send(datagram, door: id, to: target, hops: Punch.openerHops)))
        }
        return true
    }

    private mutating func guess(
        at ip: IPAddress, now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard var present = birthday else { return }
        for _ in 0..<Birthday.guessesPerRound where present.asked.count < Birthday.guesses {
            var port: UInt16
            repeat {
                port = UInt16(UInt64.random(in: Birthday.ports, using: &random))
            } while !present.asked.insert(port).inserted
            let id = random.next()
            present.questions.insert(id)
            seal(
                ProbeMessage.ping(id: id).encode(), to: present.peer,
                at: SocketAddress(ip: ip, port: port), random: &random, into: &actions)
        }
        if present.asked.count == Birthday.guesses {
            present.step = .listening
            present.nextStep = now + Birthday.answerTime
        } else {
            present.nextStep = now + Birthday.round
        }
        birthday = present
    }

    /// Takes the answer to a guess; whether it was one.
    mutating func birthdayAnswered(
        _ id: UInt64, by node: NodeID, at source: SocketAddress, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) -> Bool {
        guard birthday?.peer == node, birthday?.questions.remove(id) != nil else { return false }
        proved(node, at: source, roundTrip: nil, now: now, into: &actions)
        probe(node, at: source, now: now, random: &random, into: &actions)
        return true
    }

    /// A direct way to the member answered: the port behind which it is stays, all others go.
    mutating func birthdaySucceeded(
        with node: NodeID, through address: SocketAddress, at now: BootInstant,
        into actions: inout [PathAction]
    ) {
        guard birthday?.peer == node else { return }
        if case .door(let id)? = sideWays[address]?.kind, birthday?.doors.remove(id) != nil {
            closeDoor(of: node, into: &actions)
            peers[node]?.door = Door(id: id, openedAt: now)
        }
        endBirthday(at: now, into: &actions)
    }

    mutating func endBirthday(at now: BootInstant, into actions: inout [PathAction]) {
        guard let present = birthday else { return }
        for id in present.doors.sorted() {
            doors[id] = nil
            actions.append(.carrier(.closeDoor(id)))
        }
        nextBirthday = now + Birthday.pause
        let count = peers[present.peer]?.birthdays ?? 0
        peers[present.peer]?.birthdays = count + 1
        peers[present.peer]?.nextBirthday =
            now + Birthday.backOff[min(count, Birthday.backOff.count - 1)]
        birthday = nil
    }
}
