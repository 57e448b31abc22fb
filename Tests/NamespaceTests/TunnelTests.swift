// Our `tunnel` command against Debian's wireguard-go and against itself.
//
//     left  10.200.0.1  e0 ======== e0  10.200.0.2  right
//           fd00:200::1                 fd00:200::2
//     inside the tunnel: left 10.9.0.1, fd00:9::1      right 10.9.0.2, fd00:9::2

import Glibc
import Testing

/// Who speaks WireGuard at one end.
enum TunnelProgram: String, Sendable, CustomTestStringConvertible {
    case ours
    case wireguardGo

    var testDescription: String { self == .ours ? "edgevpn-swift" : "wireguard-go" }
}

struct TunnelPair: Sendable, CustomTestStringConvertible {
    var left: TunnelProgram
    var right: TunnelProgram

    static let all = [
        TunnelPair(left: .ours, right: .wireguardGo), TunnelPair(left: .wireguardGo, right: .ours),
        TunnelPair(left: .ours, right: .ours),
    ]

    var testDescription: String { "\(left.testDescription) -> \(right.testDescription)" }
}

@Suite("A WireGuard tunnel between two machines")
struct TunnelTests {
    /// Traffic begins on the left, so the left end makes the first handshake.
    @Test(arguments: TunnelPair.all)
    func bothFamiliesAndFullPacketsPass(_ pair: TunnelPair) async throws {
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            try await tunnel.expectPing(from: .right)
            #expect(try await tunnel.left.host.pings("fd00:9::2"))
            #expect(try await tunnel.right.host.pings("fd00:9::1"))
            // 20 bytes of IPv4 and 8 of ICMP: exactly the MTU of 1420, and one more.
            for (end, peer) in [(tunnel.left, "10.9.0.2"), (tunnel.right, "10.9.0.1")] {
                let ping = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s"]
                try await end.host.run(ping + ["1392", peer])
                let large = try await end.host.attempt(ping + ["1393", peer])
                #expect(large.status != 0, "\(large.output)")
            }
        }
    }

    @Test(arguments: TunnelPair.all)
    func bulkTrafficFlowsBothWays(_ pair: TunnelPair) async throws {
        try Lab.requireTool("iperf3", package: "iperf3")
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            let server = try tunnel.right.host.start(["iperf3", "-s", "--forceflush"])
            try await server.prints("Server listening")
            for options in [["-4"], ["-R"], ["-P", "4"], ["-u", "-b", "20M", "-l", "1200"]] {
                let client = ["iperf3", "-c", "10.9.0.2", "-t", "1", "--connect-timeout", "5000"]
                let text = try await tunnel.left.host.run(client + options)
                #expect(text.contains("receiver"), "\(text)")
            }
            server.send(SIGKILL)
        }
    }

    @Test(arguments: [
        TunnelPair(left: .ours, right: .wireguardGo), TunnelPair(left: .wireguardGo, right: .ours),
    ])
    func aPresharedKeyIsNeededByBoth(_ pair: TunnelPair) async throws {
        try await withTunnel(pair, presharedKeys: .same) { tunnel in
            try await tunnel.expectPing(from: .left)
        }
        try await withTunnel(pair, presharedKeys: .different) { tunnel in
            for _ in 0..<3 {
                let isAnswered = try await tunnel.left.host.pings("10.9.0.2")
                #expect(!isAnswered)
            }
        }
    }

    @Test(arguments: TunnelPair.all)
    func theOutsideMayBeIPv6(_ pair: TunnelPair) async throws {
        try await withTunnel(pair, outside: .ipv6) { tunnel in
            try await tunnel.expectPing(from: .left)
            try await tunnel.expectPing(from: .right)
        }
    }

    /// A machine moves to another address and speaks; the other end follows it there. Debian's
    /// wireguard-go clings to the source address that it lost until a handshake 15 seconds later.
    @Test(arguments: TunnelPair.all)
    func eitherEndMayRoam(_ pair: TunnelPair) async throws {
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            for (side, address) in [
                (TunnelSide.left, "10.200.0.11"), (.right, "10.200.0.22"), (.left, "10.200.0.1"),
            ] {
                let end = tunnel[side]
                // In this order: with the first address of a network its others would go.
                try await end.host.ip("addr del \(end.address)/24 dev e0")
                try await end.host.ip("addr add \(address)/24 dev e0")
                tunnel[side].address = address
                try await tunnel.expectPing(from: side, within: .seconds(60))
                // Now the other end speaks first, and its configured endpoint is long gone.
                try await tunnel.expectPing(from: side.other)
            }
        }
    }

    /// The restarted machine has something to say, so it makes the handshake.
    @Test(arguments: TunnelPair.all)
    func aRestartedEndSpeaksAgain(_ pair: TunnelPair) async throws {
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            for side in [TunnelSide.left, .right] {
                try await tunnel.restart(side)
                try await tunnel.expectPing(from: side)
                try await tunnel.expectPing(from: side.other)
            }
        }
    }

    /// The restarted machine is silent. The other one sends into a dead session until 15 seconds
    /// without an answer have passed, then makes a new handshake by itself.
    @Test(arguments: TunnelPair.all)
    func aSilentlyRestartedPeerIsFoundAgain(_ pair: TunnelPair) async throws {
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            try await tunnel.restart(.right)
            try await tunnel.expectPing(from: .left, within: .seconds(60))
        }
    }

    /// Two rekeys under traffic, each after REKEY_AFTER_TIME = 120 s. It takes four minutes, next
    /// to the other tests.
    @Test(arguments: TunnelPair.all)
    func rekeysLoseNothing(_ pair: TunnelPair) async throws {
        try await withTunnel(pair) { tunnel in
            try await tunnel.expectPing(from: .left)
            let requests = 500
            let left = try tunnel.left.host.start(
                ["ping", "-n", "-i", "0.5", "-W", "5", "-c", "\(requests)", "10.9.0.2"])
            let right = try tunnel.right.host.start(
                ["ping", "-n", "-i", "0.5", "-W", "5", "-c", "\(requests)", "10.9.0.1"])
            var handshakes: Set<String> = []
            while left.exitCode == nil || right.exitCode == nil {
                if let latest = try await tunnel.latestHandshake() { handshakes.insert(latest) }
                try await Task.sleep(for: .seconds(2))
            }
            for ping in [left, right] {
                let story = String(ping.output.suffix(300))
                #expect(ping.exitCode == 0, "\(story)")
                #expect(story.contains("\(requests) received, 0% packet loss"), "\(story)")
            }
            if pair.left == .wireguardGo || pair.right == .wireguardGo {
                #expect(handshakes.count >= 3, "handshakes at \(handshakes.sorted())")
            } else {
                let count = tunnel.left.reports("handshake with")
                #expect(count >= 3, "\(count) handshakes")
            }
        }
    }

    /// Eight connections through two packet threads at each end, over the first rekey after
    /// REKEY_AFTER_TIME = 120 s. It takes two minutes, next to the other tests.
    @Test func twoShardsCarryTCPThroughARekey() async throws {
        try Lab.requireTool("iperf3", package: "iperf3")
        let pair = TunnelPair(left: .ours, right: .ours)
        try await withTunnel(pair, options: ["--shards", "2"]) { tunnel in
            try await tunnel.expectPing(from: .left)
            for end in [tunnel.left, tunnel.right] {
                let process = try #require(end.process)
                let names = try await end.host.run(
                    ["sh", "-c", "cat /proc/\(process.identifier)/task/*/comm"])
                #expect(names.contains("packets0") && names.contains("packets1"), "\(names)")
            }
            let server = try tunnel.right.host.start(["iperf3", "-s", "--forceflush"])
            try await server.prints("Server listening")
            let client = [
                "iperf3", "-c", "10.9.0.2", "-P", "8", "-b", "2M", "-t", "130", "--bidir",
                "--connect-timeout", "5000",
            ]
            let text = try await tunnel.left.host.run(client, within: .seconds(200))
            server.send(SIGKILL)
            // A second in which a connection carried nothing is one that the rekey cost.
            #expect(!text.contains(" 0.00 Bytes  0.00 bits/sec"), "\(text)")
            let count = tunnel.left.reports("handshake with")
            #expect(count >= 2, "\(count) handshakes")
        }
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGKILL])
    func nothingIsLeftBehind(_ signal: Int32) async throws {
        try await withTunnel(TunnelPair(left: .ours, right: .ours)) { tunnel in
            try await tunnel.expectPing(from: .left)
            let process = try #require(tunnel.left.process)
            process.send(signal)
            let code = try await process.end(within: .seconds(20))
            #expect(code == (signal == SIGKILL ? 128 + SIGKILL : 0), "\(process.output)")
            let host = tunnel.left.host
            try await eventually("the interface and its routes are gone") {
                let links = try await host.ip("-o link")
                let routes = try await host.ip("route") + host.ip("-6 route")
                return !links.contains(tunnel.left.interface) && !routes.contains("10.9.")
                    && !routes.contains("fd00:9:")
            }
        }
    }

    @Test func aTakenNameOrPortIsRefusedAndNothingChanges() async throws {
        try await withTunnel(TunnelPair(left: .ours, right: .ours)) { tunnel in
            let left = tunnel.left
            let program = try Lab.binary()
            let taken = try await left.host.attempt(
                [program, "tunnel", "--config", left.configurationPath, "--interface", "other"])
            #expect(taken.status == 1)
            #expect(taken.output.contains("UDP port 51820 is taken"), "\(taken.output)")

            let text = try #require(Lab.contents(of: left.configurationPath))
            let free = try left.host.lab.file(
                "free.conf", text.replacing("ListenPort = 51820", with: "ListenPort = 51821"))
            let again = try await left.host.attempt(
                [program, "tunnel", "--config", free, "--interface", left.interface])
            #expect(again.status == 1)
            #expect(again.output.contains("\(left.interface) exists already"), "\(again.output)")
            // The same routes again would take the running tunnel's traffic.
            let rival = try await left.host.attempt(
                [program, "tunnel", "--config", free, "--interface", "other"])
            #expect(rival.status == 1)
            #expect(rival.output.contains("cannot add route 10.9.0.2/32"), "\(rival.output)")
            #expect(try await left.host.ip("-o link").contains("other") == false)
            try await tunnel.expectPing(from: .left)
        }
    }

    /// Packets from the tunnel whose source is not the peer's, and packets for nobody, go nowhere.
    @Test func aPeerCannotBorrowAnAddress() async throws {
        try await withTunnel(TunnelPair(left: .ours, right: .wireguardGo)) { tunnel in
            try await tunnel.expectPing(from: .left)
            try await tunnel.right.host.ip("addr add 10.9.0.77/32 dev \(tunnel.right.interface)")
            let borrowed = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", "-I", "10.9.0.77"]
            let counter = try await tunnel.left.host.run(
                ["cat", "/proc/net/snmp"]
            ).split(separator: "\n").filter { $0.hasPrefix("Icmp:") }
            let attempt = try await tunnel.right.host.attempt(borrowed + ["10.9.0.1"])
            #expect(attempt.status != 0)
            let after = try await tunnel.left.host.run(
                ["cat", "/proc/net/snmp"]
            ).split(separator: "\n").filter { $0.hasPrefix("Icmp:") }
            #expect(counter == after, "no echo request reached the machine")
            try await tunnel.expectPing(from: .left)
        }
    }
}
