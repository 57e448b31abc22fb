import Foundation

/// What is measured once and has no counterpart to compare with.
extension Lab {
    func facts(_ programs: Programs) throws -> [(String, String)] {
        let rest = try membersAtRest(programs.binary, peers: 10)
        var facts = [
            (
                "resident, a tunnel with 1,000 peers at rest, MiB",
                String(format: "%.1f", try manyPeers(programs.binary, count: 1000))
            ),
            (
                "resident, a member of a mesh with ten peers at rest, MiB",
                String(format: "%.1f", rest[.idleMemory] ?? .nan)
            ),
            (
                "CPU, the same, % of a core",
                String(format: "%.3f", rest[.idleShare] ?? .nan)
            ),
        ]
        let words = processor.map { ["taskset", "-c", "\($0)"] } ?? []
        for line in try execute(words + [programs.micro]).output.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
            if parts.count == 2 {
                facts.append((parts[0], parts[1].trimmingCharacters(in: .whitespaces)))
            }
        }
        return facts
    }

    /// Resident memory of a tunnel with so many peers, which never hears of any of them.
    private func manyPeers(_ binary: String, count: Int) throws -> Double {
        let path = "\(directory)/many.conf"
        var text = """
            [Interface]
            PrivateKey = \(try KeyPair().secret)
            ListenPort = 7110
            Address = 10.212.0.1/16

            """
        for number in 0..<count {
            let key = Data((0..<32).map { _ in UInt8.random(in: 0...255) }).base64EncodedString()
            text += """
                [Peer]
                PublicKey = \(key)
                AllowedIPs = 10.212.\(number / 250 + 1).\(number % 250)/32
                Endpoint = 192.0.2.1:\(1000 + number)

                """
        }
        try write(text, to: path)
        let process = try start(
            inside(.a, [binary, "tunnel", "--config", path, "--interface", "many0"]), log: "many")
        let candidate = Candidate(name: "many", suite: "", target: "", processes: [process])
        try waitForDevice("many0", .a)
        Thread.sleep(forTimeInterval: 3)
        guard let memory = candidate.residentMebibytes() else {
            throw Failure("the tunnel with many peers ended\n" + logs())
        }
        kill(process, SIGTERM)
        return memory
    }

    /// What a member costs that is alone on its side, while it and so many others, which share the
    /// other side, have nothing to send.
    private func membersAtRest(_ binary: String, peers: Int) throws -> [Metric: Double] {
        let token = try newToken(binary: binary, file: "rest-token")
        let port = 7120
        let one = try start(
            inside(
                .a,
                memberWords(
                    binary: binary, token: token, name: "rest0", port: port, interface: "rest0")),
            log: "rest0")
        let others = try (1...peers).map { number in
            let name = "rest\(number)"
            let words = memberWords(
                binary: binary, token: token, name: name, port: port + number, interface: name)
            return try start(
                inside(.b, words + ["--peer", "\(Side.a.outer):\(port)"]), log: name)
        }
        defer { for process in others + [one] { kill(process, SIGTERM) } }
        let candidate = Candidate(name: "rest", suite: "", target: "", processes: [one])
        for _ in 0..<150 {
            Thread.sleep(forTimeInterval: 0.2)
            let status = try memberStatus(binary: binary, "rest0")
            guard status?.peers.count(where: { $0.state == "alive" && $0.suite != nil }) == peers
            else { continue }
            // What follows a meeting is over by then.
            Thread.sleep(forTimeInterval: 10)
            return idle([candidate], seconds: 20)[0]
        }
        throw Failure("the members did not meet\n" + logs())
    }
}
