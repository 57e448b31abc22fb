/// Decides whether the kernel lets only a part of the datagrams from unknown sources through, and
/// which part: about ``aim`` in each window of ``window``.
package struct FloodGate: BitwiseCopyable {
    /// One of 2^shift unknown datagrams gets through; 0 is no flood.
    package private(set) var shift = 0
    /// When ``turn(at:)`` is wanted next, in nanoseconds; never without a reason.
    package private(set) var dueAt = UInt64.max
    private var arrived = 0
    private var refused = 0

    /// Nanoseconds.
    package static let window: UInt64 = 100_000_000
    /// Datagrams that reach the packet thread in a window.
    static let aim = 100
    /// So many refusals in a window are a flood.
    static let alarm = 50

    package init() {}

    /// Counts a datagram from an unknown source, which was let on or refused.
    @inline(__always)
    package mutating func count(isRefused: Bool, at now: UInt64) {
        arrived &+= 1
        if isRefused { refused &+= 1 }
        if dueAt == .max { dueAt = now &+ FloodGate.window }
    }

    /// How long a thread may sleep, for poll(2).
    var patience: Int32 { dueAt == .max ? -1 : Int32(FloodGate.window / 1_000_000) }

    /// Ends a window; whether ``shift`` is another one now.
    package mutating func turn(at now: UInt64, greatest: Int) -> Bool {
        let before = shift
        if shift == 0 {
            if refused >= FloodGate.alarm { tighten(to: FloodGate.aim) }
        } else if arrived > 2 * FloodGate.aim {
            tighten(to: FloodGate.aim)
        } else if arrived < FloodGate.aim / 4 {
            shift -= 1
        }
        shift = min(shift, greatest)
        arrived = 0
        refused = 0
        // Without a flood nothing needs to be done until somebody unknown sends again.
        dueAt = shift > 0 ? now &+ FloodGate.window : .max
        return shift != before
    }

    private mutating func tighten(to count: Int) {
        var rest = arrived
        while rest > count {
            rest /= 2
            shift += 1
        }
    }
}
