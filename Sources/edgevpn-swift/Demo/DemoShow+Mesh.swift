import Configuration
import Consensus
import FoundationEssentials
import Glibc
import HTTPAPI
import LinuxIO
import MeshBase
import MeshNode
import NetAddress

extension DemoShow {
    /// Makes the namespaces and a token with a founding policy for exactly these nodes.
    mutating func prepare() async throws -> String {
        let lab = lab
        try await onThread { try lab.build() }
        let token = try await makeToken()
        let descriptor = open(tokenFile, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw ProbeFailure.system("make the token's file") }
        write(bytes: Array(token.text.utf8), to: descriptor)
        close(descriptor)
        let place = lab.isDurable ? "" : ", on a disk that does not outlive a restart"
        if cluster == .etcd, !lab.isDurable {
            throw StepFailure(
                reason: "every directory for state is on tmpfs or overlay, where nodes never vote; "
                    + "set TMPDIR to a real disk, or say --cluster none")
        }
        return
            "\(counted(lab.nodes.count, "node")) on one bridge, mesh \(token.meshID.hex.prefix(8))\(place)"
    }

    private var tokenFile: String { "\(lab.directory)/token" }

    private func makeToken() async throws -> NetworkToken {
        var request = TokenRequest()
        request.name = "demo"
        request.dht = .off
        if cluster == .etcd {
            var mode = GenesisPolicy.Mode.count
            if lab.nodes.count == 1 {
                // One voter founds from the token alone only when the token names it.
                let text = try lab.run(
                    [program, "id", "--state-dir", lab.nodes[0].state], in: lab.nodes[0])
                let digits = text.split(separator: "\n").last.map(String.init) ?? ""
                guard let bytes = [UInt8](hex: digits), let id = Bytes32(bytes) else {
                    throw StepFailure(reason: "`id` printed \(digits)")
                }
                mode = .designated(NodeID(id))
            }
            request.policy = GenesisPolicy(
                mode: mode, voterLimit: lab.nodes.count, servers: servers)
        }
        var random = SystemRandomNumberGenerator()
        return try NetworkToken.make(request, random: &random).token
    }

    /// This very program.
    private var program: String {
        var buffer = [CChar](repeating: 0, count: 4_096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let bytes = buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    mutating func startNodes() async throws -> String {
        for node in lab.nodes {
            let arguments = [
                program, "up", "--token-file", tokenFile, "--state-dir", node.state,
                "--hostname", node.hostname, "--api", "\(node.api)", "--dht", "off",
                "--cluster", cluster.description, "--log-level", "info",
            ]
            children.append(try lab.start(arguments, in: node, log: node.log))
        }
        started = SystemClock.boot()
        return try await wait(upTo: .seconds(20)) { show in
            await show.refresh()
            let answering = show.statuses.count { $0 != nil }
            guard answering == show.lab.nodes.count else {
                throw StepFailure(reason: "\(answering) of \(show.lab.nodes.count)")
            }
            return "\(counted(answering, "process", "processes")), each with its own API socket"
        }
    }

    mutating func claimAddresses() async throws -> String {
        try await wait(upTo: .seconds(30)) { show in
            await show.refresh()
            let nodes = show.statuses.compactMap { $0?.node }
            let claimed = nodes.compactMap(\.ipv4)
            guard claimed.count == show.lab.nodes.count, Set(claimed).count == claimed.count else {
                throw StepFailure(reason: "\(Set(claimed).count) different IPv4 addresses")
            }
            guard Set(nodes.compactMap(\.ipv6)).count == nodes.count else {
                throw StepFailure(reason: "IPv6 addresses are missing")
            }
            return claimed.joined(separator: ", ")
        }
    }

    mutating func findPeers() async throws -> String {
        let wanted = lab.nodes.count - 1
        return try await wait(upTo: .seconds(30)) { show in
            await show.refresh()
            let counts = show.statuses.map { $0?.peers.count { $0.state == .alive } ?? 0 }
            guard counts.allSatisfy({ $0 == wanted }) else {
                let seen = counts.map(String.init).joined(separator: ", ")
                throw StepFailure(reason: "alive peers per node: \(seen), wanted \(wanted)")
            }
            return "every node sees \(wanted == 1 ? "the other" : "the \(wanted) others") alive"
        }
    }

    /// Echo requests from every node to every other one, at both of its addresses.
    mutating func carryPackets() async throws -> String {
        let detail = try await wait(upTo: .seconds(30)) { show in
            await show.refresh()
            var count = 0
            for (index, node) in show.lab.nodes.enumerated() {
                let targets = show.statuses.indices.filter { $0 != index }
                    .flatMap { show.addresses(of: $0) }
                guard targets.count == 2 * (show.lab.nodes.count - 1) else {
                    throw StepFailure(reason: "addresses are missing")
                }
                try await probing {
                    try await onThread(in: node.namespace) { try targets.forEach(echo) }
                }
                count += targets.count
            }
            return "\(count) echo requests answered, IPv4 and IPv6, every pair"
        }
        await refresh()
        let handshakes = statuses.compactMap { $0 }
            .reduce(0) { $0 + $1.peers.count { $0.lastHandshakeSeconds != nil } }
        return "\(detail); \(handshakes) handshakes"
    }

    /// Every node asks the resolver on its own overlay address for every other one.
    mutating func resolveNames() async throws -> String {
        try await wait(upTo: .seconds(30)) { show in
            await show.refresh()
            var count = 0
            for (index, node) in show.lab.nodes.enumerated() {
                guard let own = show.addresses(of: index).first else {
                    throw StepFailure(reason: "\(node.hostname) has no address")
                }
                let server = SocketAddress(ip: own, port: 53)
                let wanted = show.lab.nodes.indices.map {
                    ("\(show.lab.nodes[$0].hostname).demo.internal", show.addresses(of: $0))
                }
                try await probing {
                    try await onThread(in: node.namespace) {
                        for (name, addresses) in wanted {
                            let found =
                                try lookUp(name, ipv4: true, at: server)
                                + lookUp(name, ipv4: false, at: server)
                            guard Set(found) == Set(addresses) else {
                                throw ProbeFailure("\(name) is \(found) on \(server)")
                            }
                        }
                    }
                }
                count += 2 * wanted.count
            }
            return "\(count) queries (A and AAAA) answered right, each node's own resolver"
        }
    }

    /// One node writes, the last one reads.
    mutating func shareEntry() async throws -> String {
        let value = "written at \(started.map { "\($0)" } ?? "the start")"
        let writer = lab.nodes[0]
        let reader = lab.nodes[lab.nodes.count - 1]
        _ = try await APIClient(writer.api).putLedgerEntry(
            bucket: "demo", key: "greeting", value: Array(value.utf8))
        return try await wait(upTo: .seconds(30)) { _ in
            let entries = try? await APIClient(reader.api).ledgerEntries(
                bucket: "demo", key: "greeting")
            guard entries?.first?.value == value else {
                throw StepFailure(reason: "\(reader.hostname) does not have it yet")
            }
            return "\(writer.hostname) wrote it, \(reader.hostname) read it"
        }
    }

    /// The IPv4 and the IPv6 overlay address of a node, as far as it has told them.
    func addresses(of index: Int) -> [IPAddress] {
        let node = statuses[index]?.node
        return [node?.ipv4, node?.ipv6].compactMap { $0 }.compactMap { IPAddress($0) }
    }
}

/// A probe that fails is something that a step may wait for.
func probing(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let failure as ProbeFailure {
        throw StepFailure(reason: failure.description)
    } catch let failure as CommandFailure {
        throw StepFailure(reason: failure.description)
    }
}
