// Machines that move while programs talk through the tunnel. Both know one public member:
//
//     anna --- router ---+
//                        +--- core --- rosa, public
//     bert --- router ---+
//
// What must hold each time: packets flow again (through rosa, within seconds), the direct way comes
// back, also where the routers accept what comes to themselves, and a TCP connection through the
// tunnel goes on as if nothing had been.

import Foundation
import Testing

extension MeshTests {
    @Suite struct RoamingTests {
        @Test(arguments: [false, true])
        func anotherAddressFromTheProvider(_ refusesInput: Bool) async throws {
            try await moving(refusesInput) { try await $0.sites[1].renumber(last: 77) }
        }

        @Test func anotherAddressForTheOtherEnd() async throws {
            try await moving(false) { try await $0.sites[2].renumber(last: 77) }
        }

        /// Two such NATs stay relayed, before and after.
        @Test func anotherAddressBehindASymmetricNAT() async throws {
            try await moving(false, .symmetricRandom, isDirect: false) {
                try await $0.sites[1].renumber(last: 77)
            }
        }

        @Test(arguments: [false, true])
        func aRouterThatForgetsItsFlows(_ refusesInput: Bool) async throws {
            try await moving(refusesInput) { try await $0.sites[1].reboot() }
        }

        @Test(arguments: [false, true])
        func anotherLink(_ refusesInput: Bool) async throws {
            try await moving(refusesInput) { trio in
                // The cable goes out, and the machine joins another network.
                let host = trio.anna.host
                try await host.ip("link del lan2")
                try await trio.nat.mesh.lab.cable("other", trio.nat.core, host)
                try await trio.nat.core.ip("addr add 45.18.9.1/24 dev other")
                try await host.ip("addr add 45.18.9.2/24 dev other")
                try await host.ip("route add default via 45.18.9.1")
            }
        }

        /// Both links are there all the time, and keep their addresses: only the route changes, and the
        /// old router goes dark.
        @Test(arguments: [false, true])
        func anotherDefaultRoute(_ refusesInput: Bool) async throws {
            try await moving(
                refusesInput,
                prepare: { trio in
                    let host = trio.anna.host
                    try await trio.nat.mesh.lab.cable("other", trio.nat.core, host)
                    try await trio.nat.core.ip("addr add 45.18.9.1/24 dev other")
                    try await host.ip("addr add 45.18.9.2/24 dev other")
                }
            ) { trio in
                let host = trio.anna.host
                try await trio.sites[1].router?.ip("link set wan2 down")
                try await host.ip("route replace default via 45.18.9.1")
                // No timer tells the node, the kernel does.
                try await trio.annasNode.prints("packets leave this machine by another way")
            }
        }

        @Test func halfAMinuteOfSleep() async throws {
            try await moving(false) { trio in
                trio.annasNode.send(SIGSTOP)
                try await Task.sleep(for: .seconds(30))
                trio.annasNode.send(SIGCONT)
            }
        }

        /// Both talk, something happens, both talk again and end up as they were.
        private func moving(
            _ refusesInput: Bool, _ kind: SiteKind = .portRestricted, isDirect: Bool = true,
            prepare: (Trio) async throws -> Void = { _ in },
            _ event: (Trio) async throws -> Void
        ) async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(kind, kind, refusesInput: refusesInput)
                try await prepare(trio)
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                if isDirect {
                    try await trio.anna.becomesDirect(to: "bert")
                    try await trio.bert.becomesDirect(to: "anna")
                }
                let target = try #require(try await trio.bert.status().node.ipv4)
                let talk = try await Conversation(from: trio.anna, to: trio.bert, at: target)
                let echoes = try trio.anna.host.start(["ping", "-n", "-i", "0.1", target])
                try await echoes.prints("icmp_seq=10 ")
                try await event(trio)
                let begin = ContinuousClock.now
                let before = echoes.output.count
                try await eventually("echoes come back", every: .milliseconds(20)) {
                    echoes.output.dropFirst(before).filter { $0 == "\n" }.count > 1
                }
                let resumed = ContinuousClock.now - begin
                if isDirect {
                    try await trio.anna.becomesDirect(to: "bert", within: .seconds(60))
                    try await trio.bert.becomesDirect(to: "anna", within: .seconds(60))
                }
                let direct = ContinuousClock.now - begin
                try await talk.goesOn()
                echoes.send(SIGKILL)
                try await echoes.end(within: .seconds(20))
                report("\(kind.rawValue), moved, until traffic resumes", [resumed])
                if isDirect { report("\(kind.rawValue), moved, until direct", [direct]) }
                try await talk.end()
            }
        }
    }
}

/// A TCP connection through the tunnel, on which a line goes there and back ten times a second.
private struct Conversation {
    let server: LabProcess
    let client: LabProcess

    private static let serving = """
        import socket
        listener = socket.create_server(("0.0.0.0", 5000))
        print("listening", flush=True)
        connection, _ = listener.accept()
        while True:
            data = connection.recv(4096)
            if not data: break
            connection.sendall(data)
        """

    private static let asking = """
        import socket, sys, time
        connection = socket.create_connection((sys.argv[1], 5000))
        lines = connection.makefile("r")
        number = 0
        while True:
            number += 1
            connection.sendall(f"{number}\\n".encode())
            if int(lines.readline()) != number: sys.exit("another line came back")
            print(number, flush=True)
            time.sleep(0.1)
        """

    init(from: MeshMachine, to: MeshMachine, at address: String) async throws {
        server = try to.host.start(["python3", "-c", Conversation.serving])
        try await server.prints("listening")
        client = try from.host.start(["python3", "-c", Conversation.asking, address])
        try await client.prints("\n10\n")
    }

    private var count: Int { client.output.split(separator: "\n").count }

    /// Waits until lines come back that were not under way before.
    func goesOn() async throws {
        let before = count
        try await eventually(
            "the connection goes on\n\(client.output.suffix(200))", within: .seconds(30),
            every: .milliseconds(20)
        ) {
            if let code = client.exitCode { throw LabFailure("the connection broke: \(code)") }
            return count > before + 3
        }
    }

    func end() async throws {
        client.send(SIGKILL)
        server.send(SIGKILL)
        try await client.end(within: .seconds(20))
        try await server.end(within: .seconds(20))
    }
}
