import Foundation

// Other tunnels, where they are installed. Each with its own usual settings, MTU 1420, and keys
// made for the run.
extension Lab {
    /// What each is called and how it is started.
    static var others: [(name: String, program: String, start: (Lab) throws -> Candidate)] {
        [
            ("nebula", "nebula", { try $0.nebula() }),
            ("openvpn", "openvpn", { try $0.openvpn() }),
            ("fastd", "fastd", { try $0.fastd() }),
            ("tinc", "tincd", { try $0.tinc() }),
        ]
    }

    private func other(
        _ name: String, _ version: String, _ suite: String, _ network: Int, _ processes: [Int32]
    ) -> Candidate {
        Candidate(
            name: "\(name) \(version)", suite: suite, target: "10.211.\(network).2",
            processes: processes, probes: [.datagrams, .pings])
    }

    private func address(_ device: String, _ network: Int) throws {
        for side in Side.allCases {
            try waitForDevice(device, side)
            let prefix = ["ip", "-n", space(side)]
            try execute(
                prefix + ["address", "add", "10.211.\(network).\(side.number)/24", "dev", device])
            try execute(prefix + ["link", "set", device, "mtu", "1420", "up"])
        }
    }

    private func nebula() throws -> Candidate {
        let version = try execute(["nebula", "-version"]).output.firstLine
            .split(separator: " ").last.map(String.init)
        let base = "\(directory)/nebula"
        try FileManager.default.createDirectory(atPath: base, withIntermediateDirectories: true)
        try execute([
            "nebula-cert", "ca", "-name", "benchmark", "-out-crt", "\(base)/ca.crt", "-out-key",
            "\(base)/ca.key",
        ])
        var processes: [Int32] = []
        for side in Side.allCases {
            let own = "\(base)/\(side.rawValue)"
            try execute([
                "nebula-cert", "sign", "-name", side.rawValue, "-ip", "10.211.6.\(side.number)/24",
                "-ca-crt", "\(base)/ca.crt", "-ca-key", "\(base)/ca.key", "-out-crt", "\(own).crt",
                "-out-key", "\(own).key",
            ])
            let text = """
                pki: {ca: \(base)/ca.crt, cert: \(own).crt, key: \(own).key}
                static_host_map: {"10.211.6.\(side.other.number)": ["\(side.other.outer):7106"]}
                lighthouse: {am_lighthouse: false}
                listen: {host: 0.0.0.0, port: 7106}
                tun: {dev: nebula0, mtu: 1420}
                cipher: aes
                logging: {level: error}
                firewall:
                  outbound: [{port: any, proto: any, host: any}]
                  inbound: [{port: any, proto: any, host: any}]

                """
            try write(text, to: "\(own).yml")
            processes.append(
                try start(
                    inside(side, ["nebula", "-config", "\(own).yml"]),
                    log: "nebula-\(side.rawValue)"))
        }
        return other("nebula", version ?? "", "aes-256-gcm", 6, processes)
    }

    private func openvpn() throws -> Candidate {
        let version = try execute(["openvpn", "--version"], mayFail: true).output
            .split(separator: " ").dropFirst().first.map(String.init)
        var prints: [Side: String] = [:]
        for side in Side.allCases {
            let own = "\(directory)/openvpn-\(side.rawValue)"
            try execute([
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                "/CN=\(side.rawValue)", "-keyout", "\(own).key", "-out", "\(own).crt",
            ])
            let shown = try execute([
                "openssl", "x509", "-in", "\(own).crt", "-noout", "-sha256", "-fingerprint",
            ]).output.firstLine
            prints[side] = shown.split(separator: "=").last.map(String.init)
        }
        var processes: [Int32] = []
        for side in Side.allCases.reversed() {
            let own = "\(directory)/openvpn-\(side.rawValue)"
            guard let peer = prints[side.other] else { throw Failure("openssl shows no print") }
            let role =
                side == .b
                ? ["--tls-server", "--dh", "none"]
                : ["--tls-client", "--remote", side.other.outer, "7107"]
            let words =
                [
                    "openvpn", "--dev", "openvpn0", "--dev-type", "tun", "--proto", "udp4",
                    "--lport", "7107", "--ifconfig", "10.211.7.\(side.number)",
                    "10.211.7.\(side.other.number)", "--tun-mtu", "1420", "--data-ciphers",
                    "AES-256-GCM", "--cert", "\(own).crt", "--key", "\(own).key",
                    "--peer-fingerprint", peer, "--verb", "1",
                ] + role
            processes.insert(
                try start(inside(side, words), log: "openvpn-\(side.rawValue)"), at: 0)
        }
        return other("openvpn", version ?? "", "aes-256-gcm", 7, processes)
    }

