import Foundation
import Testing

/// One machine, and a daemon of a user without rights: whether the kernel lets that user look into the
/// process tells whether it would write its memory to a file.
@Suite struct CoreFileTests {
    @Test func noProgramLeavesItsMemoryBehind() async throws {
        try await withLab { lab in
            let host = try await lab.host("a")
            // The user gets to the program and to its files, and to nothing else here.
            #expect(chmod(lab.directory, 0o711) == 0)
            let program = "\(lab.directory)/program"
            // Written by this process, it would be busy in whatever another test starts meanwhile.
            try await host.run(["install", "-m", "755", try Lab.binary(), program])
            let own = "\(lab.directory)/own"
            try FileManager.default.createDirectory(
                atPath: own, withIntermediateDirectories: false)
            let token = try await host.run([program, "token", "new", "--nodes", "1"])
            let line = try #require(token.split(separator: "\n").first { $0.hasPrefix("evpn1") })
            try String(line).write(toFile: "\(own)/token", atomically: true, encoding: .utf8)
            try await host.run(["chown", "-R", "65534", own])

            let daemon = try host.start([
                "setpriv", "--reuid", "65534", "--clear-groups", program, "up", "--token-file",
                "\(own)/token", "--state-dir", "\(own)/state", "--interface", "none", "--dns",
                "off", "--dht", "off", "--no-mdns", "--api", "unix:\(own)/api",
            ])
            try await eventually("the node answers\n\(daemon.output)") {
                FileManager.default.fileExists(atPath: "\(own)/api")
            }
            // proc_pid_coredump_filter and the rest of proc(5): root owns the files of a process
            // that may not be dumped.
            for file in ["maps", "environ"] {
                let attributes = try FileManager.default.attributesOfItem(
                    atPath: "/proc/\(daemon.identifier)/\(file)")
                #expect(attributes[.ownerAccountID] as? Int == 0, "\(file)")
            }
            let peeked = try await host.attempt([
                "setpriv", "--reuid", "65534", "--clear-groups", "cat",
                "/proc/\(daemon.identifier)/environ",
            ])
            #expect(peeked.status != 0)
        }
    }

    /// A daemon that is allowed cores of any size dies by a signal that leaves one.
    @Test func aDyingDaemonLeavesNone() async throws {
        try await withLab { lab in
            let host = try await lab.host("a")
            let program = try Lab.binary()
            let token = try await host.run([program, "token", "new", "--nodes", "1"])
            let line = try #require(token.split(separator: "\n").first { $0.hasPrefix("evpn1") })
            let file = try lab.file("token", String(line))
            let state = "\(lab.directory)/state"
            defer { try? FileManager.default.removeItem(atPath: state) }
            let allowed = [
                "sh", "-c", "cd \(lab.directory) && ulimit -c unlimited && exec \"$@\"", "-",
            ]
            let daemon = try host.start(
                allowed + [
                    program, "up", "--token-file", file, "--state-dir", state, "--interface",
                    "none", "--dns", "off", "--dht", "off", "--no-mdns", "--api",
                    "unix:\(lab.directory)/api",
                ])
            try await eventually("the node answers\n\(daemon.output)") {
                FileManager.default.fileExists(atPath: "\(lab.directory)/api")
            }
            // Guards the guard: another program leaves one.
            let other = try host.start(allowed + ["sleep", "60"])
            try await eventually("it sleeps") {
                ProcessMemory.program(of: other.identifier)?.hasSuffix("/sleep") ?? false
            }
            for process in [daemon, other] {
                process.send(SIGABRT)
                #expect(try await process.end(within: .seconds(20)) == 128 + SIGABRT)
            }
            #expect(other.leftCore && !daemon.leftCore)
            #expect(!daemon.output.contains("rashed"), "\(daemon.output)")
        }
    }
}
