import Cryptography
import MeshBase
import NetAddress

/// Proofs that an address can receive: given with answers, wanted with writes (BEP 5).
///
/// A token is a MAC of the address and the target. The secret changes every five minutes and its
/// predecessor still counts, so a token lives five to ten minutes.
struct WriteTokens: Sendable {
    private var current: [UInt8]
    private var previous: [UInt8]
    private(set) var rotatesAt: BootInstant

    static let count = 8
    static let interval = Duration.seconds(300)

    init(at now: BootInstant, random: inout SeededGenerator) {
        current = random.bytes(32)
        previous = random.bytes(32)
        rotatesAt = now + Self.interval
    }

    mutating func rotate(at now: BootInstant, random: inout SeededGenerator) {
        guard rotatesAt <= now else { return }
        previous = current
        current = random.bytes(32)
        rotatesAt = now + Self.interval
    }

    func token(for address: SocketAddress, target: KademliaID) -> [UInt8] {
        WriteTokens.mac(current, address, target)
    }

    func accepts(_ token: [UInt8], from address: SocketAddress, target: KademliaID) -> Bool {
        [current, previous].contains {
            constantTimeEquals(token, WriteTokens.mac($0, address, target))
        }
    }

    private static func mac(_ key: [UInt8], _ address: SocketAddress, _ target: KademliaID)
        -> [UInt8]
    {
        Array(hmacSHA256(key: key, address.ip.bytes + target.bytes).bytes.prefix(count))
    }
}
