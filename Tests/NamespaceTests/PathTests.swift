// Members behind NATs that know one public member, 45.18.1.2:
//
//     anna --- router of some kind ---+
//                                     +--- core --- rosa, public
//     bert --- router of some kind ---+

import Foundation
import Testing

extension MeshTests {
    @Suite struct PathTests {
        @Test func twoSymmetricNATsTalkAtOnceThroughARelay() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.symmetricRandom, .symmetricRandom)
                try await trio.anna.reaches(trio.bert)
                #expect(try await trio.anna.path(to: "bert") == "relay")
                try await trio.bert.reaches(trio.anna)
                #expect(try await trio.anna.path(to: "rosa") == "direct")
            }
        }

        @Test(arguments: [false, true])
        func portRestrictedNATsBecomeDirect(_ refusesInput: Bool) async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(
                    .portRestricted, .portRestricted, refusesInput: refusesInput)
                try await trio.anna.reaches(trio.bert)
                try await trio.anna.becomesDirect(to: "bert")
                try await trio.bert.becomesDirect(to: "anna")
                try await trio.anna.reaches(trio.bert)
            }
        }

        @Test func portsThatCountUpAreGuessed() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.portRestricted, .symmetricSequential)
                try await trio.anna.reaches(trio.bert)
                try await trio.anna.becomesDirect(to: "bert")
                try await trio.bert.becomesDirect(to: "anna")
            }
        }

        @Test func aMemberThatRelaysForNobodyIsNoRelay() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(
                    .symmetricRandom, .symmetricRandom, relay: "off")
                #expect(try await trio.anna.path(to: "rosa") == "direct")
                // Longer than a relay that serves needs.
                try await Task.sleep(for: .seconds(5))
                #expect(try await trio.anna.path(to: "bert") != "relay")
            }
        }
    }

    /// Machines that move while a program talks through the tunnel.
    @Suite struct RoamingTests {
        @Test(arguments: [SiteKind.portRestricted, .symmetricRandom])
        func anotherAddressFromTheProvider(_ kind: SiteKind) async throws {
            try await moving(kind) { try await $0.sites[1].renumber(last: 77) }
        }

        @Test func aRouterThatForgetsItsFlows() async throws {
            try await moving(.portRestricted) { try await $0.sites[1].reboot() }
        }

        @Test func anotherLink() async throws {
            try await moving(.portRestricted, returnsDirect: false) { trio in
                // The cable goes out, and the machine joins another network: rosa's.
                let host = trio.anna.host
                try await host.ip("link del lan2")
                try await trio.nat.mesh.lab.cable("other", trio.nat.core, host)
                try await trio.nat.core.ip("addr add 45.18.9.1/24 dev other")
                try await host.ip("addr add 45.18.9.2/24 dev other")
                try await host.ip("route add default via 45.18.9.1")
            }
        }

        /// Both talk, something happens, both talk again and end up direct.
        private func moving(
            _ kind: SiteKind, returnsDirect: Bool = true, _ event: (Trio) async throws -> Void
        ) async throws {
            try await withMesh { mesh in
                // Where a router accepts what comes to itself, the old way's last probes leave
                // entries there that keep the direct way shut until they expire.
                let trio = try await mesh.acquainted(.portRestricted, kind, refusesInput: true)
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                let isDirectable = kind == .portRestricted
                if isDirectable { try await trio.anna.becomesDirect(to: "bert") }
                let target = try #require(try await trio.bert.status().node.ipv4)
                // One echo a fifth of a second shows when traffic stops and resumes.
                let pings = try trio.anna.host.start([
                    "ping", "-n", "-i", "0.2", "-c", "75", "-W", "1", target,
                ])
                try await pings.prints("icmp_seq=5 ")
                let begin = ContinuousClock.now
                try await event(trio)
                let before = pings.output.split(separator: "\n").count
                try await eventually("echoes come back") {
                    pings.output.split(separator: "\n").count > before + 1
                }
                report(
                    "from \(kind.rawValue) moving until traffic resumes",
                    [
                        ContinuousClock.now - begin
                    ])
                if isDirectable, returnsDirect {
                    try await trio.anna.becomesDirect(to: "bert")
                    try await trio.bert.becomesDirect(to: "anna")
                }
                pings.send(SIGINT)
                try await pings.end(within: .seconds(20))
            }
        }
    }
}

/// Two machines that both know the third.
struct Trio: Sendable {
    let nat: NATLab
    let rosa: MeshMachine
    let anna: MeshMachine
    let bert: MeshMachine
    let sites: [NATSite]
}

extension MeshLab {
    /// Starts rosa in public, and anna and bert behind their routers with rosa's address.
    func acquainted(
        _ first: SiteKind, _ second: SiteKind, refusesInput: Bool = false, relay: String = "10M"
    ) async throws -> Trio {
        let nat = try await NATLab(self)
        let middle = try await nat.site(1, .open, name: "rosa")
        let left = try await nat.site(2, first, name: "anna", refusesInput: refusesInput)
        let right = try await nat.site(3, second, name: "bert", refusesInput: refusesInput)
        _ = try await middle.machine.up(["--no-mdns", "--listen", "7001", "--relay", relay])
        for site in [left, right] {
            _ = try site.machine.start(
                ["--no-mdns", "--peer", "45.18.1.2:7001", "--relay", relay])
        }
        let trio = Trio(
            nat: nat, rosa: middle.machine, anna: left.machine, bert: right.machine,
            sites: [middle, left, right])
        for machine in [trio.anna, trio.bert] {
            try await eventually("\(machine.name) meets rosa") {
                (try? await machine.state(of: "rosa")) == "alive"
            }
        }
        for (machine, other) in [(trio.anna, "bert"), (trio.bert, "anna")] {
            try await eventually("\(machine.name) knows \(other)") {
                try await machine.status().peers.contains { $0.hostname == other }
            }
        }
        return trio
    }
}

extension MeshMachine {
    /// `direct`, `relay`, or `nil` without any.
    func path(to peer: String) async throws -> String? {
        try await status().peers.first { $0.hostname == peer }?.path
    }

    func becomesDirect(to peer: String, within limit: Duration = .seconds(30)) async throws {
        try await eventually("\(name) reaches \(peer) directly", within: limit) {
            try await self.path(to: peer) == "direct"
        }
    }
}