    private func fastd() throws -> Candidate {
        let version = try execute(["fastd", "--version"]).output.firstLine
            .split(separator: " ").last.map(String.init)
        var keys: [Side: (secret: String, open: String)] = [:]
        for side in Side.allCases {
            let lines = try execute(["fastd", "--generate-key"]).output.split(separator: "\n")
            let values = lines.compactMap { $0.split(separator: " ").last.map(String.init) }
            guard values.count >= 2 else { throw Failure("fastd made no key") }
            keys[side] = (values[values.count - 2], values[values.count - 1])
        }
        var processes: [Int32] = []
        for side in Side.allCases {
            guard let own = keys[side], let peer = keys[side.other] else { continue }
            let path = "\(directory)/fastd-\(side.rawValue).conf"
            let text = """
                mode tun;
                interface "fastd0";
                method "salsa2012+umac";
                bind 0.0.0.0:7108;
                mtu 1420;
                secret "\(own.secret)";
                peer "other" { key "\(peer.open)"; remote \(side.other.outer):7108; }

                """
            try write(text, to: path)
            let file = "\(directory)/fastd-\(side.rawValue).pid"
            processes.append(
                try startDaemon(
                    inside(side, ["fastd", "-c", path, "--daemon", "--pid-file", file]),
                    log: "fastd-\(side.rawValue)", file: file))
        }
        try address("fastd0", 8)
        return other("fastd", version ?? "", "salsa2012+umac", 8, processes)
    }

    private func tinc() throws -> Candidate {
        let version = try execute(["tincd", "--version"]).output.firstLine
            .split(separator: " ").dropFirst(2).first.map(String.init)
        var processes: [Int32] = []
        let bases = Side.allCases.map { "\(directory)/tinc-\($0.rawValue)" }
        for (side, base) in zip(Side.allCases, bases) {
            try FileManager.default.createDirectory(
                atPath: "\(base)/hosts", withIntermediateDirectories: true)
            let connect = side == .a ? "ConnectTo = b\n" : ""
            try write(
                "Name = \(side.rawValue)\nInterface = tinc0\nMode = router\n\(connect)",
                to: "\(base)/tinc.conf")
            try write(
                """
                Address = \(side.outer)
                Port = 7109
                Subnet = 10.211.9.\(side.number)/32
                Cipher = aes-256-cbc
                Digest = sha256

                """, to: "\(base)/hosts/\(side.rawValue)")
            // It asks where to put the key, and takes the end of its input for consent.
            try execute(["sh", "-c", "tincd -c \(base) -K2048 </dev/null"])
        }
        for side in Side.allCases {
            let file = "hosts/\(side.rawValue)"
            let from = "\(directory)/tinc-\(side.rawValue)/\(file)"
            try execute(["cp", from, "\(directory)/tinc-\(side.other.rawValue)/\(file)"])
        }
        for (side, base) in zip(Side.allCases, bases) {
            let words = ["tincd", "-c", base, "-D", "--pidfile=\(base)/pid"]
            processes.append(try start(inside(side, words), log: "tinc-\(side.rawValue)"))
        }
        try address("tinc0", 9)
        return other("tinc", version ?? "", "aes-256-cbc, sha256", 9, processes)
    }
}
