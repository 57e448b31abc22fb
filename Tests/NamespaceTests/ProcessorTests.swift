// Needs qemu-user: qemu-x86_64 runs the program as an older processor would.

import Foundation
import Testing

#if arch(x86_64)
    extension MeshTests {
        @Suite struct ProcessorTests {
            /// Small machines at the edge have no AES instructions (Intel's Nehalem is the last of the
            /// large ones without); without them Intel's library has nothing to offer.
            @Test func aProcessorWithoutAESMeetsOneThatHasIt() async throws {
                try Lab.requireTool("qemu-x86_64", package: "qemu-user")
                try await withMesh { mesh in
                    let machines = try await mesh.lan(["anna", "bert", "olga"])
                    let (anna, bert, olga) = (machines[0], machines[1], machines[2])
                    _ = try await anna.up()
                    _ = try await bert.up()
                    let emulated = try olga.host.start(
                        ["qemu-x86_64", "-cpu", "Nehalem"] + olga.upCommand)
                    try await olga.answers(emulated)
                    for peer in [anna, bert] {
                        try await olga.reaches(peer, within: .seconds(60))
                        try await peer.reaches(olga, within: .seconds(60))
                        #expect(try await peer.suite(with: olga) == "chacha20-poly1305")
                        #expect(try await olga.suite(with: peer) == "chacha20-poly1305")
                    }
                    try await anna.reaches(bert)
                    #expect(try await anna.suite(with: bert) == "aes-256-gcm")
                }
            }
        }
    }

    extension MeshMachine {
        fileprivate func suite(with peer: MeshMachine) async throws -> String? {
            try await status().peers.first { $0.hostname == peer.name }?.suite
        }
    }
#endif
