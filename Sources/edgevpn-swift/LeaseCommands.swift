import ArgumentParser
import ClusterHost
import FoundationEssentials
import Glibc
import HTTPAPI
import LinuxIO
import MeshBase

/// `elect`: run a command on one machine of the mesh at a time, again and again.
struct ElectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "elect",
        abstract: "Run a command on one machine of the mesh at a time.",
        discussion: """
            Start the same line on every machine: one is elected and runs the command; when that \
            machine is lost, another one is. The command sees the fencing number of its election \
            in EDGEVPN_LEASE_NUMBER; it is larger than every earlier one, so a store that refuses \
            smaller numbers is safe from leftovers. The command and its process group are ended \
            before another machine can be elected. When the command ends by itself, so does this, with \
            its exit code, or 128 and the number of the signal that ended it.
            """)

    @OptionGroup var lease: LeaseOptions

    func run() async throws {
        var isKnown = false
        while true {
            switch try await LeaseWork(lease, nodeIsKnown: isKnown).run() {
            case .ended(let code): Glibc.exit(code)
            case .lost:
                printError("the election for \(lease.name) is lost; standing again")
                isKnown = true
            }
        }
    }
}

/// `lock`: run a command once, when nobody else does.
struct LockCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Wait for a lock of the whole mesh, then run a command once.",
        discussion: """
            The command sees EDGEVPN_LEASE_NUMBER, a number larger than that of every earlier \
            holder. Its exit code is this command's; after a signal that is 128 and the signal's \
            number. If the lock is lost while it runs, it is \
            ended before another one can have the lock, and the exit code is 1.
            """)

    @OptionGroup var lease: LeaseOptions

    func run() async throws {
        switch try await LeaseWork(lease).run() {
        case .ended(let code): Glibc.exit(code)
        case .lost:
            throw CommandFailure.operating(
                "the lock \(lease.name) was lost and the command was ended",
                fix: "see `edgevpn-swift cluster explain`; run it again")
        }
    }
}

struct LeaseOptions: ParsableArguments {
    @OptionGroup var node: NodeOptions

    @Argument(help: "The name, 1 to 64 bytes without spaces; the same on every machine.")
    var name: String

    @Argument(parsing: .postTerminator, help: "The command and its arguments.")
    var command: [String]

    func validate() throws {
        guard let program = command.first else {
            throw ValidationError("give a command behind --")
        }
        // Nobody should win an election for what cannot be run.
        guard Self.isProgram(program) else {
            throw ValidationError("\(program) is no program that can be run here")
        }
    }

    /// Looks where `execvp` does.
    private static func isProgram(_ name: String) -> Bool {
        let directories = getenv("PATH").map { String(cString: $0) } ?? "/bin:/usr/bin"
        let places =
            name.contains("/")
            ? [name]
            : directories.split(separator: ":", omittingEmptySubsequences: false)
                .map { "\($0.isEmpty ? "." : $0)/\(name)" }
        return !name.isEmpty
            && places.contains { place in
                var entry = stat()
                return stat(place, &entry) == 0 && entry.st_mode & S_IFMT == S_IFREG
                    && access(place, X_OK) == 0
            }
    }
}

/// One piece of work: wait for the lease, run the command, give the lease back.
private final class LeaseWork {
    enum End {
        case ended(Int32)
        case lost
    }

    private let options: LeaseOptions
    private let client: APIClient
    private let session: String
    private var job: LeasedJob?
    /// The node answered once: from then on its silence is waited out, since it may be starting anew.
    private var hasAnswered: Bool
    private var told: Set<String> = []

    init(_ options: LeaseOptions, nodeIsKnown: Bool = false) throws {
        self.options = options
        hasAnswered = nodeIsKnown
        // An answer that takes longer says nothing about how long the lease is valid.
        client = try options.node.client(timeout: .seconds(2))
        session = String(UInt64.random(in: 1 ... .max), radix: 16)
    }

    func run() async throws -> End {
        EndingSignals.catchThem()
        while true {
            let before = SystemClock.boot()
            do throws(APIClientFailure) {
                let lease = try await client.lease(
                    options.name, LeaseRequestModel(session: session))
                hasAnswered = true
                take(lease, askedAt: before)
                tellWhyItWaits(lease)
                if lease.state == .unavailable, job == nil, lease.reason == "the lease is lost" {
                    return .lost
                }
            } catch .answered(let problem) where !hasAnswered {
                throw CommandFailure(.answered(problem))
            } catch {
                // The node restarts or hangs: the job goes on until its deadline.
                if !hasAnswered { throw CommandFailure(error) }
            }
            if let end = try await check() { return end }
            try await Task.sleep(for: .milliseconds(job == nil ? 250 : 500))
            if let end = try await check() { return end }
        }
    }

