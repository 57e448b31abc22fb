import Configuration
import Glibc
import HTTPAPI
import LinuxIO
import MeshBase
import NetAddress

extension DemoShow {
    /// Every node knows the same founder, and one of them shows the certificate.
    mutating func watchFounding() async throws -> String {
        try await wait(upTo: .seconds(90)) { show in
            await show.refresh()
            let clusters = show.statuses.compactMap { $0?.cluster }
            if let bad = clusters.first(where: { [.refused, .alarm].contains($0.phase) }) {
                throw StepFailure(reason: "\(bad.phase.rawValue): \(bad.reason ?? "")")
            }
            let founders = Set(clusters.compactMap(\.founder))
            guard clusters.count == show.lab.nodes.count,
                clusters.allSatisfy({ $0.founder != nil }), let founder = founders.first
            else {
                let reasons = clusters.compactMap(\.reason).filter { !$0.isEmpty }
                throw StepFailure(reason: reasons.first ?? "no founder yet")
            }
            guard founders.count == 1 else {
                throw StepFailure(reason: "\(founders.count) founders: \(founders.sorted())")
            }
            let detail = try? await APIClient(show.lab.nodes[0].api).clusterStatus()
            guard let claim = detail?.certificates.first(where: { $0.register == "claim" }) else {
                throw StepFailure(reason: "no certificate of the claim yet")
            }
            let name = show.hostname(of: founder)
            return "\(name) in generation \(claim.generation), signed by \(claim.signers.count) "
                + "of \(counted(show.lab.nodes.count, "voter"))"
        }
    }

    /// The datastore has its servers, healthy over the mesh, and everybody else is an agent.
    mutating func watchMembers() async throws -> String {
        let agents = lab.nodes.count - servers
        let wantedServers = servers
        return try await wait(upTo: .seconds(180)) { show in
            await show.refresh()
            let clusters = show.statuses.compactMap { $0?.cluster }
            let settled = clusters.count { [.ready, .joined].contains($0.phase) }
            let members = Set(clusters.map { ($0.members ?? []).sorted() })
            guard settled == show.lab.nodes.count, members.count == 1,
                let list = members.first, list.count == wantedServers
            else {
                throw StepFailure(
                    reason: "\(settled) of \(show.lab.nodes.count) settled, "
                        + "\(members.map(\.count).max() ?? 0) of \(wantedServers) members")
            }
            guard clusters.allSatisfy({ ($0.agents ?? []).count == agents }) else {
                throw StepFailure(reason: "not all agents are known yet")
            }
            for index in show.statuses.indices where show.isServer(index) {
                try await probing {
                    _ = try await show.etcdctl(on: index, ["endpoint", "health"])
                }
            }
            let names = list.map { show.hostname(of: $0) }.sorted().joined(separator: ", ")
            return "\(list.count) healthy (\(names)), \(counted(agents, "agent"))"
        }
    }

    /// A value written through the founder's datastore is read through another node's.
    mutating func shareValue() async throws -> String {
        let founder = statuses.first { $0?.cluster.phase == .ready }??.node.id
        guard let writer = statuses.firstIndex(where: { $0?.node.id == founder }) else {
            throw StepFailure(reason: "nobody says that it founded")
        }
        let other = statuses.indices.first { $0 != writer && isServer($0) }
        let reader = other ?? writer
        return try await wait(upTo: .seconds(30)) { show in
            var text = ""
            try await probing {
                _ = try await show.etcdctl(on: writer, ["put", "greeting", "hello from the mesh"])
                text = try await show.etcdctl(
                    on: reader, ["get", "greeting", "--print-value-only"])
            }
            guard text.contains("hello from the mesh") else {
                throw StepFailure(reason: "the value is not there yet")
            }
            return "\(show.lab.nodes[writer].hostname) wrote it, "
                + "\(show.lab.nodes[reader].hostname) read it"
        }
    }

    private func isServer(_ index: Int) -> Bool {
        guard let status = statuses[index] else { return false }
        return status.cluster.members?.contains(status.node.id) == true
    }

    private func hostname(of id: String) -> String {
        let node = zip(lab.nodes, statuses).first { $0.1?.node.id == id }
        return node?.0.hostname ?? shortID(id)
    }

    /// Runs etcdctl in a node's namespace against the node's own member.
    private func etcdctl(on index: Int, _ arguments: [String]) async throws -> String {
        let node = lab.nodes[index]
        let lab = lab
        guard let ipv4 = statuses[index]?.node.ipv4 else {
            throw ProbeFailure("\(node.hostname) has no IPv4 address")
        }
        let files = "\(node.state)/cluster"
        let command =
            [
                "etcdctl", "--endpoints", "https://\(ipv4):2379", "--cacert", "\(files)/ca.crt",
                "--cert", "\(files)/node.crt", "--key", "\(files)/node.key",
                "--command-timeout", "5s",
            ] + arguments
        return try await onThread {
            try lab.run(command, in: node, variables: ["ETCDCTL_API": "3"])
        }
    }

    /// TCP from the first node to the last, for three seconds.
    mutating func measure() async throws -> String {
        let last = lab.nodes.count - 1
        guard let target = addresses(of: last).first else {
            throw StepFailure(reason: "no address")
        }
        screen.progress(current, "three seconds", nodes: nodeLines)
        if isInstalled("iperf3") {
            return try await measureWithIperf(from: lab.nodes[0], to: lab.nodes[last], target)
        }
        let address = SocketAddress(ip: target, port: 5_201)
        let sink = try await onThread(in: lab.nodes[last].namespace) { try ByteSink(at: address) }
        async let sent: Void = onThread(in: lab.nodes[0].namespace) {
            try pour(to: address, for: .seconds(3))
        }
        let (bytes, seconds) = try await onThread { try sink.drain() }
        try await sent
        let megabits = Double(bytes) * 8 / max(seconds, 0.001) / 1e6
        return describe(megabits, "own TCP copy")
    }

    private struct IperfReport: Codable {
        struct End: Codable {
            struct Sum: Codable {
                var bits_per_second: Double
            }

            var sum_received: Sum
        }

        var end: End
    }

    private func measureWithIperf(from client: DemoNode, to server: DemoNode, _ target: IPAddress)
        async throws -> String
    {
        let lab = lab
        let listener = try lab.start(
            ["iperf3", "--server", "--one-off", "--bind", "\(target)"], in: server, log: nil)
        defer { kill(listener.pid, SIGKILL) }
        // The server says nothing when it listens, so the client tries again.
        for attempt in 1...20 {
            try await pause()
            do {
                let text = try await onThread {
                    try lab.run(
                        ["iperf3", "--client", "\(target)", "--time", "3", "--json"], in: client)
                }
                let report = try decodeJSON(IperfReport.self, from: Array(text.utf8))
                return describe(report.end.sum_received.bits_per_second / 1e6, "iperf3, TCP")
            } catch {
                if attempt == 20 { throw StepFailure(reason: "iperf3: \(error)") }
            }
        }
        throw StepFailure(reason: "iperf3 never began")
    }

    private func describe(_ megabits: Double, _ method: String) -> String {
        "\(rounded(megabits, 0)) Mbit/s from \(lab.nodes[0].hostname) to "
            + "\(lab.nodes[lab.nodes.count - 1].hostname) (\(method))"
    }
}
