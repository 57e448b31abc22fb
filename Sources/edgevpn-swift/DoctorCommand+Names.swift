import Glibc
import HTTPAPI
import NetAddress
import Runtime

/// Who owns the machine's resolver, and whether the mesh's names get through it.
struct NamesSection: DoctorSection {
    func examine(_ client: APIClient?) async -> [DoctorFinding] {
        var findings = [machine(ResolverReport())]
        guard let client else { return findings }
        guard let counters = try? await client.nameCounters(),
            let own = (try? await client.names())?.first
        else {
            findings.append(
                finding(.note, "this node answers no names", fix: "start it without --dns off"))
            return findings
        }
        findings.append(
            counters.upstreams.isEmpty
                ? finding(
                    .problem, "the node knows nobody whom it could ask for other names",
                    fix: "give --dns-upstream ADDRESS, or a nameserver line in resolv.conf")
                : finding(
                    .good, "the node asks \(counters.upstreams.joined(separator: ", ")) for others")
        )
        findings.append(getsThrough(own))
        return findings
    }

    private func machine(_ report: ResolverReport?) -> DoctorFinding {
        guard let report else {
            return finding(
                .problem, "/etc/resolv.conf is missing or leads nowhere",
                fix: "programs ask 127.0.0.1 then; write one, or start what should write it")
        }
        let servers =
            report.nameServers.isEmpty
            ? "names nobody" : "names \(report.nameServers.joined(separator: ", "))"
        let who =
            switch report.owner {
            case .systemdResolved: "is systemd-resolved's (\(report.path)) and \(servers)"
            case .resolvconf: "is written by resolvconf (\(report.path)) and \(servers)"
            case .networkManager: "is written by NetworkManager (\(report.path)) and \(servers)"
            case .edgevpn: "is covered by the node's own file while it runs, and \(servers)"
            case .nobody: "is an ordinary file (\(report.path)) that \(servers)"
            }
        switch report.owner {
        case .systemdResolved where !report.hasMessageBus:
            return finding(
                .problem, "resolv.conf \(who), and the system's message bus does not answer",
                fix: "start dbus and systemd-resolved; without the bus nothing can tell resolved")
        case .networkManager:
            return finding(
                .note, "resolv.conf \(who)",
                fix: "--dns-integration lays a file over it until the node ends, and follows "
                    + "NetworkManager's upstreams; or let NetworkManager use systemd-resolved")
        default: return finding(.good, "resolv.conf \(who)")
        }
    }

    /// Asks as any program of this machine would.
    private func getsThrough(_ own: NameModel) -> DoctorFinding {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(own.name, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        var found: [String] = []
        var entry = list
        while let current = entry {
            var text = [CChar](repeating: 0, count: 64)
            let address = current.pointee
            if getnameinfo(
                address.ai_addr, address.ai_addrlen, &text, socklen_t(text.count), nil, 0,
                NI_NUMERICHOST) == 0
            {
                let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
                found.append(String(decoding: bytes, as: UTF8.self))
            }
            entry = current.pointee.ai_next
        }
        if status == 0, found.contains(where: own.addresses.contains) {
            return finding(.good, "programs of this machine find \(own.name)")
        }
        return finding(
            .note,
            status == 0
                ? "programs of this machine get another answer for \(own.name)"
                : "programs of this machine do not find \(own.name)",
            fix: "start the node with --dns-integration auto, or point the machine's resolver at "
                + own.addresses.joined(separator: " or "))
    }

    private func finding(_ level: DoctorFinding.Level, _ text: String, fix: String? = nil)
        -> DoctorFinding
    {
        DoctorFinding(section: "names", level: level, text: text, fix: fix)
    }
}
