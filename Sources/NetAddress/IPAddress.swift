import MeshBase

/// An IPv4 or IPv6 address without a port.
public enum IPAddress: Hashable, Sendable {
    /// Host-order number: 10.1.2.3 is 0x0A010203.
    case v4(UInt32)
    /// The two halves of the 128-bit number, most significant first.
    case v6(UInt64, UInt64)
}

extension IPAddress: Comparable {
    public static func < (lhs: IPAddress, rhs: IPAddress) -> Bool {
        switch (lhs, rhs) {
        case (.v4(let first), .v4(let second)): first < second
        case (.v6(let high1, let low1), .v6(let high2, let low2)):
            (high1, low1) < (high2, low2)
        case (.v4, .v6): true
        case (.v6, .v4): false
        }
    }
}

extension IPAddress {
    package var isIPv4: Bool {
        if case .v4 = self { true } else { false }
    }

    /// 32 or 128.
    package var bitWidth: Int { isIPv4 ? 32 : 128 }

    /// 4 or 16 bytes in network order.
    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 16)
        switch self {
        case .v4(let value): writer.write(value)
        case .v6(let high, let low):
            writer.write(high)
            writer.write(low)
        }
        return writer.bytes
    }

    /// Takes 4 or 16 bytes in network order; `nil` for another count.
    package init?(bytes: some Collection<UInt8>) {
        var high: UInt64 = 0
        var low: UInt64 = 0
        for byte in bytes {
            high = high << 8 | low >> 56
            low = low << 8 | UInt64(byte)
        }
        switch bytes.count {
        case 4: self = .v4(UInt32(truncatingIfNeeded: low))
        case 16: self = .v6(high, low)
        default: return nil
        }
    }

    package var isUnspecified: Bool {
        self == .v4(0) || self == .v6(0, 0)
    }

    package var isLoopback: Bool {
        switch self {
        case .v4(let value): value >> 24 == 127
        case .v6(let high, let low): high == 0 && low == 1
        }
    }

    /// 169.254.0.0/16 or fe80::/10.
    package var isLinkLocal: Bool {
        switch self {
        case .v4(let value): value >> 16 == 0xA9FE
        case .v6(let high, _): high >> 54 == 0xFE80 >> 6
        }
    }

    package var isMulticast: Bool {
        switch self {
        case .v4(let value): value >> 28 == 0xE
        case .v6(let high, _): high >> 56 == 0xFF
        }
    }

    /// An IPv4-mapped IPv6 address (::ffff:a.b.c.d) as IPv4; everything else unchanged.
    package var unmapped: IPAddress {
        if case .v6(0, let low) = self, low >> 32 == 0xFFFF {
            return .v4(UInt32(truncatingIfNeeded: low))
        }
        return self
    }

    /// The 128-bit form in which IPv4 is ::ffff:a.b.c.d, for fixed-size layouts.
    package var mappedBytes: [UInt8] {
        switch self {
        case .v4: [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + bytes
        case .v6: bytes
        }
    }
}

// MARK: - Text (RFC 4291 section 2.2, RFC 5952)

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
    public init?(_ text: String) {
        if let value = parseIPv4(Substring(text)) {
            self = .v4(value)
        } else if let (high, low) = parseIPv6(text) {
            self = .v6(high, low)
        } else {
            return nil
        }
    }

    public var description: String {
        switch self {
        case .v4(let value):
            return "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)"
        case .v6(0, let low) where low >> 32 == 0xFFFF:
            return "::ffff:\(IPAddress.v4(UInt32(truncatingIfNeeded: low)))"
        case .v6(let high, let low):
            return formatIPv6(high, low)
        }
    }
}

private func parseIPv4(_ text: Substring) -> UInt32? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
        guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
            part.utf8.count == 1 || part.utf8.first != 48, let octet = UInt8(part)
        else { return nil }
        value = value << 8 | UInt32(octet)
    }
    return value
}

private func parseIPv6(_ text: String) -> (UInt64, UInt64)? {
    guard text.utf8.contains(UInt8(ascii: ":")), text.utf8.count <= 45 else { return nil }
    var before: [UInt16] = []
    var after: [UInt16] = []
    var sawGap = false
    var rest = Substring(text)
    if rest.hasPrefix("::") {
        sawGap = true
        rest = rest.dropFirst(2)
    } else if rest.hasPrefix(":") {
        return nil
    }
    while !rest.isEmpty {
        let end = rest.firstIndex(of: ":") ?? rest.endIndex
        let group = rest[..<end]
        if end == rest.endIndex, group.contains("."), let tail = parseIPv4(group) {
            let pair = [UInt16(tail >> 16), UInt16(truncatingIfNeeded: tail)]
            if sawGap { after += pair } else { before += pair }
            break
        }
        guard (1...4).contains(group.utf8.count), group.utf8.first != UInt8(ascii: "+"),
            let value = UInt16(group, radix: 16)
        else { return nil }
        if sawGap { after.append(value) } else { before.append(value) }
        guard end != rest.endIndex else { break }
        rest = rest[end...].dropFirst()
        if rest.hasPrefix(":") {
            guard !sawGap else { return nil }
            sawGap = true
            rest = rest.dropFirst()
        } else if rest.isEmpty {
            return nil
        }
    }
    let known = before.count + after.count
    guard sawGap ? known <= 7 : known == 8 else { return nil }
    let groups = before + Array(repeating: 0, count: 8 - known) + after
    let half = { (slice: ArraySlice<UInt16>) in slice.reduce(UInt64(0)) { $0 << 16 | UInt64($1) } }
    return (half(groups[0..<4]), half(groups[4..<8]))
}

private func formatIPv6(_ high: UInt64, _ low: UInt64) -> String {
    let groups = [high, low].flatMap { half in
        [48, 32, 16, 0].map { UInt16(truncatingIfNeeded: half >> UInt64($0)) }
    }
    var best = 0..<0
    var start = 0
    while start < 8 {
        var end = start
        while end < 8, groups[end] == 0 { end += 1 }
        if end - start > best.count, end - start >= 2 { best = start..<end }
        start = max(end, start + 1)
    }
    let text = { (range: Range<Int>) in
        range.map { String(groups[$0], radix: 16) }.joined(separator: ":")
    }
    if best.isEmpty { return text(0..<8) }
    return text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
}
