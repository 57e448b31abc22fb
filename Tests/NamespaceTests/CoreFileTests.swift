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
            try FileManager.default.copyItem(atPath: try Lab.binary(), toPath: program)
            #expect(chmod(program, 0o755) == 0)
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
}
