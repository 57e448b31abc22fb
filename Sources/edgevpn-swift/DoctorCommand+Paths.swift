import HTTPAPI

/// How the node gets through to the others, and what stands in its way.
struct PathsSection: DoctorSection {
    func examine(_ client: APIClient?) async -> [DoctorFinding] {
        guard let client, let status = try? await client.status() else { return [] }
        var findings = [nat(status)]
        if let gateway = gateway(status) { findings.append(gateway) }
        findings += reach(status)
        for other in status.peers where other.state == .alive { findings.append(peer(other)) }
        return findings
    }

    private func nat(_ status: StatusModel) -> DoctorFinding {
        let seen = status.node.observed.map {
            ", and others see it at \($0.joined(separator: ", "))"
        }
        switch status.node.nat {
        case nil:
            return finding(
                .note,
                "too few members on other networks have answered to tell how the NAT behaves"
                    + (seen ?? ""))
        case "none": return finding(.good, "no NAT is in front of this machine" + (seen ?? ""))
        case let nat? where nat.hasPrefix("symmetric"):
            return finding(
                .note, "the NAT gives each connection another port (\(nat))" + (seen ?? ""),
                fix: "members behind such NATs stay relayed; switch on UPnP, NAT-PMP or PCP in the "
                    + "router, forward UDP port \(port(status)) to this machine, or start both ends "
                    + "with --birthday-punching on")
        case let nat?: return finding(.good, "the NAT lets ports be found (\(nat))" + (seen ?? ""))
        }
    }

    private func gateway(_ status: StatusModel) -> DoctorFinding? {
        if let mapped = status.node.mapped {
            return finding(
                .good, "the gateway sends \(mapped) here (\(status.node.mappedBy ?? "by request"))")
        }
        guard status.node.nat != "none" else { return nil }
        return finding(.note, "no gateway sends a port here (--port-mapping auto asks for one)")
    }

    /// Whether UDP goes through at all.
    private func reach(_ status: StatusModel) -> [DoctorFinding] {
        let alive = status.peers.filter { $0.path != nil && $0.state == .alive }
        if status.peers.isEmpty {
            return [
                // The first machine of a mesh is well.
                finding(
                    .note, "no other member was found",
                    fix:
                        "give --peer HOST:PORT of one that runs, or let --dht or multicast find it; "
                        + "UDP port \(port(status)) must get out")
            ]
        }
        let streams = alive.filter { $0.via != nil }
        let direct = alive.filter { $0.path == .direct && $0.via == nil }
        if alive.isEmpty {
            return [
                finding(
                    .problem, "no member answers, neither by UDP nor by TCP",
                    fix: "look whether this network lets UDP port \(port(status)) out, and whether "
                        + "the others run")
            ]
        }
        guard direct.isEmpty, !streams.isEmpty else { return [] }
        let names = streams.map { $0.hostname ?? shortID($0.id) }.joined(separator: ", ")
        return [
            finding(
                .note, "this network drops UDP; packets go by TCP through \(names)",
                fix: "let UDP out (any port) for direct ways; TCP is slower where packets are lost")
        ]
    }

    private func peer(_ peer: PeerModel) -> DoctorFinding {
        let name = peer.hostname ?? shortID(peer.id)
        let speed = peer.rttMs.map { ", \(rounded($0, 1)) ms" } ?? ""
        var others = peer.ways ?? []
        let used = others.firstIndex { $0.address == peer.endpoint ?? "relayed" }
        if let used { others.remove(at: used) }
        let rest =
            others.isEmpty ? "" : "; also " + others.map { $0.address }.joined(separator: ", ")
        let why = peer.pathReason.map { " (\($0))" } ?? ""
        switch (peer.path, peer.via) {
        case (.direct?, nil):
            return finding(
                .good, "\(name) directly at \(peer.endpoint ?? "?")\(speed)\(why)\(rest)")
        case (.direct?, let via?):
            return finding(
                .note, "\(name) by \(via) at \(peer.endpoint ?? "?")\(speed)\(why)\(rest)")
        case (.relay?, _):
            let tried = (peer.candidates ?? []).prefix(4).joined(separator: ", ")
            return finding(
                .note,
                "\(name) through \(peer.relay ?? "a relay")\(speed)\(why)\(rest)"
                    + (tried.isEmpty ? "" : "; no answer from \(tried)"))
        case (nil, _): return finding(.note, "\(name) has not answered")
        }
    }

    private func port(_ status: StatusModel) -> String {
        status.node.port.map(String.init) ?? "of the node"
    }

    private func finding(_ level: DoctorFinding.Level, _ text: String, fix: String? = nil)
        -> DoctorFinding
    {
        DoctorFinding(section: "paths", level: level, text: text, fix: fix)
    }
}
