import CLinux
import Glibc
import LinuxIO
import NetAddress
import Testing

@Suite("The filter of a flood")
struct DatagramSamplingTests {
    let receiver: UDPSocket
    let wanted: (UInt32, UInt32) = (0x0400_0000, 0xEB56_0104)

    init() throws {
        receiver = try UDPSocket(port: 0)
    }

    func attach(_ sampling: inout DatagramSampling, shift: Int) throws {
        let isTaken = sampling.attach(to: receiver.endpoint, shift: shift, wanted: wanted)
        try #require(isTaken)
    }

    /// How many of `count` datagrams from `source` get through.
    func received(
        of count: Int, from source: String, port: UInt16 = 0, _ bytes: [UInt8]
    ) throws -> Int {
        let ip = try #require(IPAddress(source))
        let sender = try DatagramSocket(boundTo: SocketAddress(ip: ip, port: port))
        let home: IPAddress = source.contains(":") ? .v6(0, 1) : .v4(0x7F00_0001)
        let target = SocketAddress(ip: home, port: receiver.port)
        let room = IncomingRoom()
        defer { withExtendedLifetime(room) {} }
        var received = 0
        // On the loopback a datagram is in the other socket's buffer when the call returns.
        for _ in 0..<count {
            sender.send(bytes, to: target)
            let arrived = receiver.endpoint.receive(&room.messages, count: 8)
            for message in room.messages.prefix(max(arrived, 0)) {
                received += Int(message.count) / bytes.count
            }
        }
        return received
    }

    @Test(
        "lets packets and known sources through, and of all others a part",
        arguments: [("127.0.0.2", "127.0.0.3"), ("::1", "127.0.0.3"), ("127.0.0.2", "::1")])
    func parts(known: String, unknown: String) throws {
        var sampling = DatagramSampling()
        let ip = try #require(IPAddress(known))
        let port = try freePort(of: ip)
        sampling.know(clinux_address(SocketAddress(ip: ip, port: port)))
        try attach(&sampling, shift: 2)
        #expect(try received(of: 300, from: known, port: port, [1, 0, 0, 0, 5]) == 300)
        #expect(try received(of: 300, from: known, [1, 0, 0, 0, 5]) < 200)
        #expect(try received(of: 300, from: unknown, [4, 0, 0, 0, 5]) == 300)
        #expect(try received(of: 300, from: unknown, [0xEB, 0x56, 1, 4, 5]) == 300)
        // 1,000 are expected of 4,000; fewer than 800 or more than 1,200 would be seven deviations.
        let sampled = try received(of: 4000, from: unknown, [1, 0, 0, 0, 5])
        #expect((800...1200).contains(sampled))

        DatagramSampling.detach(from: receiver.endpoint)
        #expect(try received(of: 300, from: unknown, [1, 0, 0, 0, 5]) == 300)
    }

    @Test("knows as many sources as it says, each of them")
    func many() throws {
        var sampling = DatagramSampling()
        let ports = try (0..<UInt32(DatagramSampling.knownCapacity)).map { number in
            let ip = IPAddress.v4(0x7F01_0000 + number)
            let port = try freePort(of: ip)
            sampling.know(clinux_address(SocketAddress(ip: ip, port: port)))
            return port
        }
        try attach(&sampling, shift: DatagramSampling.greatestShift)
        for number in [0, 1, 249, 250, 251, 499, 500, 511] {
            let source = "127.1.\(number / 256).\(number % 256)"
            let through = try received(of: 5, from: source, port: ports[number], [1, 0, 0, 0])
            #expect(through == 5, "\(source)")
        }
        #expect(try received(of: 1000, from: "127.0.0.1", [1, 0, 0, 0]) < 20)

        sampling.forgetSources()
        try attach(&sampling, shift: DatagramSampling.greatestShift)
        #expect(try received(of: 1000, from: "127.1.0.0", port: ports[0], [1, 0, 0, 0]) < 20)
    }

    /// A port at which nobody listens just now.
    func freePort(of ip: IPAddress) throws -> UInt16 {
        try DatagramSocket(boundTo: SocketAddress(ip: ip, port: 0)).localAddress.port
    }
}
