import MeshBase

/// One thing that happens in a world of foundings. All chance is in the event, so the events of a
/// run can be written down, changed by hand and played again.
enum FoundingEvent: Hashable, Sendable {
    case start(machine: Int, reboots: Bool, clock: ClockDraw)
    /// Machines are found by index, their identities by number.
    case deliver(machine: Int, number: Int, from: Int, FoundingWire, [UInt8])
    case wake(machine: Int, life: Int)
    case hostDone(machine: Int, life: Int, ticket: Int, fails: Bool)
    case hostReport(machine: Int, life: Int, number: Int)
    case crash(machine: Int, FoundingCrash)
    /// Bit b of number a: a can send to b.
    case links([UInt64])
    case wallJump(machine: Int, seconds: Int64)
    case sleep(machine: Int)
    case awake(machine: Int)
    case clone(machine: Int)
    case introduce(machine: Int, voter: Int)
    case gossip(machine: Int, partner: Int)
    case say(machine: Int, OperatorWord)
    case heal
    /// An operator looks at the site and does what its messages advise.
    case assist
}

enum FoundingWire: String, Hashable, Sendable { case founding, cluster }

enum OperatorWord: String, Hashable, Sendable { case takeover, initialise = "init", reset }

/// The boot clock of a machine's next life, and the error of its wall clock.
struct ClockDraw: Hashable, Sendable {
    /// What the boot clock says at the start, in milliseconds.
    var origin: Int
    /// Machine seconds per million true seconds.
    var rate: Int
    var wallError: Int64
}

/// How a machine goes down, and what its disk holds afterwards.
enum FoundingCrash: Hashable, Sendable {
    /// The daemon alone dies; the boot clock goes on.
    case daemon
    case power
    /// The disk is lost: the machine comes back as somebody else.
    case wiped
    /// The record cannot be read any more.
    case torn
    /// The disk is as it was so many writes ago.
    case rolledBack(Int)

    var text: String {
        switch self {
        case .daemon: "daemon"
        case .power: "power"
        case .wiped: "wiped"
        case .torn: "torn"
        case .rolledBack(let count): "back:\(count)"
        }
    }

    init?(_ text: some StringProtocol) {
        switch text {
        case "daemon": self = .daemon
        case "power": self = .power
        case "wiped": self = .wiped
        case "torn": self = .torn
        default:
            guard text.hasPrefix("back:"), let count = Int(text.dropFirst(5)), count > 0 else {
                return nil
            }
            self = .rolledBack(count)
        }
    }
}

/// A machine dies while it carries out what an event made it want.
struct Mishap: Hashable, Sendable {
    /// So many actions are done.
    var actions: Int
    /// The write under way is on the disk although nobody was told.
    var keepsWrite: Bool
}

/// One line of a log.
struct LoggedEvent: Hashable, Sendable {
    var time: BootInstant
    var event: FoundingEvent
    var mishap: Mishap?
}

// MARK: - As text

extension LoggedEvent {
    /// `NANOSECONDS [!ACTIONS+|-] NAME WORDS...`
    var text: String {
        let trouble = mishap.map { "!\($0.actions)\($0.keepsWrite ? "+" : "-") " } ?? ""
        return "\(time.nanoseconds) \(trouble)\(event.text)"
    }

    init?(_ line: some StringProtocol) {
        var words = line.split(separator: " " as Character).map { String($0) }
        guard words.count >= 2, let nanoseconds = UInt64(words.removeFirst()) else { return nil }
        time = BootInstant(nanoseconds: nanoseconds)
        if words[0].hasPrefix("!") {
            let word = words.removeFirst().dropFirst()
            guard let actions = Int(word.dropLast()), actions >= 0,
                word.last == "+" || word.last == "-"
            else { return nil }
            mishap = Mishap(actions: actions, keepsWrite: word.last == "+")
        }
        guard let event = FoundingEvent(words) else { return nil }
        self.event = event
    }
}

