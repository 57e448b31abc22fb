import MeshBase

/// An address block: the first `length` bits of `address`. Bits behind the prefix are zero.
public struct IPPrefix: Hashable, Comparable, Sendable {
    package let address: IPAddress
    /// 0...32 for IPv4, 0...128 for IPv6.
    package let length: Int

    /// Masks `address` to `length` bits; `nil` when the length does not fit the family.
    package init?(_ address: IPAddress, length: Int) {
        guard (0...address.bitWidth).contains(length) else { return nil }
        self.address = address.masked(to: length)
        self.length = length
    }

    /// The block that holds exactly `address`.
    package init(host address: IPAddress) {
        self.address = address
        length = address.bitWidth
    }

    package func contains(_ candidate: IPAddress) -> Bool {
        candidate.isIPv4 == address.isIPv4 && candidate.masked(to: length) == address
    }

    package func overlaps(_ other: IPPrefix) -> Bool {
        length <= other.length ? contains(other.address) : other.contains(address)
    }

    public static func < (lhs: IPPrefix, rhs: IPPrefix) -> Bool {
        (lhs.address, lhs.length) < (rhs.address, rhs.length)
    }
}

extension IPPrefix: CustomStringConvertible, LosslessStringConvertible {
    /// Parses `address/length`, or a bare address as the block of that one host.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let first = parts.first, let address = IPAddress(String(first)) else { return nil }
        switch parts.count {
        case 1: self.init(host: address)
        case 2:
            guard parts[1].utf8.allSatisfy({ (48...57).contains($0) }), let length = Int(parts[1])
            else { return nil }
            self.init(address, length: length)
        default: return nil
        }
    }

    public var description: String { "\(address)/\(length)" }
}

extension IPAddress {
    /// The address with every bit behind the first `length` cleared.
    package func masked(to length: Int) -> IPAddress {
        switch self {
        case .v4(let value):
            return .v4(length <= 0 ? 0 : value & ~UInt32(0) << UInt32(32 - length))
        case .v6(let high, let low):
            let mask = { (bits: Int) in
                bits <= 0 ? UInt64(0) : bits >= 64 ? ~UInt64(0) : ~UInt64(0) << UInt64(64 - bits)
            }
            return .v6(high & mask(length), low & mask(length - 64))
        }
    }
}
