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
}

/// Two machines that both know the third.
struct Trio: Sendable {
    let nat: NATLab
    let rosa: MeshMachine
    let anna: MeshMachine
    let bert: MeshMachine
    let sites: [NATSite]
    let annasNode: LabProcess
}

extension MeshLab {
    /// Starts rosa in public, and anna and bert behind their routers with rosa's address.
    ///
    /// - Parameters:
    ///   - given: a world that is there already.
    ///   - publicly: what rosa is told besides.
    ///   - told: what the other two are told besides.
    ///   - prepare: changes anna's site before her node starts.
    func acquainted(
        _ first: SiteKind, _ second: SiteKind, in given: NATLab? = nil,
        refusesInput: Bool = false, relay: String = "10M",
        publicly: [String] = [], told: [String] = [],
        prepare: (NATSite) async throws -> Void = { _ in }
    ) async throws -> Trio {
        let nat: NATLab
        if let given { nat = given } else { nat = try await NATLab(self) }
        let middle = try await nat.site(1, .open, name: "rosa")
        let left = try await nat.site(2, first, name: "anna", refusesInput: refusesInput)
        let right = try await nat.site(3, second, name: "bert", refusesInput: refusesInput)
        _ = try await middle.machine.up(
            ["--no-mdns", "--listen", "7001", "--relay", relay] + publicly)
        try await prepare(left)
        var nodes: [LabProcess] = []
        for site in [left, right] {
            nodes.append(
                try site.machine.start(
                    ["--no-mdns", "--peer", "45.18.1.2:7001", "--relay", relay] + told))
        }
        let trio = Trio(
            nat: nat, rosa: middle.machine, anna: left.machine, bert: right.machine,
            sites: [middle, left, right], annasNode: nodes[0])
        for machine in [trio.anna, trio.bert] {
            // A lost handshake is repeated after five seconds, and several may be lost.
            try await eventually("\(machine.name) meets rosa", within: .seconds(60)) {
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

    func peer(_ name: String) async throws -> MeshStatus.Peer {
        try #require(try await status().peers.first { $0.hostname == name })
    }

    func becomesDirect(to peer: String, within limit: Duration = .seconds(30)) async throws {
        try await eventually("\(name) reaches \(peer) directly", within: limit) {
            let found = try await status().peers.first { $0.hostname == peer }
            return found?.path == "direct" && found?.via == nil
        }
    }
}
