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

        /// Thirty milliseconds each way to both sites: time enough for a knock to reach a router that
        /// accepts what comes to itself before its own end has sent.
        @Test(arguments: [false, true])
        func portRestrictedNATsFarAwayBecomeDirect(_ refusesInput: Bool) async throws {
            var times: [Duration] = []
            for _ in 0..<setting("FAR_TRIES", default: 1) {
                try await withMesh { mesh in
                    let trio = try await mesh.acquainted(
                        .portRestricted, .portRestricted, refusesInput: refusesInput,
                        line: SiteLine(delay: .milliseconds(30)))
                    let begin = ContinuousClock.now
                    try await trio.anna.reaches(trio.bert)
                    try await trio.anna.becomesDirect(to: "bert")
                    try await trio.bert.becomesDirect(to: "anna")
                    times.append(ContinuousClock.now - begin)
                    try await trio.anna.reaches(trio.bert)
                }
            }
            report("60 ms apart from the core and back, until direct", times)
        }

        /// Both lines carry 1,280 bytes and say nothing about what they lose. The device's full packets
        /// pass all the same, directly and through a relay, whose header comes on top.
        @Test(arguments: [SiteKind.portRestricted, .symmetricRandom])
        func narrowLinesCarryLargePackets(_ kind: SiteKind) async throws {
            try Lab.requireTool("iperf3", package: "iperf3")
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(kind, kind, line: SiteLine(mtu: 1_280))
                try await trio.anna.reaches(trio.bert)
                let isDirect = kind == .portRestricted
                if isDirect {
                    try await trio.anna.becomesDirect(to: "bert")
                    try await trio.bert.becomesDirect(to: "anna")
                }
                let target = try #require(try await trio.bert.status().node.ipv4)
                let here = try #require(try await trio.anna.status().node.ipv4)
                for (machine, other) in [(trio.anna, target), (trio.bert, here)] {
                    try await eventually("1,420 bytes reach \(other)", within: .seconds(60)) {
                        try await machine.host.attempt([
                            "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1392", other,
                        ]).status == 0
                    }
                }
                let server = try trio.bert.host.start(["iperf3", "-s", "--forceflush"])
                try await server.prints("Server listening")
                for way in [[], ["-R"], ["-u", "-b", "5M", "-l", "1392"]] {
                    let text = try await trio.anna.host.run(
                        ["iperf3", "-c", target, "-n", "2M", "--connect-timeout", "5000"] + way,
                        within: .seconds(90))
                    #expect(text.contains("receiver"), "\(text)")
                    // Of datagrams iperf3 counts those that are lost: "12/1500 (0.8%)".
                    if way.first == "-u" {
                        let line = text.split(separator: "\n").last { $0.contains("receiver") }
                        let percent = line?.split(separator: "(").last?.prefix { $0 != "%" }
                        let lost = try #require(percent.flatMap { Double($0) }, "\(text)")
                        #expect(lost < 10, "\(text)")
                    }
                }
                server.send(SIGKILL)
                try await server.end(within: .seconds(20))
                #expect(try await trio.anna.path(to: "bert") == (isDirect ? "direct" : "relay"))
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
    ///   - line: what leads to the two sites.
    ///   - publicly: what rosa is told besides.
    ///   - told: what the other two are told besides.
    ///   - prepare: changes anna's site before her node starts.
    func acquainted(
        _ first: SiteKind, _ second: SiteKind, in given: NATLab? = nil,
        refusesInput: Bool = false, line: SiteLine = SiteLine(), relay: String = "10M",
        publicly: [String] = [], told: [String] = [],
        prepare: (NATSite) async throws -> Void = { _ in }
    ) async throws -> Trio {
        let nat: NATLab
        if let given { nat = given } else { nat = try await NATLab(self) }
        let middle = try await nat.site(1, .open, name: "rosa")
        let left = try await nat.site(
            2, first, name: "anna", refusesInput: refusesInput, line: line)
        let right = try await nat.site(
            3, second, name: "bert", refusesInput: refusesInput, line: line)
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
