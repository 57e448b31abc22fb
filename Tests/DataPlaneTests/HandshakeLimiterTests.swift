import CLinux
import DataPlane
import LinuxIO
import NetAddress
import Testing

@Suite("Handshakes of unproven source")
struct HandshakeLimiterTests {
    let second: UInt64 = 1_000_000_000
    let start: UInt64 = 5_000_000_000_000

    func network(_ number: UInt32) -> clinux_address {
        clinux_address(SocketAddress(ip: .v4(0x0A00_0000 + number), port: 9))
    }

    /// How many of `count` evenly spaced messages of a second pass.
    func passed(
        _ limiter: borrowing HandshakeLimiter, _ source: clinux_address, _ count: UInt64,
        from time: UInt64
    ) -> Int {
        var passed = 0
        for index in 0..<count where limiter.admits(source, at: time + index * second / count) {
            passed += 1
        }
        return passed
    }

    @Test("come through at a rate and in a burst, whoever sends them")
    func oneNetwork() {
        let limiter = HandshakeLimiter(.handshakes, seed: 0x9E37_79B9_7F4A_7C15)
        #expect(passed(limiter, network(1), 900, from: start) == 900)
        let flooded = passed(limiter, network(1), 50_000, from: start + 10 * second)
        #expect((1254...1257).contains(flooded))
        // A second of silence, and the whole burst is there again.
        let again = passed(limiter, network(1), 50_000, from: start + 12 * second)
        #expect((1254...1257).contains(again))
    }

    @Test("leave room for others while one network floods")
    func others() {
        let limiter = HandshakeLimiter(.handshakes, seed: 0x9E37_79B9_7F4A_7C15)
        _ = passed(limiter, network(1), 50_000, from: start)
        #expect(passed(limiter, network(2), 500, from: start + second) == 500)
    }

    @Test("from everywhere pass at what control can do")
    func everywhere() {
        let limiter = HandshakeLimiter(.handshakes, seed: 0x9E37_79B9_7F4A_7C15)
        var passed = 0
        for index in 0..<50_000 as Range<UInt64>
        where limiter.admits(network(UInt32(index) * 977), at: start + index * second / 50_000) {
            passed += 1
        }
        #expect((5000...5600).contains(passed))
    }

    @Test("of one IPv6 subscriber count together, whatever address it picks")
    func subscriber() {
        let limiter = HandshakeLimiter(.handshakes, seed: 0x9E37_79B9_7F4A_7C15)
        var passed = 0
        for number in 0..<10_000 as Range<UInt64> {
            let source = SocketAddress(ip: .v6(0x2001_0DB8 << 32, number), port: 9)
            if limiter.admits(clinux_address(source), at: start) { passed += 1 }
        }
        #expect(passed == 256)
    }
}