    /// Each reason once, so that nobody waits without knowing for what.
    private func tellWhyItWaits(_ lease: LeaseModel) {
        guard job == nil, lease.state == .unavailable, told.insert(lease.reason).inserted else {
            return
        }
        printError("\(options.name) has to wait: \(lease.reason)")
    }

    private func take(_ lease: LeaseModel, askedAt: BootInstant) {
        guard lease.state == .held, let number = lease.number, let valid = lease.validMs else {
            return
        }
        let deadline = askedAt + .milliseconds(Int64(valid))
        if let job {
            job.extend(to: deadline)
            return
        }
        guard EndingSignals.last == nil else { return }
        var environment = ProcessInfo.processInfo.environment
        environment["EDGEVPN_LEASE_NAME"] = options.name
        environment["EDGEVPN_LEASE_NUMBER"] = "\(number)"
        do throws(LeasedJobFailure) {
            job = try LeasedJob(
                options.command, environment: environment.map { "\($0.key)=\($0.value)" },
                deadline: deadline)
        } catch {
            printError("error: \(options.command[0]) cannot be started: \(error)")
        }
    }

    /// Whether the work is over.
    private func check() async throws -> End? {
        if let signal = EndingSignals.last {
            if let job {
                job.terminate()
                let limit = SystemClock.boot() + .seconds(10)
                while job.hasEnded() == nil {
                    if SystemClock.boot() >= limit { job.kill() }
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            await giveBack()
            return .ended(128 + signal)
        }
        guard let end = job?.hasEnded() else { return nil }
        await giveBack()
        return switch end {
        case .ended(let code): .ended(code)
        case .lost: .lost
        }
    }

    private func giveBack() async {
        _ = try? await client.lease(
            options.name, LeaseRequestModel(session: session, isOver: true))
    }
}

/// `wait-for`: a condition of the mesh as a step of a script.
struct WaitForCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait-for",
        abstract: "Wait until a condition of the mesh holds.",
        discussion: """
            Conditions: node (a node answers here), peers:N (N other machines are alive), \
            machine:NAME (that machine is alive), cluster (this machine's cluster is ready or \
            joined), ledger:BUCKET/KEY (an entry exists). The exit code is 0 when it holds, 1 \
            when the time is over.
            """)

    @Argument(help: "The condition.")
    var condition: String

    @Option(name: .long, help: ArgumentHelp("Give up after; 0 is never.", valueName: "seconds"))
    var timeout = 0

    @OptionGroup var node: NodeOptions

    func run() async throws {
        let words = condition.split(separator: ":", maxSplits: 1).map(String.init)
        let argument = words.count > 1 ? words[1] : ""
        let parts = argument.split(separator: "/", maxSplits: 1).map(String.init)
        let isKnown =
            switch words.first {
            case "node", "cluster": words.count == 1
            case "peers": UInt(argument) != nil
            case "machine": !argument.isEmpty
            case "ledger": parts.count == 2
            default: false
            }
        guard isKnown, timeout >= 0 else {
            throw CommandFailure.mistake(
                "CONDITION", "\(condition.prefix(60)) is no condition",
                fix: "give node, peers:N, machine:NAME, cluster or ledger:BUCKET/KEY")
        }
        let client = try node.client(timeout: .seconds(5))
        let begin = SystemClock.boot()
        while true {
            if let holds = try? await holds(words[0], argument, parts, client), holds { return }
            if timeout > 0, SystemClock.boot() - begin >= .seconds(timeout) {
                throw CommandFailure.operating(
                    "\(condition) did not come true in \(timeout) s",
                    fix: "`edgevpn-swift status` and `cluster explain` say what is missing")
            }
            try await Task.sleep(for: .milliseconds(300))
        }
    }

    private func holds(
        _ kind: String, _ argument: String, _ parts: [String], _ client: APIClient
    ) async throws(APIClientFailure) -> Bool {
        if kind == "ledger" {
            return try await !client.ledgerEntries(bucket: parts[0], key: parts[1]).isEmpty
        }
        let status = try await client.status()
        let alive = status.peers.filter { $0.state == .alive }
        switch kind {
        case "peers": return alive.count >= Int(argument) ?? .max
        case "machine":
            return status.node.hostname == argument
                || alive.contains { $0.hostname == argument || $0.id == argument }
        case "cluster": return [.ready, .joined].contains(status.cluster.phase)
        default: return true
        }
    }
}
