import Foundation
import MeshBase
import NetAddress
import PathDiscovery
import Simulator
import Testing

/// Worlds of members behind NATs, which differ by their seed: `NAT_SEEDS=300` makes a campaign.
private let natSeeds: Range<UInt64> = {
    let count = ProcessInfo.processInfo.environment["NAT_SEEDS"].flatMap { UInt64($0) }
    return 21..<(21 + (count ?? 3))
}()

/// Members behind every kind of NAT, who know one public member. All talk, and those become direct
/// who can: not two of whom one is behind a symmetric NAT and the other filters by port. Where ports
/// count up they may be guessed.
@Test(arguments: [0.0, 0.05], natSeeds)
func membersBehindEveryKindOfNATTalk(loss: Double, seed: UInt64) {
    var options = SimulationOptions(seed: seed, machines: 9)
    options.usesLocalDiscovery = false
    options.nats = [
        nil, .fullCone, .addressRestricted, .portRestricted, .portRestricted, .symmetric, .firewall,
        .doubleNAT, .symmetricSequential,
    ]
    options.faults.loss = loss
    options.faults.delay = .milliseconds(10)...(.milliseconds(40))
    let world = Simulation(options: options)
    let met = world.run(until: world.now + .seconds(60)) { $0.isFullyConnected && $0.ledgersAgree }
    #expect(met, "\(world.storyTail())")
    let isSettled = world.run(until: world.now + .seconds(180)) { world in
        options.nats.indices.allSatisfy { near in
            options.nats.indices.allSatisfy { far in
                near == far || canBeDirect(options.nats[near], options.nats[far]) != true
                    || isDirect(world, from: near, to: far)
            }
        }
    }
    #expect(isSettled, "\(world.storyTail())")
    for near in options.nats.indices {
        for far in options.nats.indices where near != far {
            guard let isPossible = canBeDirect(options.nats[near], options.nats[far]) else {
                continue
            }
            #expect(
                isDirect(world, from: near, to: far) == isPossible,
                "\(near) to \(far): \(String(describing: options.nats[near])) and others")
        }
    }
    print(
        "measured: nine members behind NATs, loss \(loss), seed \(seed), are direct after \(world.now)"
    )
}

/// `nil`: by luck.
private func canBeDirect(_ first: SimulatedNAT?, _ second: SimulatedNAT?) -> Bool? {
    let moving: Set<SimulatedNAT?> = [.symmetric, .symmetricSequential]
    let filtering: Set<SimulatedNAT?> = [.portRestricted, .firewall, .doubleNAT]
    let both = [first, second]
    guard both.contains(where: moving.contains) else { return true }
    guard both.contains(where: filtering.contains) || both.allSatisfy(moving.contains) else {
        return true
    }
    return both.contains(.symmetricSequential) ? nil : false
}

/// A NAT that counts its ports up, and one that filters by port: the next port is guessed. A guess may
/// miss where other flows of the same moment took the port.
@Test(arguments: [SimulatedNAT.portRestricted, .firewall, .doubleNAT])
func portsThatCountUpAreGuessed(filter: SimulatedNAT) {
    var missed: [UInt64] = []
    for seed in 1...40 as ClosedRange<UInt64> {
        var options = SimulationOptions(seed: seed, machines: 4)
        options.usesLocalDiscovery = false
        options.nats = [nil, nil, filter, .symmetricSequential]
        options.faults.delay = .milliseconds(10)...(.milliseconds(40))
        let world = Simulation(options: options)
        let isDone = world.run(until: world.now + .seconds(60)) {
            isDirect($0, from: 2, to: 3) && isDirect($0, from: 3, to: 2)
        }
        if !isDone { missed.append(seed) }
    }
    print("measured: ports that count up, \(filter): not direct in 60 s \(missed) of 40")
    #expect(missed.count <= 3, "\(missed)")
}

private func isDirect(_ world: Simulation, from near: Int, to far: Int) -> Bool {
    guard let status = world.status(of: near), let other = world.status(of: far)?.id,
        let endpoint = status.peers.first(where: { $0.id == other })?.endpoint
    else { return false }
    return !endpoint.isRelayed
}

