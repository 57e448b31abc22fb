import Cryptography
import MeshBase
import NetAddress
import Testing
import WireGuard

/// Expected values: a model of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s written in Python over
/// OpenSSL and hashlib for this test; the model reproduces the published cacophony vector.
@Suite("The handshake against an independent model")
struct NoiseVectorTests {
    static let initiatorStatic =
        "6fc33ffe6f4c7762d38051c5f1506cb01e459f991f14b5a6a18f8fb7b19b037d"
    static let responderStatic =
        "7818c0faa8c72cc221caa0ddc0448b69ac05b109376d38992dac239ae37f6b01"
    static let initiatorEphemeral =
        "ac4bcbc1a0bb75379e2db0bc907ff26a25b93d0cd55cbebc70a0a925f90b71ed"
    static let responderEphemeral =
        "27fc7a127ae9d37a48876c687dff60187a3815a669bd8837ffb157fcf01560fb"
    static let presharedKey = "6c7c643c909c493de0c582ef8128c06c122c479f99c561872b4e2ad0232eaced"

    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        var prologue = "WireGuard v1 zx2c4 Jason@zx2c4.com"
        var presharedKey: String? = NoiseVectorTests.presharedKey
        var firstPayload = "400000006774850a1d000000"
        var secondPayload = ""
        let sealedStatic: String
        let sealedFirst: String
        let sealedSecond: String
        let initiatorToResponder: String
        let responderToInitiator: String
    }

    static let rows = [
        Row(
            testDescription: "any prologue and payloads",
            prologue: "prologue",
            firstPayload: "6669727374207061796c6f6164",
            secondPayload: "7365636f6e64",
            sealedStatic:
                "0028994cf4da0610af370b35401180ced90c6ea45623e5cd762bba09523a6ffc"
                + "6681ead717e461294ce7ee9f8a7fa585",
            sealedFirst: "0e059e4b43d44400bb0fd1ea4f27a60f67c46aa4fd26215bbb6009f7ba",
            sealedSecond: "6c320ce95f88180b909ccb92c52d2cf62a0404464750",
            initiatorToResponder:
                "0b5f1dda0eea80c60feb6802af4bfedea5aa9a73180a3c2d74a02f51bb9dee3c",
            responderToInitiator:
                "4470b25a94c0cd93b62addae705bbe9fc7a50de5703145b6f6a0f2efe8bceb84"),
        Row(
            testDescription: "WireGuard with a preshared key",
            sealedStatic:
                "0028994cf4da0610af370b35401180ced90c6ea45623e5cd762bba09523a6ffc"
                + "58c842f14002380d8990c59131ecf101",
            sealedFirst: "286cec385080b16bdf63be8b8504d5138f126f92aa7a6456f55b32ab",
            sealedSecond: "2083c100a6d034fee43dd9d10d372edd",
            initiatorToResponder:
                "0b5f1dda0eea80c60feb6802af4bfedea5aa9a73180a3c2d74a02f51bb9dee3c",
            responderToInitiator:
                "4470b25a94c0cd93b62addae705bbe9fc7a50de5703145b6f6a0f2efe8bceb84"),
        Row(
            testDescription: "WireGuard without a preshared key",
            presharedKey: nil,
            sealedStatic:
                "0028994cf4da0610af370b35401180ced90c6ea45623e5cd762bba09523a6ffc"
                + "58c842f14002380d8990c59131ecf101",
            sealedFirst: "286cec385080b16bdf63be8b8504d5138f126f92aa7a6456f55b32ab",
            sealedSecond: "8c04c1de91494a313cf66dec8b56a9c4",
            initiatorToResponder:
                "b13074d767666bf02f4b414fe8129828c900364163a5f608d2c24e4890e2a619",
            responderToInitiator:
                "1052007e63cee6dbc68a0bb00650b75131df87a5bf67314f9123ea1bbfd1a9da"),
        Row(
            testDescription: "the AES suite",
            prologue: "WireGuard v1 zx2c4 Jason@zx2c4.com AES-256-GCM",
            sealedStatic:
                "0028994cf4da0610af370b35401180ced90c6ea45623e5cd762bba09523a6ffc"
                + "012f3eb732602b2be6902a3a2ac991d3",
            sealedFirst: "286cec385080b16bdf63be8b17993072c693525e35f4c2e4fc2da56f",
            sealedSecond: "29643b50f5273eedcef897aec8674168",
            initiatorToResponder:
                "0b5f1dda0eea80c60feb6802af4bfedea5aa9a73180a3c2d74a02f51bb9dee3c",
            responderToInitiator:
                "4470b25a94c0cd93b62addae705bbe9fc7a50de5703145b6f6a0f2efe8bceb84"),
    ]

    @Test("both ends", arguments: rows)
    func bothEnds(row: Row) throws {
        let initiator = StaticPrivateKey(try secret(NoiseVectorTests.initiatorStatic))
        let responder = StaticPrivateKey(try secret(NoiseVectorTests.responderStatic))
        let psk = try row.presharedKey.map { try secret($0) }
        let parameters = NoiseParameters(prologue: Array(row.prologue.utf8))
        let shared = try #require(initiator.sharedSecret(with: responder.publicKey))

        let (handshake, message) = try #require(
            InitiatorHandshake.begin(
                parameters, local: initiator.publicKey, peer: responder.publicKey,
                staticShared: shared,
                ephemeral: StaticPrivateKey(try secret(NoiseVectorTests.initiatorEphemeral)),
                payload: try hex(row.firstPayload)))
        #expect(message.sealedStatic.hex == row.sealedStatic)
        #expect(message.sealedPayload.hex == row.sealedFirst)

        var received = try #require(
            ResponderHandshake(
                parameters, local: responder, ephemeral: message.ephemeral,
                sealedStatic: message.sealedStatic))
        #expect(received.peer == initiator.publicKey)
        let first = received.readPayload(message.sealedPayload, staticShared: shared)
        #expect(first?.hex == row.firstPayload)
        let ephemeral = StaticPrivateKey(try secret(NoiseVectorTests.responderEphemeral))
        let answer = try #require(
            received.respond(
                ephemeral: ephemeral, presharedKey: psk, payload: try hex(row.secondPayload)))
        #expect(answer.sealedPayload.hex == row.sealedSecond)

        let finished = try #require(
            handshake.finish(
                local: initiator, presharedKey: psk, peerEphemeral: ephemeral.publicKey,
                sealedPayload: answer.sealedPayload))
        #expect(finished.payload.hex == row.secondPayload)
        for keys in [answer.keys, finished.keys] {
            #expect(keys.initiatorToResponder.exposedCopy().hex == row.initiatorToResponder)
            #expect(keys.responderToInitiator.exposedCopy().hex == row.responderToInitiator)
        }
    }

    /// A whole datagram of the same model: layout, byte order and mac1.
    @Test("a complete initiation is accepted and answered")
    func datagram() throws {
        let datagram = try hex(
            "010000004433221140ec6170d0476fda1627a6fcdb73617ee1ff6aa33c1979fb"
                + "73c28f321fd87c6b0028994cf4da0610af370b35401180ced90c6ea45623e5cd"
                + "762bba09523a6ffc58c842f14002380d8990c59131ecf101286cec385080b16b"
                + "df63be8b8504d5138f126f92aa7a6456f55b32ab3c77be07ab24706f3c957ba1"
                + "30004d6d00000000000000000000000000000000")
        let initiator = StaticPrivateKey(try secret(NoiseVectorTests.initiatorStatic))
        var device = TunnelDevice(
            privateKey: StaticPrivateKey(try secret(NoiseVectorTests.responderStatic)),
            lastTimestamp: nil)
        device.setPeer(
            TunnelPeerConfiguration(
                publicKey: initiator.publicKey,
                presharedKey: try secret(NoiseVectorTests.presharedKey)))
        var random = SeededGenerator(seed: 1)
        var actions: [TunnelAction] = []
        let now = Now(boot: BootInstant(nanoseconds: 1), wall: WallTime(seconds: 0))
        let source = try #require(SocketAddress("192.0.2.1:1"))
        device.receive(datagram, from: source, at: now, random: &random, into: &actions)
        let response = actions.compactMap { action -> [UInt8]? in
            if case .send(let bytes, source) = action { bytes } else { nil }
        }
        #expect(response.count == 1)
        // Type 2, and the initiator's index comes back as the receiver.
        #expect(response.first?.prefix(4).elementsEqual([2, 0, 0, 0]) == true)
        #expect(response.first?[8..<12].elementsEqual([0x44, 0x33, 0x22, 0x11]) == true)
    }
}
