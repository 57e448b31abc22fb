import CLinux
import Glibc
import MeshBase

/// Wakes a thread that waits on a descriptor: an eventfd. Ringing it from any thread is safe, and
/// rings that nobody has answered yet are one ring.
package final class Doorbell: Sendable {
    package let descriptor: Int32

    package init() throws(SystemCallError) {
        descriptor = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        guard descriptor >= 0 else { throw SystemCallError("open an eventfd") }
    }

    deinit {
        close(descriptor)
    }

    package func ring() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    /// Takes all rings so far; whether there was one.
    @discardableResult
    package func answer() -> Bool {
        var count: UInt64 = 0
        return read(descriptor, &count, 8) == 8
    }
}

/// Waits for descriptors to become readable or for a point of the boot clock.
package struct Poller: ~Copyable {
    private let descriptor: Int32
    private let timer: Int32
    /// What the timer's own readiness is reported as, and never returned.
    private static let timerToken = UInt64.max

    package init() throws(SystemCallError) {
        let poller = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard poller >= 0 else { throw SystemCallError("open an epoll instance") }
        let clock = timerfd_create(CLOCK_BOOTTIME, Int32(TFD_NONBLOCK) | Int32(TFD_CLOEXEC))
        var event = epoll_event()
        event.events = EPOLLIN.rawValue
        event.data.u64 = Poller.timerToken
        guard clock >= 0, epoll_ctl(poller, EPOLL_CTL_ADD, clock, &event) == 0 else {
            let failure = SystemCallError("open a timer")
            close(poller)
            if clock >= 0 { close(clock) }
            throw failure
        }
        descriptor = poller
        timer = clock
    }

    deinit {
        close(timer)
        close(descriptor)
    }

    /// Watches `watched` for input; `token` names it in what ``wait(until:)`` returns.
    package func add(_ watched: Int32, token: UInt64) throws(SystemCallError) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue
        event.data.u64 = token
        guard epoll_ctl(descriptor, EPOLL_CTL_ADD, watched, &event) == 0 else {
            throw SystemCallError("watch descriptor \(watched)")
        }
    }

    package func remove(_ watched: Int32) {
        epoll_ctl(descriptor, EPOLL_CTL_DEL, watched, nil)
    }

    /// Waits for input or until `deadline`; `nil` waits for input alone.
    ///
    /// - Returns: The tokens that are ready, at most 16; empty when the deadline passed or a
    ///   signal arrived.
    package func wait(until deadline: BootInstant?) -> [UInt64] {
        var setting = itimerspec()
        if let deadline {
            // Zero would disarm the timer; one nanosecond after boot is long past.
            let at = min(max(deadline.nanoseconds, 1), UInt64(Int64.max))
            setting.it_value.tv_sec = Int(at / 1_000_000_000)
            setting.it_value.tv_nsec = Int(at % 1_000_000_000)
        }
        timerfd_settime(timer, Int32(TFD_TIMER_ABSTIME), &setting, nil)
        var events = [epoll_event](repeating: epoll_event(), count: 16)
        let count = epoll_wait(descriptor, &events, Int32(events.count), -1)
        var ready: [UInt64] = []
        for event in events.prefix(Int(max(count, 0))) {
            let token = event.data.u64
            if token == Poller.timerToken {
                var expirations: UInt64 = 0
                _ = read(timer, &expirations, 8)
            } else {
                ready.append(token)
            }
        }
        return ready
    }
}
