import CPacketCipher
import Cryptography
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import WireGuard

/// Our packet engine between two machines without any control: two sessions whose keys stand here.
///
/// With the cipher `null`, which copies, it is the limit of this architecture: whatever a cipher
/// costs is the difference. The real ciphers show what control costs.
enum EngineTunnel {
    static func run(_ words: [String]) throws {
        guard let port = UInt16(words[3]), let peer = SocketAddress(words[4]),
            let own = IPAddress(words[5]), let other = IPAddress(words[6])
        else { throw Misuse(description: "tunnel CIPHER INTERFACE PORT PEER:PORT OWN PEER") }
        let isNull = words[1] == "null"
        let suite: PacketSuite = words[1] == "aes-256-gcm" ? .aes256GCM : .chaCha20Poly1305
        let device = try TunDevice(name: words[2])
        let socket = try UDPSocket(port: port)
        var configuration = DataPlaneConfiguration(device: device, socket: socket)
        if isNull { configuration.engine = nullEngine }
        let plane = try PacketPlane(configuration)
        let isFirst = own.number < other.number
        let session = session(suite, isFirst: isFirst)
        let key = StaticPublicKey(Bytes32(word0: isFirst ? 2 : 1, word1: 0, word2: 0, word3: 0))
        plane.publish(
            ForwardingSnapshot(peers: [
                ForwardingPeer(
                    key: key, endpoint: peer, prefixes: [IPPrefix(host: other)], sending: session,
                    receiving: [session])
            ]))
        try plane.start()
        withExtendedLifetime(plane) { _ = pause() }
    }

    /// Usable for a day: there is nobody here to renew it.
    private static func session(_ suite: PacketSuite, isFirst: Bool) -> TransportSession {
        let one = SecretBytes(Bytes32(word0: 1, word1: 1, word2: 1, word3: 1))
        let two = SecretBytes(Bytes32(word0: 2, word1: 2, word2: 2, word3: 2))
        return TransportSession(
            localIndex: isFirst ? 1 : 2, remoteIndex: isFirst ? 2 : 1, suite: suite,
            sendKey: isFirst ? one : two, receiveKey: isFirst ? two : one, isInitiator: isFirst,
            createdAt: SystemClock.boot() + .seconds(86_400))
    }

    /// Packets leave as they are, under a tag of zeros that nobody checks.
    private static let nullEngine: @Sendable () -> PacketEngine = {
        guard let engine = PacketEngine(.ipsecMB) ?? PacketEngine(.sodium) else {
            preconditionFailure("no engine to take the ciphers out of")
        }
        engine.table.pointee.seal_chacha = { _, _, _, input, count, output in
            guard let input, let output else { return }
            memcpy(output, input, count)
            memset(output + count, 0, Int(PACKET_TAG_BYTES))
        }
        engine.table.pointee.open_chacha = { _, _, _, input, count, output in
            guard let input, let output else { return -1 }
            memmove(output, input, count - Int(PACKET_TAG_BYTES))
            return 0
        }
        return engine
    }
}
