import NetAddress

/// Addresses that a public name has no business with: a page of that name could otherwise make a
/// browser talk to machines that only the reader's network can reach ("DNS rebinding").
package func isLocalOnly(_ address: IPAddress) -> Bool {
    let ip = address.unmapped
    if ip.isUnspecified || ip.isLoopback || ip.isLinkLocal { return true }
    switch ip {
    case .v4(let value):
        // RFC 1918 section 3, RFC 6598 section 7, and 0.0.0.0/8, which Linux takes for itself.
        return value >> 24 == 10 || value >> 20 == 0xAC1 || value >> 16 == 0xC0A8
            || value >> 22 == 0x6440 >> 6 || value >> 24 == 0
    case .v6(0x0064_FF9B_0000_0000, let low) where low >> 32 == 0:
        // An IPv4 address behind NAT64 (RFC 6052 section 2.1).
        return isLocalOnly(.v4(UInt32(truncatingIfNeeded: low)))
    case .v6(let high, _):
        // Unique local addresses (RFC 4193 section 3.1).
        return high >> 57 == 0xFC >> 1
    }
}

extension ResourceRecord {
    /// The addresses that a client may connect to because of this record.
    var reachableAddresses: [IPAddress] {
        switch data {
        case .address(let ip): return [ip]
        case .opaque(let type, let bytes) where type == .svcb || type == .https:
            return addressHints(bytes)
        case .ns, .cname, .ptr, .soa, .mx, .txt, .srv, .opaque: return []
        }
    }
}

/// The `ipv4hint` and `ipv6hint` of a service binding (RFC 9460 section 7.3), as far as it can be
/// read.
func addressHints(_ data: [UInt8]) -> [IPAddress] {
    var result: [IPAddress] = []
    var offset = 2
    while offset < data.count, data[offset] != 0 { offset += 1 + Int(data[offset]) }
    offset += 1
    while offset + 4 <= data.count {
        let key = loadUInt16(data, at: offset)
        let start = offset + 4
        let end = start + Int(loadUInt16(data, at: offset + 2))
        guard end <= data.count else { break }
        let step = key == 4 ? 4 : 16
        if key == 4 || key == 6 {
            for place in stride(from: start, through: end - step, by: step) {
                if let ip = IPAddress(bytes: data[place..<place + step]) { result.append(ip) }
            }
        }
        offset = end
    }
    return result
}
