import Foundation
import Testing

/// Everything that only its owner may know, and the places where others look.
struct ClusterSecrets {
    private var patterns: [(name: String, bytes: Data)] = []
    private var serverSecrets: [(name: String, bytes: Data)] = []

    /// Reads the secrets of every machine from where they belong.
    init(_ cluster: ClusterLab) throws {
        try addMesh(cluster)
        for node in cluster.nodes {
            let identity = try Data(contentsOf: URL(filePath: "\(node.state)/identity"))
            // docs/protocols: a frame of 52 bytes, then the seed and the tunnel secret.
            try #require(identity.count == 52 + 64)
            add("\(node.name)'s signing seed", identity[52..<84])
            add("\(node.name)'s tunnel secret", identity[84..<116])
            let key = try String(contentsOfFile: "\(node.files)/node.key", encoding: .utf8)
            let lines = key.split(separator: "\n").filter { !$0.hasPrefix("-----") }
            // A P-256 key begins with the same bytes everywhere; the secret is behind them.
            let body = try #require(Data(base64Encoded: lines.joined()))
            add("\(node.name)'s datastore key", body[36..<68])
            for line in lines.dropFirst() where line.count >= 24 {
                patterns.append(("\(node.name)'s datastore key as text", Data(line.utf8)))
            }
            let authority = "\(node.files)/ca.key"
            if FileManager.default.fileExists(atPath: authority) {
                let bytes = try Data(contentsOf: URL(filePath: authority))
                try #require(bytes.count == 32)
                add("the authority's key on \(node.name)", bytes)
            }
        }
        serverSecrets = patterns.filter { $0.name.hasPrefix("the authority's key") }
    }

    /// The same for machines with K3s.
    init(k3s cluster: ClusterLab) throws {
        try addMesh(cluster)
        for node in cluster.nodes {
            let identity = try Data(contentsOf: URL(filePath: "\(node.state)/identity"))
            try #require(identity.count == 52 + 64)
            add("\(node.name)'s signing seed", identity[52..<84])
            add("\(node.name)'s tunnel secret", identity[84..<116])
            for name in ["server-token", "agent-token"] {
                let token = node.text(of: "\(node.files)/\(name)")
                guard let secret = token.split(separator: ":").last, secret.count > 16 else {
                    continue
                }
                let isShared =
                    name == "agent-token" && !node.text(of: "\(node.files)/server-token").isEmpty
                addText(
                    isShared
                        ? "the agents' secret on \(node.name)" : "\(name) of \(node.name)",
                    secret.trimmingCharacters(in: .newlines))
            }
            let encoded = node.text(of: node.kubeconfig).split(separator: "\n")
                .first { $0.contains("client-key-data:") }?.split(separator: " ").last
            if let pem = encoded.flatMap({ Data(base64Encoded: String($0)) }) {
                let lines = String(decoding: pem, as: UTF8.self).split(separator: "\n")
                addText("the key of the administrator on \(node.name)", String(lines[1]))
            }
            let tls = "\(node.k3sData)/server/tls"
            for name in ["server-ca", "client-ca", "etcd/server-ca", "etcd/peer-ca"] {
                let key = node.text(of: "\(tls)/\(name).key").split(separator: "\n")
                    .filter { !$0.hasPrefix("-----") }.joined()
                // SEC1: the secret's 32 bytes stand behind seven bytes of structure.
                guard let body = Data(base64Encoded: key), body.count > 39 else { continue }
                add("the key of \(name) on \(node.name)", body[7..<39])
            }
        }
        serverSecrets = patterns.filter {
            $0.name.hasPrefix("server-token") || $0.name.hasPrefix("the key of")
                || $0.name.hasPrefix("the agents' secret")
        }
        try #require(serverSecrets.count >= 18, "three servers, a token and five keys each")
    }

    /// A secret that is text, in pieces, so that a part of it is a leak, too.
    private mutating func addText(_ name: String, _ text: String) {
        patterns.append((name, Data(text.utf8)))
        patterns.append((name, Data(text.utf8.dropFirst(8).prefix(24))))
    }

    /// Agents hold a token of their own and nothing that belongs to servers, in no file at all.
    func expectServersOnly(agents: [ClusterNode]) throws {
        for agent in agents {
            for root in [agent.state, agent.k3sData, agent.k3sConfiguration] {
                let files = FileManager.default
                for name in try files.subpathsOfDirectory(atPath: root) {
                    guard let content = files.contents(atPath: "\(root)/\(name)") else { continue }
                    let found = serverSecrets.filter { content.range(of: $0.bytes) != nil }
                    #expect(found.map(\.name) == [], "\(root)/\(name)")
                }
            }
        }
    }

    /// What the mesh rests on; docs/protocols/token.md has the layout of both.
    private mutating func addMesh(_ cluster: ClusterLab) throws {
        try addToken(cluster.token)
        let line = try String(contentsOfFile: cluster.adminKey, encoding: .utf8)
        let text = line.trimmingCharacters(in: .newlines).dropFirst("evpnadmin1".count)
        let layout = try #require(Data(base64URL: String(text)))
        try #require(layout.count == 53)
        add("the mesh's root key", layout[17..<49])
        patterns.append(("the mesh's root key as text", Data(text.dropFirst(24).prefix(24).utf8)))
    }

    private mutating func addToken(_ token: String) throws {
        let text = Array(token.dropFirst("evpn1".count))
        for start in stride(from: 0, to: text.count - 24, by: 12) {
            patterns.append(("the token", Data(String(text[start..<start + 24]).utf8)))
        }
        let layout = try #require(Data(base64URL: String(text)))
        let name = Int(layout[117])
        let issuers = 118 + name + 9
        try #require(layout[issuers - 1] == 0 && layout[issuers] == 2, "no hints, two issuers")
        add("the discovery secret", layout[49..<81])
        add("the admission secret", layout[81..<113])
        add("the voter issuer's key", layout[(issuers + 102)..<(issuers + 134)])
        add("the member issuer's key", layout[(issuers + 235)..<(issuers + 267)])
    }

