// One namespace with nothing but loopback:
//
//     the test -> 127.0.0.1:5300  name server of the mesh -> 127.0.0.2, .3, .4: dnsmasq, port 5300

import DNS
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Runtime
import Testing

@Suite struct UpstreamLossTests {
    @Test func twoOfThreeUpstreamsMayDieAndThenTheThird() throws {
        let story = try inNewNamespace { () throws -> Story in
            var upstreams: [RunningProgram] = []
            let places = (2...4).map { SocketAddress(ip: .v4(0x7F00_0000 + $0), port: 5300) }
            for place in places {
                upstreams.append(
                    try startProgram([
                        "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file",
                        "--no-resolv", "--no-hosts", "--port=5300", "--bind-interfaces",
                        "--listen-address=\(place.ip)", "--address=/#/192.0.2.7",
                        "--local-ttl=1",
                    ]))
            }
            defer { for upstream in upstreams { upstream.terminate() } }
            for place in places { try awaitAnswer(place) }
            let own = SocketAddress(ip: .v4(0x7F00_0001), port: 5300)
            let server = try NameServer(
                NameServerConfiguration(fixedAddresses: [own], upstreams: places),
                table: NameTable(zone: DNSName("mesh.internal") ?? .root)
            ) { print($0) }
            defer { server.stop() }

            var story = Story()
            for number in 0..<60 {
                // In the middle of it, one after the other, without a goodbye.
                if number == 10 { upstreams[0].terminate() }
                if number == 30 { upstreams[1].terminate() }
                let first = try ask("n\(number).example", at: own, patience: 2_500)
                if first?.answers.isEmpty ?? true {
                    story.retried += 1
                    let second = try ask("n\(number).example", at: own, patience: 5_000)
                    if second?.answers.isEmpty ?? true { story.lost += 1 }
                }
            }
            upstreams[2].terminate()
            upstreams = []
            // The answers that are there have ended, and nobody has newer ones.
            usleep(1_500_000)
            story.stale = try ask("n59.example", at: own, patience: 10_000)
            story.unknown = try ask("never.example", at: own, patience: 10_000)
            return story
        }
        #expect(story.lost == 0)
        #expect(story.retried <= 2)
        #expect(story.stale?.answers.map(\.ttl) == [30])
        #expect(story.stale?.edns?.extendedError == EDNS.staleAnswer)
        #expect(story.unknown?.code == .serverFailure)
    }

    /// What the fuzzers' corpus holds, and worse, over both transports: the server answers as it
    /// should afterwards, and has not grown.
    @Test func hostileBytesLeaveTheServerAsItWas() throws {
        let (isAlive, growth, slow) = try inNewNamespace { () throws -> (Bool, Int, Bool) in
            let own = SocketAddress(ip: .v4(0x7F00_0001), port: 5300)
            let zone = DNSName("mesh.internal") ?? .root
            let server = try NameServer(
                NameServerConfiguration(fixedAddresses: [own]),
                table: NameTable(
                    zone: zone, nameServer: "a", serial: 1, prefixes: [],
                    hosts: [HostNames(name: "a", addresses: [.v4(0x0A01_0001)])])
            ) { print($0) }
            defer { server.stop() }
            var random = SeededGenerator(seed: Bytes32.zero)
            var query = DNSMessage(id: 1, flags: .recursionDesired)
            query.questions = [DNSQuestion(DNSName("a.mesh.internal") ?? .root, .a)]
            query.edns = EDNS()
            let good = query.encoded()
            let socket = try DatagramSocket(boundTo: SocketAddress(ip: .v4(0), port: 0))
            try socket.connect(to: own)
            func flood(_ count: Int) throws {
                for number in 0..<count {
                    var bytes = good
                    for _ in 0..<(1 + number % 4) {
                        bytes[Int(random.next() % UInt64(bytes.count))] ^= UInt8(
                            truncatingIfNeeded: random.next())
                    }
                    if number % 7 == 0 { bytes.removeLast(Int(random.next() % 20)) }
                    socket.send(bytes, to: nil)
                    while case .datagram = socket.receive() {}
                    // A whole stream of the largest messages, now and then.
                    if number % 20_000 == 0 {
                        let huge = (0..<65_000).map { _ in UInt8(truncatingIfNeeded: random.next())
                        }
                        _ = try DNSExchange.tcp(huge, to: own)
                    }
                }
            }
            try flood(20_000)
            let before = residentKiB()
            try flood(60_000)
            let growth = residentKiB() - before
            // A client that sends a byte and waits loses its connection, not the server.
            let lazy = try StreamSocket(connectingTo: own)
            var isClosed = false
            for _ in 0..<300 where !isClosed {
                _ = lazy.send([0])
                var entry = pollfd(fd: lazy.descriptor, events: Int16(POLLIN), revents: 0)
                poll(&entry, 1, 100)
                var input: [UInt8] = []
                isClosed =
                    switch lazy.receive(into: &input, limit: 16) {
                    case .ended, .failed: true
                    case .moved, .wouldBlock: false
                    }
            }
            let alive = try ask("a.mesh.internal", at: own, patience: 5_000)
            return (alive?.answers.count == 1, growth, isClosed)
        }
        #expect(isAlive)
        // Other tests run in this process; a kilobyte kept of every message would show.
        #expect(growth < 49_152, "resident memory grew by \(growth) KiB")
        #expect(slow, "a connection without a whole query in ten seconds is closed")
    }
}

private struct Story: Sendable {
    var retried = 0
    var lost = 0
    var stale: DNSMessage?
    var unknown: DNSMessage?
}

private func ask(_ name: String, at place: SocketAddress, patience: Int32) throws -> DNSMessage? {
    var query = DNSMessage(id: 9, flags: .recursionDesired)
    query.questions = [DNSQuestion(DNSName(name) ?? .root, .a)]
    query.edns = EDNS()
    let reply = try DNSExchange.udp(query.encoded(), to: place, patience: patience)
    return try reply.map { try DNSMessage(decoding: $0) }
}

private func awaitAnswer(_ place: SocketAddress) throws {
    for _ in 0..<100 {
        if try ask("ready.example", at: place, patience: 100)?.answers.count == 1 { return }
        usleep(50_000)
    }
    throw SystemCallError("ask \(place)", code: ETIMEDOUT)
}

private func residentKiB() -> Int {
    let fields = (SystemFile.text("/proc/self/statm") ?? "").split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4 : 0
}
