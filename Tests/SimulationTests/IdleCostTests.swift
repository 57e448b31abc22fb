import Foundation
import MeshBase
import Simulator
import Testing

/// `IDLE_MACHINES=200` asks for a larger mesh, too.
private let idleMeshes: [Int] = {
    let wish = ProcessInfo.processInfo.environment["IDLE_MACHINES"].flatMap { Int($0) }
    return [3, 10, 50] + [wish].compactMap { $0 }
}()

/// What a mesh costs that has nothing to do, once the ways of the first meetings are forgotten:
/// at most 700 bytes per second and node on average, headers included, and no node 1 kB.
@Test(arguments: idleMeshes) func anIdleMeshIsQuiet(machines: Int) {
    let world = Simulation(options: SimulationOptions(seed: 1, machines: machines))
    world.run(until: world.now + .seconds(250))
    let cost = IdleCost(of: world, machines: machines, seconds: 150)
    #expect(cost.mean < 700, "bytes per second: \(cost)")
    #expect(cost.rates.allSatisfy { $0 < 1_000 }, "bytes per second: \(cost.rates)")
    print("measured: an idle mesh of \(machines), per node and second: \(cost)")
}

/// Whoever has nothing to do should sleep: the deadlines of many peers share their wake-ups, as each
/// costs some hundred microseconds with the look at all that could be due.
@Test(arguments: [3, 11]) func anIdleMemberIsSeldomWoken(machines: Int) {
    let world = Simulation(options: SimulationOptions(seed: 1, machines: machines))
    world.run(until: world.now + .seconds(120))
    let before = world.wakes
    world.run(until: world.now + .seconds(60))
    let rates = zip(before, world.wakes).map { Double($1 - $0) / 60 }
    #expect(rates.allSatisfy { $0 < 6 }, "wake-ups per second: \(rates)")
    print("measured: \(machines) idle members, wake-ups per second: \(rates)")
}

/// Machines so slow that an answer takes 0.3 to 2 s. What comes late must not lead to more questions:
/// that would keep the machines slow.
@Test(arguments: [1, 2] as [UInt64]) func aMeshOfSlowMachinesIsQuiet(seed: UInt64) {
    var options = SimulationOptions(seed: seed, machines: 12)
    options.faults.delay = .milliseconds(150)...(.seconds(1))
    let world = Simulation(options: options)
    world.run(until: world.now + .seconds(100))
    let slow = IdleCost(of: world, machines: 12, seconds: 60)
    #expect(slow.mean < 1_000, "slow, bytes per second: \(slow)")
    world.heal()
    world.run(until: world.now + .seconds(20))
    let quick = IdleCost(of: world, machines: 12, seconds: 60)
    #expect(quick.mean < 1_000, "quick again, bytes per second: \(quick)")
    print("measured: an idle mesh of twelve slow machines, per node and second: \(slow)")
}

/// What machines send by themselves while a world goes on.
private struct IdleCost: CustomStringConvertible {
    /// Bytes a second by machine, with the headers of Ethernet, IPv4 and UDP.
    private(set) var rates: [Double] = []
    /// Bytes a second and machine by what they say, without headers.
    private var kinds: [String: Double] = [:]

    private static let headers = 14 + 20 + 8

    init(of world: Simulation, machines: Int, seconds: Int) {
        let traffic = world.traffic
        let said = (0..<machines).map { world.status(of: $0)?.sentBytes ?? [:] }
        world.run(until: world.now + .seconds(seconds))
        for (former, present) in zip(traffic, world.traffic) {
            let bytes = present.bytes - former.bytes
            let headers = (present.datagrams - former.datagrams) * Self.headers
            rates.append(Double(bytes + headers) / Double(seconds))
        }
        for index in 0..<machines {
            for (kind, bytes) in world.status(of: index)?.sentBytes ?? [:] {
                let more = Double(bytes - (said[index][kind] ?? 0))
                kinds[kind, default: 0] += more / Double(seconds * machines)
            }
        }
    }

    var mean: Double { rates.reduce(0, +) / Double(rates.count) }

    var description: String {
        let parts = kinds.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .filter { $0.value >= 1 }.map { "\($0.key) \(Int($0.value))" }
        return "\(Int(mean)), at most \(Int(rates.max() ?? 0)): \(parts.joined(separator: ", "))"
    }
}

/// Fifty machines start at once that take so long for a datagram that the first meetings are more than
/// they can bear. That must pass by itself: who is late may not be kept late by being asked again.
@Test func aMeshOfBusyMachinesComesToRest() {
    var options = SimulationOptions(seed: 1, machines: 50)
    options.serviceTime = .milliseconds(10)
    let world = Simulation(options: options)
    let begin = world.now
    let met = world.run(until: begin + .seconds(120)) { $0.isFullyConnected }
    #expect(met, "\(world.storyTail(20))")
    print("measured: fifty busy machines have met after \((world.now - begin).inSeconds) s")
    world.run(until: world.now + .seconds(60))
    let cost = IdleCost(of: world, machines: 50, seconds: 30)
    #expect(cost.mean < 1_000, "bytes per second: \(cost)")
    print("measured: a mesh of fifty busy machines, per node and second: \(cost)")
}
