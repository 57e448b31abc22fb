import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import Testing

private let world = SocketAddress(ip: .v4(0x2D12_0102), port: 7_001)
private let standIn = SocketAddress(ip: .streamHost, port: 40_000)

/// A node that knows one address, and what it orders.
private struct Bench {
    var finder: PathFinder
    var random = SeededGenerator(seed: 3)
    var now = BootInstant(nanoseconds: 100_000_000_000)
    var actions: [PathAction] = []

    init(address: SocketAddress = world, hasCarrier: Bool = true) {
        let secret = { (tag: UInt8) in SecretBytes(copying: [UInt8](repeating: tag, count: 32)) }
        finder = PathFinder(
            configuration: PathConfiguration(
                meshID: [UInt8](repeating: 9, count: 16), discoverySecret: secret(1),
                admissionSecret: secret(2), signingKey: SigningKey(seed: secret(3)),
                staticKey: StaticPrivateKey(secret(4)), credential: [1], suites: 1,
                capabilities: 0, bootNonce: 5, verifyCredential: { _ in nil }))
        finder.setCarrier(hasCarrier)
        finder.addCandidate(address, source: .configured, at: now)
    }

    /// Lets `span` pass and answers every attempt with `answer`; the attempts with their times.
    mutating func pass(
        _ span: Duration, answering answer: (SocketAddress, StreamKind) -> CarrierReport?
    ) -> [(after: Duration, address: SocketAddress, kind: StreamKind)] {
        let begin = now
        var dials: [(after: Duration, address: SocketAddress, kind: StreamKind)] = []
        while let due = finder.deadline, due <= begin + span {
            now = max(now, due)
            finder.timeout(at: now, random: &random, into: &actions)
            let orders = actions
            actions = []
            for case .carrier(.connect(let address, let kind)) in orders {
                dials.append((now - begin, address, kind))
                guard let report = answer(address, kind) else { continue }
                finder.carrierReported(report, at: now, random: &random, into: &actions)
            }
        }
        now = begin + span
        return dials
    }
}

@Test func whoeverIsSilentByUDPIsTriedByTCP() {
    var bench = Bench()
    let dials = bench.pass(.seconds(5)) { .failed($0, $1) }
    #expect(dials.first.map { $0.after >= .seconds(1) } == true, "UDP has its time")
    #expect(dials.contains { $0.address == world && $0.kind == .plain })
    let secure = SocketAddress(ip: world.ip, port: 443)
    #expect(dials.contains { $0.address == secure && $0.kind == .tls })
}

@Test func whoRefusesIsTriedEverMoreRarely() {
    var bench = Bench()
    let first = bench.pass(.seconds(60)) { .failed($0, $1) }
    #expect(first.count <= 40, "\(first.count)")
    _ = bench.pass(.seconds(600)) { .failed($0, $1) }
    let later = bench.pass(.seconds(600)) { .failed($0, $1) }
    #expect((1...40).contains(later.count), "\(later.count)")
}

@Test func twoStreamsAreEnough() {
    var bench = Bench()
    var port: UInt16 = 40_000
    let dials = bench.pass(.seconds(120)) { address, kind in
        port += 1
        return .connected(SocketAddress(ip: .streamHost, port: port), to: address, kind)
    }
    #expect(dials.count == 2)
}

@Test func nobodyIsTriedByTCPWithoutACarrier() {
    var bench = Bench(hasCarrier: false)
    #expect(bench.pass(.seconds(60)) { _, _ in nil }.isEmpty)
}

/// What stands for a stream means nothing elsewhere, so nobody outside may name it.
@Test func standInsAreNoCandidates() {
    for address in [standIn, SocketAddress(ip: .doorHost, port: 9)] {
        var bench = Bench(address: address)
        #expect(address.isStandIn && bench.finder.deadline == nil)
        #expect(bench.pass(.seconds(60)) { _, _ in nil }.isEmpty)
    }
}

/// Reports about what was never ordered leave nothing behind.
@Test func reportsAboutNothingChangeNothing() {
    var bench = Bench()
    _ = bench.pass(.milliseconds(100)) { _, _ in nil }
    var before = Fingerprint()
    bench.finder.fingerprint(into: &before)
    for report: CarrierReport in [
        .ended(standIn), .failed(world, .plain), .connected(world, to: world, .plain),
        .accepted(world, from: world), .doorUsed(standIn, door: 7, remote: world),
    ] {
        bench.finder.carrierReported(
            report, at: bench.now, random: &bench.random, into: &bench.actions)
    }
    var after = Fingerprint()
    bench.finder.fingerprint(into: &after)
    #expect(before.value == after.value && bench.actions.isEmpty)
}
