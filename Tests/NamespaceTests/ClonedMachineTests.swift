// Three machines on one switch:  anna --- bert --- copy, all on lan0. The disk of copy is anna's.

import Foundation
import Testing

extension MeshTests {
    @Suite struct ClonedMachineTests {
        /// Whoever copies a machine with its state has two of one identity. Both say so, and what to
        /// do; neither brings the other members into disorder.
        @Test func twoMachinesWithOneIdentitySaySo() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "copy"])
                let (anna, bert, copy) = (machines[0], machines[1], machines[2])
                let first = try await anna.up(["--interface", "none"])
                _ = try await bert.up(["--interface", "none"])
                try await anna.sees(bert, "alive")
                try await bert.sees(anna, "alive")
                first.send(SIGTERM)
                #expect(try await first.end(within: .seconds(20)) == 0)
                try FileManager.default.copyItem(atPath: anna.state, toPath: copy.state)

                _ = try await anna.up(["--interface", "none"])
                let command = try copy.upCommand.map { $0 == "copy" ? "anna" : $0 }
                let second = try copy.host.start(command + ["--interface", "none"])
                try await copy.answers(second)
                #expect(try await anna.status().node.id == copy.status().node.id)
                for machine in [anna, copy] {
                    try await eventually("\(machine.name) says it", within: .seconds(90)) {
                        let status = try await machine.ask(["status"])
                        return status.output.contains("a copy of this machine's identity")
                    }
                }
                #expect(second.output.contains("a copy of this machine's identity"))
                // Without the copy it is an ordinary machine again.
                second.send(SIGKILL)
                try await anna.sees(bert, "alive", within: .seconds(60))
                try await bert.sees(anna, "alive", within: .seconds(60))
            }
        }
    }
}