/// Far apart, behind routers that take for themselves what comes before their own end has sent: the
/// first attempt succeeds, as both ends open before either knocks.
@Test func routersThatAcceptInputAreMetAtTheFirstAttempt() {
    var times: [Duration] = []
    for seed in 1...60 as ClosedRange<UInt64> {
        var options = SimulationOptions(seed: seed, machines: 3)
        options.usesLocalDiscovery = false
        options.startSpread = .milliseconds(10)
        options.nats = [nil, .portRestricted, .portRestricted]
        options.routersAcceptInput = true
        options.faults.delay = .milliseconds(20)...(.milliseconds(60))
        let world = Simulation(options: options)
        let begin = world.now
        world.run(until: begin + .seconds(60)) {
            isDirect($0, from: 1, to: 2) && isDirect($0, from: 2, to: 1)
        }
        times.append(world.now - begin)
    }
    times.sort()
    print("measured: routers that accept input, direct after \(times[30]), worst \(times[59])")
    // A failed attempt alone takes eight seconds.
    #expect(times[59] < .seconds(5), "\(times.suffix(10))")
}

/// After half an hour without a word any two talk within seconds, though their routers may have
/// forgotten each other: somebody carries the first packets.
@Test(arguments: [1, 2, 3] as [UInt64]) func membersBehindNATsFindEachOtherAfterSilence(
    seed: UInt64
) {
    var options = SimulationOptions(seed: seed, machines: 14)
    options.usesLocalDiscovery = false
    options.nats = [nil] + (1..<14).map { $0.isMultiple(of: 4) ? .symmetric : .portRestricted }
    options.faults.delay = .milliseconds(10)...(.milliseconds(40))
    let world = Simulation(options: options)
    let met = world.run(until: world.now + .seconds(60)) { $0.isFullyConnected }
    #expect(met, "\(world.storyTail())")
    world.run(until: world.now + .seconds(1_800))
    for near in 1..<7 {
        let far = near + 7
        guard let other = world.status(of: far)?.id else { continue }
        let pongs = world.pongs(of: near)
        let begin = world.now
        for second in 0..<5 as Range<UInt32> where world.pongs(of: near) == pongs {
            world.command(.ping(id: UInt32(near) << 8 | second, other), on: near)
            world.run(until: world.now + .seconds(1)) { $0.pongs(of: near) > pongs }
        }
        #expect(world.pongs(of: near) > pongs, "\(near) to \(far): \(world.now - begin)")
    }
}

/// A symmetric NAT and one that filters by port. Who is told to tries many ports, twice at most within the
/// budget; who is not stays relayed and tries nothing.
@Test func aSymmetricNATIsMetByManyPortsWhereBothWantIt() {
    var direct = 0
    var missed: [UInt64] = []
    for seed in 1...24 as ClosedRange<UInt64> {
        let world = hardPair(seed, guessesPorts: true)
        if world.run(
            until: world.now + .seconds(120),
            isDone: { isDirect($0, from: 2, to: 3) && isDirect($0, from: 3, to: 2) })
        {
            direct += 1
        } else {
            missed.append(seed)
        }
        // 512 guesses and what the two answer each other.
        let said = world.status(of: 2)?.sentBytes["birthday"] ?? 0
        #expect(said > 0 && said < 1_000, "\(said) bytes of agreement")
    }
    print("measured: \(direct) of 24 hard pairs became direct by many ports, not \(missed)")
    #expect(direct >= 21)

    let world = hardPair(1, guessesPorts: false)
    world.run(until: world.now + .seconds(60))
    #expect(!isDirect(world, from: 2, to: 3))
    #expect(world.status(of: 2)?.sentBytes["birthday"] == nil)
}

/// Two public members, and two whose NATs do not fit, all acquainted.
private func hardPair(_ seed: UInt64, guessesPorts: Bool) -> Simulation {
    var options = SimulationOptions(seed: seed, machines: 4)
    options.usesLocalDiscovery = false
    options.nats = [nil, nil, .portRestricted, .symmetric]
    options.guessesPorts = guessesPorts
    options.faults.delay = .milliseconds(10)...(.milliseconds(40))
    let world = Simulation(options: options)
    world.run(until: world.now + .seconds(30)) { $0.isFullyConnected }
    return world
}
