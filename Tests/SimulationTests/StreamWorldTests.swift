import MeshBase
import MeshNode
import NetAddress
import Simulator
import Testing

// n0, n1    public, take streams
// n2, n4    no UDP
// n3        behind a NAT

private func world(_ seed: UInt64) -> Simulation {
    var options = SimulationOptions(seed: seed, machines: 5)
    options.usesLocalDiscovery = false
    options.usesStreams = true
    options.nats = [nil, nil, .portRestricted, .portRestricted, .symmetric]
    options.faults.delay = .milliseconds(10)...(.milliseconds(40))
    let world = Simulation(options: options)
    world.dropUDP(of: [2, 4])
    return world
}

private func endpoint(_ world: Simulation, from near: Int, to far: Int) -> SocketAddress? {
    let other = world.status(of: far)?.id
    return world.status(of: near)?.peers.first { $0.id == other }?.endpoint
}

/// Until an answer comes, a question each second.
private func timeToAnswer(
    _ world: Simulation, from near: Int, to far: Int, within seconds: UInt32
) -> Duration? {
    guard let other = world.status(of: far)?.id else { return nil }
    let (begin, pongs) = (world.now, world.pongs(of: near))
    for second in 0..<seconds {
        let id = UInt32(truncatingIfNeeded: begin.nanoseconds / 1_000_000) &+ second
        world.command(.ping(id: id, other), on: near)
        let isAnswered = world.run(until: world.now + .seconds(1)) { $0.pongs(of: near) > pongs }
        if isAnswered { return world.now - begin }
    }
    return nil
}

/// They meet by TCP, whom TCP does not reach by a relay that it reaches; another one takes over when that
/// goes; and when UDP comes through again, the streams end.
@Test(arguments: 1...8 as ClosedRange<UInt64>) func sitesWithoutUDPTalkByStreams(seed: UInt64) {
    let world = world(seed)
    let begin = world.now
    let met = world.run(until: begin + .seconds(60)) { $0.isFullyConnected }
    #expect(met, "\(world.storyTail())")
    print("measured: seed \(seed), two sites without UDP have met all after \(world.now - begin)")
    for (near, far) in [(2, 3), (3, 2), (2, 4), (4, 2), (2, 0), (1, 4)] {
        #expect(
            timeToAnswer(world, from: near, to: far, within: 10) != nil,
            "\(near) to \(far): \(world.storyTail())")
    }
    #expect(world.openStreams >= 2)
    #expect(endpoint(world, from: 2, to: 3)?.isRelayed == true)
    #expect(endpoint(world, from: 4, to: 2)?.isRelayed == true)

    for relay in [0, 1] {
        world.crash(relay, downTime: .seconds(30))
        let gap = timeToAnswer(world, from: 2, to: 4, within: 20)
        print("measured: without n\(relay) an answer after \(gap?.description ?? "-")")
        // Eight seconds are allowed where no other relay is known yet.
        #expect(gap ?? .seconds(20) < .seconds(8), "without n\(relay): \(world.storyTail())")
        let isBack = world.run(until: world.now + .seconds(120)) { $0.isFullyConnected }
        #expect(isBack, "n\(relay) is back: \(world.storyTail())")
    }

    world.dropUDP(of: [])
    let isByUDP = world.run(until: world.now + .seconds(300)) { world in
        [2, 4].allSatisfy { near in
            [0, 1].allSatisfy { far in
                endpoint(world, from: near, to: far).map { !$0.isRelayed } ?? false
            }
        } && world.openStreams == 0
    }
    #expect(isByUDP, "\(world.storyTail())")
}
