import CProcess
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import Synchronization

/// Executes the steps of a ``ClusterCoordinator`` on this machine.
///
/// One permanent thread does everything in order: it also starts the datastore's supervisor, whose
/// death signal is tied to the thread that started it. `execute` only queues; results come back
/// through `report`, on that thread or, for the end of a process, on a watching one.
package final class ClusterExecutor: Sendable {
    /// What the executor works with.
    package struct Settings: Sendable {
        /// The directory for everything of the datastore; made when needed, 0700.
        package var directory: String
        /// Opens grants.
        package var privateKey: StaticPrivateKey
        /// Distinguishes the datastores of different meshes; public.
        package var clusterToken: String
        /// The executable, and arguments that end with ``supervisorArgument``.
        package var supervisor: [String]
        package var etcdProgram: String
        package var etcdctlProgram: String
        /// Where the operator's programs around the first start are; see ``BootstrapHooks``.
        package var hookDirectory = "/etc/edgevpn/hooks"
        /// Present for what is not etcd.
        package var driven: DrivenDatastore?

        package init(
            directory: String, privateKey: StaticPrivateKey, clusterToken: String,
            supervisor: [String] = ["/proc/self/exe", supervisorArgument],
            etcdProgram: String = "etcd", etcdctlProgram: String = "etcdctl"
        ) {
            self.directory = directory
            self.privateKey = privateKey
            self.clusterToken = clusterToken
            self.supervisor = supervisor
            self.etcdProgram = etcdProgram
            self.etcdctlProgram = etcdctlProgram
        }
    }

    private let mailbox: CommandMailbox

    /// - Parameter report: called from other threads; it hands the report to the control loop.
    package init(settings: Settings, report: @escaping @Sendable (HostReport) -> Void) {
        let mailbox = CommandMailbox()
        self.mailbox = mailbox
        startThread(named: "evpn-cluster") {
            let host: any DatastoreHost =
                if let driven = settings.driven {
                    DrivenHost(
                        settings: settings, datastore: driven, mailbox: mailbox, report: report)
                } else {
                    EtcdHost(settings: settings, mailbox: mailbox, report: report)
                }
            host.run()
        }
    }

    /// Queues a command and returns at once. `stop` also interrupts the command that is running.
    package func execute(_ command: HostCommand) {
        mailbox.post(.command(command))
    }

    /// The daemon is ending in an orderly way: a datastore that may not outlive it stops, a
    /// released one stays. Returns when that is done.
    package func shutDown() {
        mailbox.post(.shutDown)
        mailbox.waitForEnd()
    }
}

/// The queue between the control thread and the executor's thread.
final class CommandMailbox: Sendable {
    enum Letter: Sendable {
        case command(HostCommand)
        case processEnded(pid_t)
        case shutDown

        /// Whether it must not wait for the running command.
        var isUrgent: Bool {
            switch self {
            case .command(.stop), .shutDown: true
            case .command, .processEnded: false
            }
        }
    }

    private struct State {
        var letters: [Letter] = []
        var hasEnded = false
    }

    private let state = Mutex(State())
    /// Counts letters, for the waiting thread.
    private let arrivals: Int32
    /// Readable while an urgent letter waits; commands poll it.
    let interrupt: Int32
    private let end: Int32

    init() {
        arrivals = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_SEMAPHORE))
        interrupt = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        end = eventfd(0, Int32(EFD_CLOEXEC))
        precondition(arrivals >= 0 && interrupt >= 0 && end >= 0, "no descriptors are left")
    }

    deinit {
        close(arrivals)
        close(interrupt)
        close(end)
    }

    func post(_ letter: Letter) {
        let isOpen = state.withLock { state in
            if !state.hasEnded { state.letters.append(letter) }
            return !state.hasEnded
        }
        guard isOpen else { return }
        if letter.isUrgent { eventfd_write(interrupt, 1) }
        eventfd_write(arrivals, 1)
    }

    /// The next letter; waits for it.
    func next() -> Letter {
        while true {
            var count: eventfd_t = 0
            _ = eventfd_read(arrivals, &count)
            let letter = state.withLock { state in
                state.letters.isEmpty ? nil : state.letters.removeFirst()
            }
            guard let letter else { continue }
            let urgentLeft = state.withLock { $0.letters.contains { $0.isUrgent } }
            if !urgentLeft { _ = eventfd_read(interrupt, &count) }
            return letter
        }
    }

    /// Takes deadline renewals out of the queue: a running command applies them itself.
    func takeDeadlines() -> [BootInstant] {
        state.withLock { state in
            var deadlines: [BootInstant] = []
            state.letters.removeAll { letter in
                guard case .command(.extendDeadline(let deadline)) = letter else { return false }
                deadlines.append(deadline)
                return true
            }
            return deadlines
        }
    }

    /// Waits up to `milliseconds`; `true` when something urgent arrived.
    func isInterrupted(within milliseconds: Int32) -> Bool {
        var set = pollfd(fd: interrupt, events: Int16(POLLIN), revents: 0)
        return poll(&set, 1, milliseconds) > 0
    }

    func finish() {
        state.withLock { $0.hasEnded = true }
        eventfd_write(end, 1)
    }

    func waitForEnd() {
        var set = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
        while poll(&set, 1, -1) < 0, errno == EINTR {}
    }
}
