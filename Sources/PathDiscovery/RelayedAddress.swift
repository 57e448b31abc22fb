import MeshBase
import NetAddress

/// A datagram on its way through a relay: 8 bytes, then the datagram, opaque to the relay.
///
///     offset  size  field
///     0       4     EB 56, version 1, kind 4
///     4       4     channel, chosen by the relay at random
///
/// The relay takes it only from one of the two addresses between which the channel was opened, and
/// sends it on to the other. What a channel carries is sealed end to end.
package enum RelayFrame {
    package static let headerCount = 8
    package static let kind: UInt8 = 4

    package static func wrap(_ datagram: [UInt8], channel: UInt32) -> [UInt8] {
        var writer = ByteWriter(capacity: datagram.count + headerCount)
        writer.write(raw: EnvelopeFormat.magic)
        writer.write(EnvelopeFormat.version)
        writer.write(kind)
        writer.write(channel)
        writer.write(raw: datagram)
        return writer.bytes
    }

    /// The channel, if the datagram is a relayed one with something in it.
    package static func channel(of datagram: [UInt8]) -> UInt32? {
        guard datagram.count > headerCount, Array(datagram[..<2]) == EnvelopeFormat.magic,
            datagram[2] == EnvelopeFormat.version, datagram[3] == kind
        else { return nil }
        return datagram[4..<headerCount].reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// The way to a member through a relay has an address like any other way, so that every protocol
/// above can hold it: an IPv6 address of the discard block 100::/64 (RFC 6666), which no network
/// carries. Its low half is 32 bits of the relay's id and the channel.
extension SocketAddress {
    package init(relay: NodeID, channel: UInt32) {
        self.init(
            ip: .v6(0x0100_0000_0000_0000, relay.bytes.prefix64 & ~0xFFFF_FFFF | UInt64(channel)),
            port: 1)
    }

    /// Whether it stands for a way through a relay.
    package var isRelayed: Bool {
        guard case .v6(let high, _) = ip else { return false }
        return high == 0x0100_0000_0000_0000
    }

    /// The channel of a relayed address.
    package var relayChannel: UInt32? {
        guard case .v6(let high, let low) = ip, high == 0x0100_0000_0000_0000 else { return nil }
        return UInt32(truncatingIfNeeded: low)
    }

    func isRelayed(by relay: NodeID) -> Bool {
        guard isRelayed, case .v6(_, let low) = ip else { return false }
        return low >> 32 == relay.bytes.prefix64 >> 32
    }

    /// Whether a member may name it as a place where it can be reached.
    var isUsableCandidate: Bool {
        !isRelayed && !ip.isMulticast && !ip.isUnspecified && !ip.isLoopback && port != 0
    }
}