    private mutating func add(_ name: String, _ bytes: Data) {
        let hex = bytes.map { String(format: "%02x", $0) }.joined()
        patterns.append((name, Data(bytes)))
        patterns.append((name + " in hexadecimal", Data(hex.utf8)))
        // Whatever stands before it moves base64 by up to two bytes.
        for shift in 0..<3 {
            let shifted = Data(bytes.dropFirst(shift).prefix(27)).base64EncodedString()
            patterns.append((name + " in base64", Data(shifted.utf8)))
        }
    }

    private func leaks(in content: Data) -> [String] {
        patterns.filter { content.range(of: $0.bytes) != nil }.map(\.name)
    }

    /// What core files would hold: the daemon's no secret of another machine and never the root key,
    /// those of other processes nothing of the mesh, those of supervisors nothing at all, and on an
    /// agent none that only servers have.
    func expectOwnersOnlyInMemory(of cluster: ClusterLab, agents: [ClusterNode]) throws {
        try #require(!serverSecrets.isEmpty)
        // In memory secrets are as they are, or as their text.
        let plain = patterns.filter { !$0.name.contains(" in ") }
        let ownProgram = try Lab.binary()
        var supervisors = 0
        for node in cluster.nodes {
            let daemon = try #require(node.daemon).identifier
            for process in node.processes() {
                let program = ProcessMemory.program(of: process)
                // A question to the datastore is a process that ends by itself.
                guard let memory = try? ProcessMemory(of: process) else {
                    #expect(process != daemon)
                    continue
                }
                let found = memory.names(of: plain)
                let place = "in the memory of \(program ?? "?") on \(node.name)"
                if process == daemon {
                    // Guards the guard: its own seed is there.
                    #expect(
                        found.contains("\(node.name)'s signing seed"), "\(memory.size) bytes read")
                } else if program == ownProgram {
                    supervisors += 1
                    #expect(found == [], "\(place)")
                } else {
                    #expect(found.filter { isOfTheMesh($0) } == [], "\(place)")
                }
                let foreign = found.filter { name in
                    name.hasPrefix("the mesh's root key")
                        || cluster.nodes.contains { other in
                            other !== node && name.hasPrefix("\(other.name)'s ")
                        }
                }
                #expect(foreign == [], "\(place)")
                if agents.contains(where: { $0 === node }) {
                    #expect(memory.names(of: serverSecrets) == [], "\(place), an agent")
                }
            }
        }
        #expect(supervisors >= cluster.nodes.count - agents.count)
    }

    /// Whether a datastore has nothing to do with it.
    private func isOfTheMesh(_ name: String) -> Bool {
        ["the token", "the discovery", "the admission", "the voter", "the member", "the mesh's"]
            .contains { name.hasPrefix($0) }
            || name.hasSuffix("'s signing seed") || name.hasSuffix("'s tunnel secret")
    }

    /// Looks wherever another user or machine could read.
    func expectNowhere(in cluster: ClusterLab) async throws {
        var places = 0
        func look(_ place: String, _ content: Data) {
            places += 1
            #expect(leaks(in: content) == [], "\(place)")
        }
        for node in cluster.nodes {
            #expect(
                !leaks(in: try Data(contentsOf: URL(filePath: "\(node.state)/identity"))).isEmpty)
            look("the log of \(node.name)", Data(node.log.utf8))
            look(
                "the founding log of \(node.name)",
                try Data(contentsOf: URL(filePath: node.foundingLog)))
            for process in node.processes() {
                for file in ["cmdline", "environ"] {
                    let path = "/proc/\(process)/\(file)"
                    guard let content = Lab.contents(of: path) else { continue }
                    look("\(path) on \(node.name): \(content)", Data(content.utf8))
                }
            }
            for words in [
                ["status"], ["peers"], ["cluster", "status"], ["cluster", "explain"],
                ["ledger", "get"], ["dns", "list"],
            ] {
                for option in [[], ["--json"]] {
                    let answer = try await node.host.attempt(
                        [try Lab.binary()] + words + option
                            + ["--api", "unix:\(node.directory)/api"])
                    #expect(answer.status == 0, "\(words): \(answer.output)")
                    look("\(words) of \(node.name)", Data(answer.output.utf8))
                }
            }
            let cluster = ["etcd.log", "etcd.yaml", "record", "k3s.log", "settings"]
            for path in cluster.map({ "\(node.files)/\($0)" }) + [node.dropIn] {
                guard let content = FileManager.default.contents(atPath: path) else { continue }
                look(path, content)
            }
            try expectPrivate(node.state)
        }
        // Guards the guard: every node has a log, a command line and its answers.
        #expect(places >= cluster.nodes.count * 14)
    }

    /// Files below `path` are nobody else's.
    private func expectPrivate(_ path: String) throws {
        for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")
            let mode = attributes[.posixPermissions] as? Int ?? 0o777
            #expect(mode & 0o077 == 0, "\(path)/\(name) has mode \(String(mode, radix: 8))")
        }
    }
}

extension Data {
    /// Base64 with the URL's letters, with or without padding.
    fileprivate init?(base64URL text: String) {
        let usual = text.replacing("-", with: "+").replacing("_", with: "/")
        let padding = String(repeating: "=", count: (4 - usual.count % 4) % 4)
        self.init(base64Encoded: usual + padding)
    }
}
