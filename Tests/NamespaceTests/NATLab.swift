// A small Internet: a core router, and sites behind routers of every kind. Site number N:
//
//     public        core 45.18.N.1 --- 45.18.N.2 host
//     firewall      core 45.18.N.1 --- 45.18.N.2 router 45.18.N.129 --- 45.18.N.130 host
//     NATs          core 45.18.N.1 --- 45.18.N.2 router 192.168.N.1 --- 192.168.N.2 host
//     double NAT    core 45.18.N.1 --- 45.18.N.2 carrier 100.64.N.1
//                                      --- 100.64.N.2 router 192.168.N.1 --- 192.168.N.2 host
//
// The addresses look real on purpose (gateways and programs treat reserved blocks specially);
// nothing can leave the namespaces. What each kind does, in the terms of RFC 4787:
//
//     kind                  mapping                       filtering
//     fullCone              endpoint-independent          endpoint-independent
//     addressRestricted     endpoint-independent          address-dependent
//     portRestricted        endpoint-independent          address- and port-dependent
//     symmetricRandom       address- and port-dependent   address- and port-dependent
//     symmetricSequential   the same, ports counted up    address- and port-dependent

import Testing

enum SiteKind: String, CaseIterable, Sendable {
    case open = "public"
    case firewall
    case fullCone = "full-cone"
    case addressRestricted = "address-restricted"
    case portRestricted = "port-restricted"
    case symmetricRandom = "symmetric-random"
    case symmetricSequential = "symmetric-sequential"
    case doubleNAT = "double-nat"
    case noUDP = "no-udp"
    case noNetwork = "no-network"
}

/// One site of a ``NATLab``: a machine and what stands between it and the world.
struct NATSite: Sendable {
    let index: Int
    let kind: SiteKind
    let machine: MeshMachine
    /// The router next to the machine; `nil` for a public site.
    let router: LabHost?
    /// The router of the carrier in front of that one.
    let carrier: LabHost?

    /// Where the machine is seen from outside, before a port is mapped.
    var publicAddress: String {
        switch kind {
        case .open: "45.18.\(index).2"
        case .firewall: "45.18.\(index).130"
        default: "45.18.\(index).2"
        }
    }

    var gateways: [LabHost] {
        [router, carrier].compactMap { $0 }
    }

    /// Every router forgets its flows, as after a power cut.
    func reboot() async throws {
        for gateway in gateways { try await gateway.run(["conntrack", "-F"]) }
    }

    /// The provider gives the outermost router another address: 45.18.N.`last`.
    func renumber(last: Int) async throws {
        guard let outermost = carrier ?? router else {
            throw LabFailure("a public site has no router")
        }
        try await outermost.run([
            "sh", "-ec",
            """
            ip addr flush dev wan\(index)
            ip addr add 45.18.\(index).\(last)/24 dev wan\(index)
            ip route replace default via 45.18.\(index).1
            conntrack -F
            """,
        ])
    }
}

/// The core router and the sites around it; part of a ``Lab``, and gone with it.
final class NATLab: Sendable {
    let mesh: MeshLab
    let core: LabHost

    init(_ mesh: MeshLab) async throws {
        for (tool, package) in [("nft", "nftables"), ("conntrack", "conntrack")] {
            try Lab.requireTool(tool, package: package)
        }
        self.mesh = mesh
        core = try await mesh.lab.host("core")
        try await core.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        // Stands for the many hops of a real core: what was given few never crosses it.
        let depth = try mesh.lab.file(
            "nft-core",
            """
            table ip depth { chain in {
                type filter hook prerouting priority -300
                ip ttl <= 3 drop
            }
            }
            """)
        try await core.run(["nft", "-f", depth])
    }

    /// Makes site number `index` (1...200) with a machine called `name`.
    ///
    /// - Parameter refusesInput: whether the router drops what comes to itself from outside. Where
    ///   it accepts, an early punch leaves an entry that spoils the answer's (the conntrack race).
    func site(
        _ index: Int, _ kind: SiteKind, name: String, refusesInput: Bool = false,
        line: SiteLine = SiteLine()
    ) async throws -> NATSite {
        let machine = try await mesh.machine(name)
        let lab = mesh.lab
        let wan = "wan\(index)"
        guard kind != .open else {
            try await draw(line, wan, machine.host)
            try await attach(core, wan, "45.18.\(index).1/24")
            try await attach(machine.host, wan, "45.18.\(index).2/24", via: "45.18.\(index).1")
            return NATSite(index: index, kind: kind, machine: machine, router: nil, carrier: nil)
        }
        let router = try await lab.host("router\(index)")
        let lan = "lan\(index)"
        try await lab.cable(lan, router, machine.host)
        var outermost = router
        var carrier: LabHost?
        if kind == .doubleNAT {
            let middle = try await lab.host("carrier\(index)")
            try await lab.cable("isp\(index)", middle, router)
            try await attach(middle, "isp\(index)", "100.64.\(index).1/24")
            try await attach(
                router, "isp\(index)", "100.64.\(index).2/24", via: "100.64.\(index).1")
            outermost = middle
            carrier = middle
        }
        try await draw(line, wan, outermost)
        try await attach(core, wan, "45.18.\(index).1/24")
        let site = NATSite(
            index: index, kind: kind, machine: machine, router: router, carrier: carrier)
        if kind == .firewall {
            try await core.ip("addr flush dev \(wan)")
            try await attach(core, wan, "45.18.\(index).1/25")
            try await attach(outermost, wan, "45.18.\(index).2/25", via: "45.18.\(index).1")
            try await attach(router, lan, "45.18.\(index).129/25")
            try await attach(
                machine.host, lan, "45.18.\(index).130/25", via: "45.18.\(index).129")
            try await core.ip("route add 45.18.\(index).128/25 via 45.18.\(index).2")
        } else {
            try await attach(outermost, wan, "45.18.\(index).2/24", via: "45.18.\(index).1")
            try await attach(router, lan, "192.168.\(index).1/24")
            try await attach(
                machine.host, lan, "192.168.\(index).2/24", via: "192.168.\(index).1")
        }
        for gateway in site.gateways {
            try await gateway.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
            let outside = gateway.name == router.name && carrier != nil ? "isp\(index)" : wan
            let rules = NATRules(kind: kind, outside: outside, inside: lan, index: index)
            let path = try lab.file("nft-\(gateway.name)", rules.text(refusesInput: refusesInput))
            try await gateway.run(["nft", "-f", path])
        }
        return site
    }

