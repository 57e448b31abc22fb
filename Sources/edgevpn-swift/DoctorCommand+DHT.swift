import HTTPAPI

/// Whether the DHT can help this machine to be found.
struct DHTSection: DoctorSection {
    func examine(_ client: APIClient?) async -> [DoctorFinding] {
        guard let status = try? await client?.status(), let dht = status.dht else { return [] }
        guard dht.mode != "off" else {
            return [
                finding(
                    .note, "the DHT is off",
                    fix: "members behind routers meet by it alone: --dht public, or private with "
                        + "--dht-bootstrap")
            ]
        }
        return [nodes(dht, status), service(dht), address(dht)].compactMap { $0 }
    }

    private func nodes(_ dht: DHTModel, _ status: StatusModel) -> DoctorFinding {
        let count = dht.nodesIPv4 + dht.nodesIPv6
        guard count == 0 else {
            return finding(
                .good, "\(dht.mode), \(dht.nodesIPv4) nodes by IPv4 and \(dht.nodesIPv6) by IPv6")
        }
        if dht.mode == "private", !status.peers.contains(where: { $0.state == .alive }) {
            return finding(
                .note, "private, and no member is known to begin with",
                fix: "give --peer or --dht-bootstrap ADDRESS:PORT of a member")
        }
        return finding(
            .problem, "\(dht.mode), and no node answers",
            fix: "let UDP out of this network, or give --dht-bootstrap ADDRESS:PORT of a node")
    }

    /// Only in the open there is something to prove.
    private func service(_ dht: DHTModel) -> DoctorFinding? {
        guard dht.mode == "public" else { return nil }
        return dht.reachable
            ? finding(.good, "answers others, and keeps \(dht.storedItems) values for them")
            : finding(.good, "asks only, since nobody from outside has reached this machine yet")
    }

    private func address(_ dht: DHTModel) -> DoctorFinding? {
        let seen = [dht.observedIPv4, dht.observedIPv6].compactMap { $0 }
        guard !seen.isEmpty else { return nil }
        return finding(.good, "others see this machine at \(seen.joined(separator: " and "))")
    }

    private func finding(_ level: DoctorFinding.Level, _ text: String, fix: String? = nil)
        -> DoctorFinding
    {
        DoctorFinding(section: "dht", level: level, text: text, fix: fix)
    }
}
