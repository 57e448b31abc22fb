import CProcess
import Glibc
import MeshBase

/// The init system of machines without one: a supervisor process between the daemon and the
/// datastore.
///
/// The kernel's parent-death signal cannot be taken off a running program from outside, and the
/// datastore must die with the daemon before READY but survive it afterwards. So the daemon starts
/// a supervisor (its own executable in another role, with an empty environment) that carries the
/// death signal and takes it off itself when told to; the datastore is the supervisor's child and
/// carries one of its own for good:
///
///     daemon --(death signal until READY)--> supervisor --(death signal always)--> datastore
///
/// Either end may be killed by any means and the kernel keeps the promise. The alternative, to
/// start the datastore anew without the signal after READY, would cost an outage just when joiners
/// knock. A supervisor that is killed after READY takes the datastore down; the daemon, or its next
/// start, brings it up again from its data.
package final class SupervisedService: InitSystem {
    private let supervisor: [String]
    private let processFile: String
    private var process: (id: pid_t, isChild: Bool)?
    /// Our end of the control socket; -1 for an adopted supervisor.
    private var control: Int32 = -1
    /// Becomes readable at the supervisor's end.
    private var watch: Int32 = -1
    private let onExit: @Sendable (pid_t) -> Void

    /// - Parameters:
    ///   - supervisor: the executable and leading arguments that end up in `superviseDatastore`.
    ///   - processFile: where the supervisor's process id and start time are kept.
    ///   - onExit: called on a thread of its own when a supervisor ended.
    package init(
        supervisor: [String], processFile: String, onExit: @escaping @Sendable (pid_t) -> Void
    ) {
        self.supervisor = supervisor
        self.processFile = processFile
        self.onExit = onExit
    }

    package var isRunning: Bool {
        guard let process else { return false }
        return cprocess_start_time(process.id) != 0
    }

    /// The supervisor that runs now.
    package var processID: pid_t? { process?.id }

    package func start(_ order: ServiceOrder) throws(HostFailure) {
        forget()
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw HostFailure("socketpair: \(errnoText(errno))")
        }
        let deadline = order.deadline?.nanoseconds ?? 0
        let arguments =
            supervisor + ["\(getpid())", "\(deadline)", order.logFile] + order.command
        let id = startBound(arguments, control: ends[1])
        close(ends[1])
        guard id > 0 else {
            close(ends[0])
            throw HostFailure("cannot start \(supervisor[0]): \(errnoText(-id))")
        }
        control = ends[0]
        attach(id, isChild: true)
        guard expect(CPROCESS_STARTED) else {
            stop()
            throw HostFailure("the supervisor did not start")
        }
    }

    package func release() throws(HostFailure) {
        guard let process, isRunning else { throw HostFailure("the datastore is not running") }
        // Written before the release, so that a daemon that dies in between finds the process.
        try writeProcessFile(process.id)
        guard control >= 0 else { return }
        send(CPROCESS_RELEASE, 0)
        guard expect(CPROCESS_RELEASED) else {
            throw HostFailure("the supervisor did not confirm the release")
        }
    }

    package func extend(to deadline: BootInstant) {
        send(CPROCESS_DEADLINE, deadline.nanoseconds)
    }

    package func stop() {
        guard let process else { return }
        if isRunning {
            kill(process.id, SIGTERM)
            // The supervisor itself gives the datastore ten seconds.
            if !waitForEnd(milliseconds: 15_000) {
                kill(process.id, SIGKILL)
                _ = waitForEnd(milliseconds: 2_000)
            }
        }
        forget()
        unlink(processFile)
    }

    package func adopt(unit: String) -> Bool {
        if isRunning { return true }
        forget()
        guard let text = try? readText(processFile) else { return false }
        let words = text.split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard words.count == 3, let id = pid_t(words[0]), let start = UInt64(words[1]),
            start != 0, bootID == words[2], cprocess_start_time(id) == start
        else { return false }
        attach(id, isChild: false)
        return isRunning
    }

    /// Reaps the supervisor if it is a child, and forgets it.
    package func forget() {
        if control >= 0 { close(control) }
        control = -1
        if watch >= 0 { close(watch) }
        watch = -1
        if let process, process.isChild {
            var status: Int32 = 0
            waitpid(process.id, &status, WNOHANG)
        }
        process = nil
    }

    /// Remembers the process and tells `onExit` when it ends.
    private func attach(_ id: pid_t, isChild: Bool) {
        process = (id, isChild)
        watch = cprocess_watch(id)
        let descriptor = cprocess_watch(id)
        let report = onExit
        guard descriptor >= 0 else { return report(id) }
        startThread(named: "evpn-watch") {
            var set = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            while poll(&set, 1, -1) < 0, errno == EINTR {}
            close(descriptor)
            report(id)
        }
    }

    private func waitForEnd(milliseconds: Int32) -> Bool {
        var set = pollfd(fd: watch, events: Int16(POLLIN), revents: 0)
        return watch >= 0 && poll(&set, 1, milliseconds) > 0
    }

    private func send(_ kind: Int, _ number: UInt64) {
        guard control >= 0 else { return }
        var message = [UInt8(truncatingIfNeeded: kind)]
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            message.append(UInt8(truncatingIfNeeded: number >> shift))
        }
        _ = Glibc.send(control, message, message.count, Int32(MSG_NOSIGNAL))
    }

    /// Waits up to five seconds for a message of the supervisor; others are passed over.
    private func expect(_ kind: Int) -> Bool {
        let end = cprocess_boot_time() + 5_000_000_000
        while cprocess_boot_time() < end {
            var set = pollfd(fd: control, events: Int16(POLLIN), revents: 0)
            guard poll(&set, 1, 500) > 0 else { continue }
            var message = [UInt8](repeating: 0, count: 9)
            let count = recv(control, &message, message.count, 0)
            if count <= 0 { return false }
            if Int(message[0]) == kind { return true }
        }
        return false
    }

    private func writeProcessFile(_ id: pid_t) throws(HostFailure) {
        let line = "\(id) \(cprocess_start_time(id)) \(bootID)\n"
        try writeFile(processFile, Array(line.utf8))
    }
}

/// The kernel's name for this boot: process ids and start times mean nothing in another one.
var bootID: String {
    let text = (try? readText("/proc/sys/kernel/random/boot_id")) ?? ""
    return String(text.prefix { $0 != "\n" })
}
