import Foundation

/// Something that carries packets from a to b.
struct Candidate {
    let name: String
    /// The cipher of its packets.
    let suite: String
    /// Where iperf3 in a finds its server in b.
    let target: String
    /// The processes whose CPU time is the price: a's end, b's end, and who else is on the way.
    let processes: [Int32]
    var from = "a"
    var to = "b"
    var probes: Set<Probe> = Set(Probe.allCases)
    var handshakes: HandshakeTarget?

    /// Moves b's end to another CPU, all threads.
    func pin(second processor: Int) throws {
        guard processes.count > 1 else { return }
        let process = processes[1]
        try execute(["taskset", "-a", "-p", "-c", "\(processor)", "\(process)"])
    }
}

/// What is asked of a candidate beside one TCP flow both ways.
enum Probe: CaseIterable {
    case fourFlows, datagrams, twoProcessors, pings
}

extension Lab {
    /// No tunnel: what the wire itself can do.
    func bareWire() -> Candidate {
        Candidate(name: "bare veth", suite: "none", target: Side.b.outer, processes: [])
    }

    /// Our packet engine with fixed keys, no control, and copying in the place of encryption.
    func nullEngine() throws -> Candidate {
        try engine("null", suite: "null cipher", device: "null0", network: 5)
    }

    /// Our packet engine with fixed keys and no control.
    func bareEngine() throws -> Candidate {
        var candidate = try engine(
            "aes-256-gcm", suite: "aes-256-gcm", device: "aes0", network: 15)
        candidate.probes = [.pings]
        return candidate
    }

    private func engine(_ cipher: String, suite: String, device: String, network: Int) throws
        -> Candidate
    {
        var processes: [Int32] = []
        let port = 7100 + network
        for side in Side.allCases {
            let words = [
                tools, "tunnel", cipher, device, "\(port)", "\(side.other.outer):\(port)",
                "10.211.\(network).\(side.number)", "10.211.\(network).\(side.other.number)",
            ]
            processes.append(try start(inside(side, words), log: "\(device)-\(side.rawValue)"))
        }
        for side in Side.allCases {
            try waitForDevice(device, side)
            let prefix = ["ip", "-n", space(side)]
            try execute(
                prefix + [
                    "address", "add", "10.211.\(network).\(side.number)/24", "dev", device,
                ])
            try execute(prefix + ["link", "set", device, "mtu", "1420", "up"])
        }
        return Candidate(
            name: "our engine", suite: suite, target: "10.211.\(network).2",
            processes: processes)
    }

    func waitForDevice(_ name: String, _ side: Side) throws {
        for _ in 0..<50 {
            let show = ["ip", "-n", space(side), "link", "show", "dev", name]
            if try execute(show, mayFail: true).status == 0 { return }
            Thread.sleep(forTimeInterval: 0.1)
        }
        throw Failure("\(name) does not appear\n" + logs())
    }

    /// A plain WireGuard tunnel of ours.
    func tunnel(binary: String, version: String, keys: [Side: KeyPair]) throws -> Candidate {
        var processes: [Int32] = []
        for side in Side.allCases {
            guard let own = keys[side], let peer = keys[side.other] else { continue }
            let path = "\(directory)/edge-\(side.rawValue).conf"
            let text = """
                [Interface]
                PrivateKey = \(own.secret)
                ListenPort = 7101
                Address = 10.211.1.\(side.number)/24
                MTU = 1420
                [Peer]
                PublicKey = \(peer.open)
                AllowedIPs = 10.211.1.\(side.other.number)/32
                Endpoint = \(side.other.outer):7101

                """
            try write(text, to: path)
            processes.append(
                try start(
                    inside(side, [binary, "tunnel", "--config", path, "--interface", "edge0"]),
                    log: "edge-\(side.rawValue)"))
        }
        return Candidate(
            name: "edgevpn-swift \(version) tunnel", suite: wireguardSuite, target: "10.211.1.2",
            processes: processes,
            handshakes: keys[.b].map { HandshakeTarget(port: 7101, key: $0.open) })
    }

    func wireguardGo(binary: String, keys: [Side: KeyPair]) throws -> Candidate {
        let version = try execute([binary, "--version"]).output.firstLine
        var processes: [Int32] = []
        for side in Side.allCases {
            processes.append(
                try start(
                    inside(side, [binary, "--foreground", "wgo-\(name)\(side.rawValue)".short]),
                    log: "wgo-\(side.rawValue)", environment: ["LOG_LEVEL": "error"]))
        }
        Thread.sleep(forTimeInterval: 1)
        for side in Side.allCases {
            guard let own = keys[side], let peer = keys[side.other] else { continue }
            let device = "wgo-\(name)\(side.rawValue)".short
            let path = "\(directory)/wgo-\(side.rawValue).key"
            try write(own.secret, to: path)
            try execute(
                inside(
                    side,
                    [
                        "wg", "set", device, "listen-port", "7102", "private-key", path, "peer",
                        peer.open, "allowed-ips", "10.211.2.\(side.other.number)/32", "endpoint",
                        "\(side.other.outer):7102",
                    ]))
            let prefix = ["ip", "-n", space(side)]
            try execute(
                prefix + ["address", "add", "10.211.2.\(side.number)/24", "dev", device])
            try execute(prefix + ["link", "set", device, "mtu", "1420", "up"])
        }
        return Candidate(
            name: version, suite: wireguardSuite, target: "10.211.2.2", processes: processes,
            handshakes: keys[.b].map { HandshakeTarget(port: 7102, key: $0.open) })
    }

    /// Writes a file that no other user can read.
    func write(_ text: String, to path: String) throws {
        let made = FileManager.default.createFile(
            atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
        guard made else { throw Failure("cannot write \(path)") }
    }
}

/// The only one of WireGuard (its protocol paper, section 5.4), named as `status` would.
private let wireguardSuite = "chacha20-poly1305"

struct KeyPair {
    let secret: String
    let open: String

    init() throws {
        secret = try execute(["wg", "genkey"]).output.firstLine
        // Through standard input: a secret is never an argument.
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["wg", "pubkey"]
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        input.fileHandleForWriting.write(Data((secret + "\n").utf8))
        try input.fileHandleForWriting.close()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        open = String(decoding: data, as: UTF8.self).firstLine
    }
}

extension String {
    var firstLine: String { split(separator: "\n").first.map(String.init) ?? "" }

    /// An interface name has at most 15 bytes; the end tells them apart.
    var short: String { count <= 15 ? self : String(prefix(4)) + String(suffix(11)) }
}
