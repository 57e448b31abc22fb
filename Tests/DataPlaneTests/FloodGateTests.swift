import DataPlane
import Glibc
import LinuxIO
import NetAddress
import Testing

@Suite("The gate of a flood")
struct FloodGateTests {
    let window = FloodGate.window

    /// Plays windows of a flood of `count` datagrams each, of which the kernel lets a part
    /// through and the limiter all but ten; the shift after each.
    func play(_ gate: inout FloodGate, _ counts: [Int], from start: UInt64) -> [Int] {
        var now = start
        return counts.map { count in
            for index in 0..<count >> gate.shift {
                gate.count(isRefused: index >= 10, at: now)
            }
            now += window
            if now >= gate.dueAt { _ = gate.turn(at: now, greatest: 12) }
            return gate.shift
        }
    }

    @Test("closes as far as the flood is large, follows it, and opens when it ends")
    func follows() {
        var gate = FloodGate()
        #expect(play(&gate, [5000, 5000, 5000], from: 0) == [6, 6, 6])
        #expect(play(&gate, [40_000, 40_000], from: 10 * window) == [9, 9])
        let opening = play(&gate, [Int](repeating: 0, count: 10), from: 20 * window)
        #expect(opening == [8, 7, 6, 5, 4, 3, 2, 1, 0, 0])
        #expect(gate.dueAt == .max)
    }

    @Test("stays open for what the limiter bears, and for a few refusals")
    func staysOpen() {
        var gate = FloodGate()
        #expect(play(&gate, [10, 59, 30, 0], from: 0) == [0, 0, 0, 0])
        #expect(gate.dueAt == .max)
    }

    @Test("closes no further than the kernel can")
    func bounded() {
        var gate = FloodGate()
        #expect(play(&gate, [10_000_000], from: 0) == [12])
    }
}

extension PlaneTests {
    /// Hundreds of thousands of handshakes a second from strangers; one from where a peer is.
    @Test("hear a peer's handshake through a flood, and open up when it ends")
    func peerInFlood() throws {
        let tunnel = try Tunnel()
        var b = tunnel.b.plane.makeWorker()
        let bogus: [UInt8] = [1, 0, 0, 0] + [UInt8](repeating: 7, count: 144)
        let stranger = try DatagramSocket(boundTo: SocketAddress(ip: .v4(0x7F00_0002), port: 0))
        let limit = SystemClock.bootNanoseconds() + 20_000_000_000
        while b.gate.shift < 6, SystemClock.bootNanoseconds() < limit {
            for _ in 0..<64 { stranger.send(bogus, to: tunnel.b.address) }
            _ = b.round()
        }
        try #require(b.gate.shift >= 6)
        // What came before fills the socket's buffer, and that has no room for friends either.
        while b.round() {}
        _ = tunnel.b.events()

        // Not one of 64 is likely to come through without being known.
        let honest: [UInt8] = [1, 0, 0, 0] + [UInt8](repeating: 9, count: 144)
        /// Works until the honest datagram is there, which the kernel may hand over late.
        func hears() -> Bool {
            while SystemClock.bootNanoseconds() < limit {
                while b.round() {}
                let isThere = tunnel.b.events().contains {
                    guard case .datagram(honest, _) = $0 else { return false }
                    return true
                }
                if isThere { return true }
                usleep(1000)
            }
            return false
        }
        for _ in 0..<5 {
            for _ in 0..<64 { stranger.send(bogus, to: tunnel.b.address) }
            tunnel.a.plane.send(datagram: honest, to: tunnel.b.address)
            try #require(hears())
        }

        // Nobody sends any more: the thread opens the gate by itself.
        while b.gate.shift > 0, SystemClock.bootNanoseconds() < limit {
            usleep(20_000)
            _ = b.round()
        }
        #expect(b.gate.shift == 0)
        stranger.send(honest, to: tunnel.b.address)
        #expect(hears())
    }
}
