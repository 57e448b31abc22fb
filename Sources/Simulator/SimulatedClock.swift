import MeshBase

/// The boot clock of one life of a machine, as seen from the simulation's own time.
///
/// It starts near zero with every life and may run fast or slow, so an instant that leaks into
/// another life or to another machine is plainly wrong.
struct SimulatedClock {
    /// The simulation's time at which this life began.
    let start: BootInstant
    /// What the machine's clock said then.
    let origin: BootInstant
    /// Machine seconds per simulated second.
    let rate: Double
    /// Seconds by which the wall clock is wrong.
    let wallError: Int64

    /// The wall time of the simulation's beginning: late in 2023.
    private static let wallOrigin: Int64 = 1_700_000_000

    func local(_ time: BootInstant) -> BootInstant {
        BootInstant(nanoseconds: origin.nanoseconds + UInt64(scaled(time - start, by: rate)))
    }

    /// The first simulated moment at which the machine's clock has reached `instant`.
    func global(_ instant: BootInstant) -> BootInstant {
        guard instant > origin else { return start }
        return start + .nanoseconds(scaled(instant - origin, by: 1 / rate) + 1)
    }

    func now(_ time: BootInstant) -> Now {
        let wall = Int64(time.nanoseconds / 1_000_000_000) + Self.wallOrigin + wallError
        return Now(boot: local(time), wall: WallTime(seconds: wall))
    }

    /// The wall clock was set.
    func jumped(by seconds: Int64) -> SimulatedClock {
        SimulatedClock(start: start, origin: origin, rate: rate, wallError: wallError + seconds)
    }

    private func scaled(_ duration: Duration, by factor: Double) -> Int64 {
        let nanoseconds = max(0, duration.clampedNanoseconds)
        // Whole simulations last hours, deadlines may lie at the end of time.
        return Int64(min(Double(nanoseconds) * factor, 9e18))
    }
}