extension FoundingEvent {
    var text: String {
        switch self {
        case .start(let machine, let reboots, let clock):
            "start \(machine) \(reboots ? 1 : 0) \(clock.origin) \(clock.rate) \(clock.wallError)"
        case .deliver(let machine, let number, let from, let wire, let bytes):
            "deliver \(machine) \(number) \(from) \(wire.rawValue) \(bytes.hex)"
        case .wake(let machine, let life): "wake \(machine) \(life)"
        case .hostDone(let machine, let life, let ticket, let fails):
            "host-done \(machine) \(life) \(ticket) \(fails ? 1 : 0)"
        case .hostReport(let machine, let life, let number):
            "host-report \(machine) \(life) \(number)"
        case .crash(let machine, let crash): "crash \(machine) \(crash.text)"
        case .links(let links):
            "links " + links.map { String($0, radix: 16) }.joined(separator: " ")
        case .wallJump(let machine, let seconds): "wall-jump \(machine) \(seconds)"
        case .sleep(let machine): "sleep \(machine)"
        case .awake(let machine): "awake \(machine)"
        case .clone(let machine): "clone \(machine)"
        case .introduce(let machine, let voter): "introduce \(machine) \(voter)"
        case .gossip(let machine, let partner): "gossip \(machine) \(partner)"
        case .say(let machine, let word): "say \(machine) \(word.rawValue)"
        case .heal: "heal"
        case .assist: "assist"
        }
    }

    init?(_ words: [String]) {
        guard let name = words.first else { return nil }
        let numbers = words.dropFirst().map { Int($0) }
        func number(_ index: Int) -> Int? { index < numbers.count ? numbers[index] : nil }
        switch (name, words.count) {
        case ("heal", 1): self = .heal
        case ("assist", 1): self = .assist
        case ("links", 2...):
            let links = words.dropFirst().compactMap { UInt64($0, radix: 16) }
            guard links.count == words.count - 1 else { return nil }
            self = .links(links)
        case ("start", 6):
            guard let machine = number(0), let reboots = number(1), let origin = number(2),
                let rate = number(3), let error = number(4), rate > 0, origin >= 0
            else { return nil }
            self = .start(
                machine: machine, reboots: reboots != 0,
                clock: ClockDraw(origin: origin, rate: rate, wallError: Int64(error)))
        case ("deliver", 6):
            guard let machine = number(0), let addressee = number(1), let from = number(2),
                let wire = FoundingWire(rawValue: words[4]), let bytes = [UInt8](hex: words[5])
            else { return nil }
            self = .deliver(machine: machine, number: addressee, from: from, wire, bytes)
        case ("host-done", 5):
            guard let machine = number(0), let life = number(1), let ticket = number(2),
                let fails = number(3)
            else { return nil }
            self = .hostDone(machine: machine, life: life, ticket: ticket, fails: fails != 0)
        case ("crash", 3):
            guard let machine = number(0), let crash = FoundingCrash(words[2]) else { return nil }
            self = .crash(machine: machine, crash)
        case ("say", 3):
            guard let machine = number(0), let word = OperatorWord(rawValue: words[2]) else {
                return nil
            }
            self = .say(machine: machine, word)
        default:
            guard let event = FoundingEvent(plain: name, numbers.compactMap { $0 }),
                numbers.allSatisfy({ $0 != nil })
            else { return nil }
            self = event
        }
    }

    /// Events whose words are all numbers.
    private init?(plain name: String, _ numbers: [Int]) {
        switch (name, numbers.count) {
        case ("wake", 2): self = .wake(machine: numbers[0], life: numbers[1])
        case ("host-report", 3):
            self = .hostReport(machine: numbers[0], life: numbers[1], number: numbers[2])
        case ("wall-jump", 2):
            self = .wallJump(machine: numbers[0], seconds: Int64(numbers[1]))
        case ("sleep", 1): self = .sleep(machine: numbers[0])
        case ("awake", 1): self = .awake(machine: numbers[0])
        case ("clone", 1): self = .clone(machine: numbers[0])
        case ("introduce", 2): self = .introduce(machine: numbers[0], voter: numbers[1])
        case ("gossip", 2): self = .gossip(machine: numbers[0], partner: numbers[1])
        default: return nil
        }
    }
}
