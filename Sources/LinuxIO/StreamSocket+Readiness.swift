import CLinux
import Glibc

/// Waits until descriptors can be read or written: for servers with many connections, whose
/// interest changes. Times are whole milliseconds, enough for timeouts of sockets.
package struct ReadinessPoller: ~Copyable {
    private let descriptor: Int32

    package struct Interest: OptionSet, Sendable {
        package let rawValue: UInt32

        package init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        package static let input = Interest(rawValue: EPOLLIN.rawValue)
        package static let output = Interest(rawValue: EPOLLOUT.rawValue)
    }

    package struct Event: Sendable {
        package let token: UInt64
        package let canRead: Bool
        package let canWrite: Bool
        /// An error or a hang-up is pending; reading tells which.
        package let hasFailed: Bool
    }

    package init() throws(SystemCallError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw SystemCallError("open an epoll instance") }
    }

    deinit {
        close(descriptor)
    }

    /// Watches `watched`; closing it ends the watch.
    package func add(
        _ watched: Int32, _ interest: Interest, token: UInt64
    ) throws(SystemCallError) {
        try control(Int32(EPOLL_CTL_ADD), watched, interest, token)
    }

    package func change(
        _ watched: Int32, to interest: Interest, token: UInt64
    ) throws(SystemCallError) {
        try control(Int32(EPOLL_CTL_MOD), watched, interest, token)
    }

    private func control(
        _ operation: Int32, _ watched: Int32, _ interest: Interest, _ token: UInt64
    ) throws(SystemCallError) {
        var event = epoll_event()
        event.events = interest.rawValue
        event.data.u64 = token
        guard epoll_ctl(descriptor, operation, watched, &event) == 0 else {
            throw SystemCallError("watch descriptor \(watched)")
        }
    }

    /// Waits for at most `milliseconds`, forever when negative; at most 64 events at a time.
    package func wait(milliseconds: Int32) -> [Event] {
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { room in
            let count = epoll_wait(descriptor, room.baseAddress, 64, milliseconds)
            return room.prefix(Int(max(count, 0))).map { event in
                let flags = event.events
                return Event(
                    token: event.data.u64, canRead: flags & EPOLLIN.rawValue != 0,
                    canWrite: flags & EPOLLOUT.rawValue != 0,
                    hasFailed: flags & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0)
            }
        }
    }
}