    /// The core loses so many of a thousand packets, at random.
    func lose(permille: Int) async throws {
        try await weather("numgen random mod 1000 < \(permille) drop")
    }

    /// The core carries nothing between two sites; both still reach all others.
    func separate(_ first: NATSite, _ second: NATSite) async throws {
        let (one, other) = ("45.18.\(first.index).0/24", "45.18.\(second.index).0/24")
        try await weather(
            "ip saddr \(one) ip daddr \(other) drop\nip saddr \(other) ip daddr \(one) drop")
    }

    /// The core works again.
    func clearUp() async throws {
        try await weather("")
    }

    private func weather(_ verdict: String) async throws {
        let rules = try mesh.lab.file(
            "nft-weather",
            """
            table ip weather
            delete table ip weather
            table ip weather { chain forward {
                type filter hook forward priority 0
                \(verdict)
            }
            }
            """)
        try await core.run(["nft", "-f", rules])
    }

    /// Several sites, each made while the others are.
    func sites(_ kinds: [SiteKind], names: [String]) async throws -> [NATSite] {
        try await withThrowingTaskGroup(of: NATSite.self) { group in
            for (offset, kind) in kinds.enumerated() {
                group.addTask {
                    try await self.site(offset + 1, kind, name: names[offset])
                }
            }
            var made: [NATSite] = []
            for try await site in group { made.append(site) }
            return made.sorted { $0.index < $1.index }
        }
    }

    private func attach(
        _ host: LabHost, _ device: String, _ address: String, via gateway: String? = nil
    ) async throws {
        var script = "ip addr add \(address) dev \(device)"
        if let gateway { script += "\nip route add default via \(gateway)" }
        try await host.run(["sh", "-ec", script])
    }
}

/// The nftables rules of one router.
private struct NATRules {
    let kind: SiteKind
    let outside: String
    let inside: String
    let index: Int

    func text(refusesInput: Bool) -> String {
        let input =
            refusesInput
            ? """
            table ip own { chain input {
                type filter hook input priority 0
                iifname "\(outside)" ct state new drop
            }
            }

            """ : ""
        return input + body
    }

    private var body: String {
        switch kind {
        case .open: ""
        case .firewall:
            """
            table ip site { chain forward {
                type filter hook forward priority 0
                iifname "\(outside)" ct state new drop
            }
            }
            """
        case .fullCone: cone(condition: "")
        case .addressRestricted: cone(condition: "ip saddr . udp dport @spoken")
        case .portRestricted, .doubleNAT: translation("masquerade")
        case .symmetricRandom: translation("masquerade random,fully-random")
        case .symmetricSequential: translation("meta l4proto udp snat to \(counted)")
        case .noUDP: translation("masquerade") + "\n" + blocked("udp dport != 53 drop")
        case .noNetwork: translation("masquerade") + "\n" + blocked("drop")
        }
    }

    private func translation(_ verdict: String) -> String {
        """
        table ip site { chain out {
            type nat hook postrouting priority 100
            oifname "\(outside)" \(verdict)
        }
        }
        """
    }

    private func blocked(_ verdict: String) -> String {
        """
        table ip block { chain forward {
            type filter hook forward priority 0
            \(verdict)
        }
        }
        """
    }

    /// Ports counted up: written out, since a number that nft generates comes in the wrong byte
    /// order.
    private var counted: String {
        let ports = (0..<256).map { "\($0) : \(40_000 + $0)" }.joined(separator: ", ")
        return "45.18.\(index).2 : numgen inc mod 256 map { \(ports) }"
    }

    /// An inner socket keeps its port outside, and whoever may answer is let in to it.
    private func cone(condition: String) -> String {
        """
        table ip site {
            map owners { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 5m; }
            set spoken {
                type ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m;
            }
            chain learn {
                type filter hook forward priority 0
                iifname "\(inside)" meta l4proto udp update @owners { udp sport : ip saddr }
                iifname "\(inside)" meta l4proto udp update @spoken { ip daddr . udp sport }
            }
            chain in {
                type nat hook prerouting priority -100
                iifname "\(outside)" meta l4proto udp \(condition) dnat to udp dport map @owners
            }
            chain out {
                type nat hook postrouting priority 100
                oifname "\(outside)" masquerade
            }
        }
        """
    }
}
