import Glibc
import MeshBase

/// The machine's clocks.
package enum SystemClock {
    /// Nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`).
    @inline(__always)
    package static func bootNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    package static func boot() -> BootInstant {
        BootInstant(nanoseconds: bootNanoseconds())
    }

    package static func wall() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
    }

    /// Both clocks, read one after the other.
    package static func now() -> Now {
        Now(boot: boot(), wall: wall())
    }
}
