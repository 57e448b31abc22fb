import Glibc
import Testing

/// One of the two machines.
enum TunnelSide: Sendable {
    case left, right

    var other: TunnelSide { self == .left ? .right : .left }
}

/// How the preshared keys of the two ends relate.
enum TunnelSecrets: Sendable { case none, same, different }

enum TunnelOutside: Sendable { case ipv4, ipv6 }

/// One end of the tunnel under test.
struct TunnelEnd: Sendable {
    let program: TunnelProgram
    let host: LabHost
    let interface: String
    /// The outer IPv4 address at the moment.
    var address: String
    let innerAddresses: [String]
    let configurationPath: String
    /// Of our program.
    var options: [String] = []
    var process: LabProcess?

    /// How often the program has reported `text`.
    func reports(_ text: String) -> Int {
        (process?.output ?? "").split(separator: "\n").count { $0.contains(text) }
    }
}

/// Two machines with a tunnel between them, running.
final class TunnelLab {
    var left: TunnelEnd
    var right: TunnelEnd

    init(left: TunnelEnd, right: TunnelEnd) {
        self.left = left
        self.right = right
    }

    subscript(side: TunnelSide) -> TunnelEnd {
        get { side == .left ? left : right }
        set { if side == .left { left = newValue } else { right = newValue } }
    }

    /// Fails unless the other end answers before `limit` has passed.
    func expectPing(from side: TunnelSide, within limit: Duration = .seconds(20)) async throws {
        let target = self[side.other].innerAddresses[0]
        let address = String(target.prefix { $0 != "/" })
        try await eventually("\(side) reaches the other end\n\(story)", within: limit) {
            try await self[side].host.pings(address)
        }
    }

    private var story: String {
        [left, right].map { "\($0.host.name): \($0.process?.output ?? "")" }.joined(separator: "\n")
    }

    func start(_ side: TunnelSide) async throws {
        let end = self[side]
        switch end.program {
        case .ours:
            let process = try end.host.start(
                [
                    try Lab.binary(), "tunnel", "--config", end.configurationPath, "--interface",
                    end.interface,
                ] + end.options)
            self[side].process = process
            try await process.prints("\(end.interface) is up")
        case .wireguardGo:
            let process = try end.host.start(["wireguard-go", "-f", end.interface])
            self[side].process = process
            let control = "\(Lab.wireguardDirectory)/\(end.interface).sock"
            try await eventually("wireguard-go listens on \(control)\n\(process.output)") {
                access(control, F_OK) == 0
            }
            try await end.host.run(["wg", "setconf", end.interface, end.configurationPath])
            for address in end.innerAddresses {
                let option = address.contains(":") ? " nodad" : ""
                try await end.host.ip("addr add \(address) dev \(end.interface)\(option)")
            }
            try await end.host.ip("link set \(end.interface) mtu 1420 up")
        }
    }

    /// Kills the program without a word and starts it again.
    func restart(_ side: TunnelSide) async throws {
        let process = try #require(self[side].process)
        process.send(SIGKILL)
        try await process.end(within: .seconds(10))
        let end = self[side]
        if end.program == .wireguardGo { unlink("\(Lab.wireguardDirectory)/\(end.interface).sock") }
        try await eventually("the dead program's interface is gone") {
            try await !end.host.ip("-o link").contains(end.interface)
        }
        try await start(side)
    }

    /// When the wireguard-go end last completed a handshake; `nil` without such an end.
    func latestHandshake() async throws -> String? {
        guard let end = [left, right].first(where: { $0.program == .wireguardGo }) else {
            return nil
        }
        let text = try await end.host.run(["wg", "show", end.interface, "latest-handshakes"])
        return text.split(whereSeparator: \.isWhitespace).last.map(String.init)
    }
}

/// Runs `body` with a running tunnel between two machines.
func withTunnel(
    _ pair: TunnelPair, presharedKeys: TunnelSecrets = .none, outside: TunnelOutside = .ipv4,
    options: [String] = [], _ body: (TunnelLab) async throws -> Void
) async throws {
    _ = try Lab.binary()
    try Lab.requireTool("wg", package: "wireguard-tools")
    try Lab.requireTool("wireguard-go", package: "wireguard-go")
    try Lab.requireTool("ping", package: "iputils-ping")
    try await withLab { lab in
        let hosts = [try await lab.host("left"), try await lab.host("right")]
        try await lab.cable("e0", hosts[0], hosts[1])
        var keys: [(secret: String, open: String)] = []
        for host in hosts { keys.append(try await makeKeys(host)) }
        let shared = try await hosts[0].run(["wg", "genpsk"])
        let stray = try await hosts[0].run(["wg", "genpsk"])

        var ends: [TunnelEnd] = []
        for (index, host) in hosts.enumerated() {
            let (own, other) = (index + 1, 2 - index)
            let program = index == 0 ? pair.left : pair.right
            try await host.ip("addr add 10.200.0.\(own)/24 dev e0")
            try await host.ip("addr add fd00:200::\(own)/64 dev e0 nodad")
            let inner = ["10.9.0.\(own)/24", "fd00:9::\(own)/64"]
            let endpoint =
                outside == .ipv4 ? "10.200.0.\(other):51820" : "[fd00:200::\(other)]:51820"
            var text = "[Interface]\nPrivateKey = \(keys[index].secret)\nListenPort = 51820\n"
            if program == .ours {
                text += "Address = \(inner.joined(separator: ", "))\nMTU = 1420\n"
            }
            text += "[Peer]\nPublicKey = \(keys[1 - index].open)\nEndpoint = \(endpoint)\n"
            text += "AllowedIPs = 10.9.0.\(other)/32, fd00:9::\(other)/128\n"
            switch (presharedKeys, index) {
            case (.none, _): break
            case (.same, _), (.different, 0): text += "PresharedKey = \(shared)"
            case (.different, _): text += "PresharedKey = \(stray)"
            }
            ends.append(
                TunnelEnd(
                    program: program, host: host, interface: lab.unique(index == 0 ? "l" : "r"),
                    address: "10.200.0.\(own)", innerAddresses: inner,
                    configurationPath: try lab.file("\(host.name).conf", text),
                    options: options))
        }
        let tunnel = TunnelLab(left: ends[0], right: ends[1])
        // The control sockets of wireguard-go are not in a namespace, and it leaves them behind
        // when it is killed.
        defer { for end in ends { unlink("\(Lab.wireguardDirectory)/\(end.interface).sock") } }
        try await tunnel.start(.left)
        try await tunnel.start(.right)
        try await body(tunnel)
    }
}

private func makeKeys(_ host: LabHost) async throws -> (secret: String, open: String) {
    let secret = try await host.run(["wg", "genkey"]).filter { !$0.isNewline }
    let path = try host.lab.file("\(host.name).key", secret)
    let open = try await host.run(["sh", "-c", "wg pubkey < \(path)"])
    return (secret, open.filter { !$0.isNewline })
}
