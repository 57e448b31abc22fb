import Cryptography
import MeshBase

// Noise_IKpsk2, in the order in which the two ends run it:
//   1. the initiator writes  e, es, s, ss, payload      InitiatorHandshake.init
//   2. the responder reads   e, es, s                   ResponderHandshake.init
//      ... looks the static key up ...
//      and                   ss, payload                ResponderHandshake.readPayload
//   3. the responder writes  e, ee, se, psk, payload    ResponderHandshake.respond
//   4. the initiator reads   them                       InitiatorHandshake.finish
// Static-static secrets are arguments: a device computes one per peer, once.

/// The initiator between its message and the answer.
package struct InitiatorHandshake: Sendable {
    let ephemeral: StaticPrivateKey
    private let transcript: NoiseTranscript

    /// The encrypted fields of the first message.
    package struct Message: Sendable {
        package let ephemeral: StaticPublicKey
        /// The sender's static key, 48 bytes.
        package let sealedStatic: [UInt8]
        /// The payload with its 16-byte tag.
        package let sealedPayload: [UInt8]
    }

    /// Writes the first message.
    ///
    /// - Parameters:
    ///   - ephemeral: fresh for every call.
    ///   - staticShared: X25519 of the two static keys.
    /// - Returns: `nil` when the peer's key is a low-order point.
    package static func begin(
        _ parameters: NoiseParameters, local: StaticPublicKey, peer: StaticPublicKey,
        staticShared: SecretBytes, ephemeral: StaticPrivateKey, payload: [UInt8]
    ) -> (handshake: InitiatorHandshake, message: Message)? {
        guard let ephemeralStatic = ephemeral.sharedSecret(with: peer) else { return nil }
        var transcript = parameters.start
        transcript.mixHash(peer.bytes.bytes)
        transcript.mixEphemeral(ephemeral.publicKey)
        let staticKey = transcript.mixKey(ephemeralStatic)
        let sealedStatic = transcript.seal(local.bytes.bytes, key: staticKey)
        let payloadKey = transcript.mixKey(staticShared)
        let sealedPayload = transcript.seal(payload, key: payloadKey)
        let message = Message(
            ephemeral: ephemeral.publicKey, sealedStatic: sealedStatic,
            sealedPayload: sealedPayload)
        return (InitiatorHandshake(ephemeral: ephemeral, transcript: transcript), message)
    }

    /// Reads the answer; `nil` when it does not authenticate. The handshake stays as it was, so a
    /// forged answer cannot spoil it.
    package func finish(
        local: StaticPrivateKey, presharedKey: SecretBytes?, peerEphemeral: StaticPublicKey,
        sealedPayload: [UInt8]
    ) -> (payload: [UInt8], keys: TransportKeys)? {
        var transcript = transcript
        transcript.mixEphemeral(peerEphemeral)
        guard let ephemerals = ephemeral.sharedSecret(with: peerEphemeral),
            let staticEphemeral = local.sharedSecret(with: peerEphemeral)
        else { return nil }
        _ = transcript.mixKey(ephemerals)
        _ = transcript.mixKey(staticEphemeral)
        let key = transcript.mixPresharedKey(presharedKey)
        guard let payload = transcript.open(sealedPayload, key: key) else { return nil }
        return (payload, transcript.split())
    }
}

/// The responder between the first message and its answer.
package struct ResponderHandshake: Sendable {
    /// Who the first message says it is from; proven only by ``readPayload(_:staticShared:)``.
    package let peer: StaticPublicKey
    private let peerEphemeral: StaticPublicKey
    private var transcript: NoiseTranscript

    /// Reads the sender's static key; `nil` when the message was not made for this device.
    package init?(
        _ parameters: NoiseParameters, local: StaticPrivateKey, ephemeral: StaticPublicKey,
        sealedStatic: [UInt8]
    ) {
        guard let ephemeralStatic = local.sharedSecret(with: ephemeral) else { return nil }
        transcript = parameters.start
        transcript.mixHash(local.publicKey.bytes.bytes)
        transcript.mixEphemeral(ephemeral)
        let key = transcript.mixKey(ephemeralStatic)
        guard let raw = transcript.open(sealedStatic, key: key), let bytes = Bytes32(raw) else {
            return nil
        }
        peer = StaticPublicKey(bytes)
        peerEphemeral = ephemeral
    }

    /// Reads the payload; `nil` when the sender does not own ``peer``.
    package mutating func readPayload(_ sealed: [UInt8], staticShared: SecretBytes) -> [UInt8]? {
        let key = transcript.mixKey(staticShared)
        return transcript.open(sealed, key: key)
    }

    /// Writes the answer. Call it after ``readPayload(_:staticShared:)`` succeeded.
    ///
    /// - Returns: the sealed payload and the keys; `nil` for a low-order ephemeral or static key.
    package consuming func respond(
        ephemeral: StaticPrivateKey, presharedKey: SecretBytes?, payload: [UInt8]
    ) -> (sealedPayload: [UInt8], keys: TransportKeys)? {
        transcript.mixEphemeral(ephemeral.publicKey)
        guard let ephemerals = ephemeral.sharedSecret(with: peerEphemeral),
            let ephemeralStatic = ephemeral.sharedSecret(with: peer)
        else { return nil }
        _ = transcript.mixKey(ephemerals)
        _ = transcript.mixKey(ephemeralStatic)
        let key = transcript.mixPresharedKey(presharedKey)
        let sealed = transcript.seal(payload, key: key)
        return (sealed, transcript.split())
    }
}
