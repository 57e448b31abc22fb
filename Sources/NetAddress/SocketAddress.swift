import MeshBase

/// Where a datagram came from or goes to: address, port and, for link-local IPv6, the interface.
public struct SocketAddress: Hashable, Sendable {
    package var ip: IPAddress
    package var port: UInt16
    /// The interface index that a link-local IPv6 address belongs to; 0 otherwise.
    package var scope: UInt32

    package init(ip: IPAddress, port: UInt16, scope: UInt32 = 0) {
        self.ip = ip
        self.port = port
        self.scope = scope
    }
}

/// By address, port, interface.
extension SocketAddress: Comparable {
    public static func < (lhs: SocketAddress, rhs: SocketAddress) -> Bool {
        if lhs.ip != rhs.ip { return lhs.ip < rhs.ip }
        return (lhs.port, lhs.scope) < (rhs.port, rhs.scope)
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `10.0.0.1:51820`, `[fd00::1]:51820` or `[fe80::1%3]:51820`.
    public var description: String {
        if ip.isIPv4 { return "\(ip):\(port)" }
        return scope == 0 ? "[\(ip)]:\(port)" : "[\(ip)%\(scope)]:\(port)"
    }

    /// Parses a literal address with a port; host names are not resolved.
    package init?(_ text: String) {
        guard let (host, port) = splitHostPort(text) else { return nil }
        let parts = host.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let ip = IPAddress(String(first)) else { return nil }
        var scope: UInt32 = 0
        if parts.count == 2 {
            guard !ip.isIPv4, let index = UInt32(parts[1]) else { return nil }
            scope = index
        }
        self.init(ip: ip, port: port, scope: scope)
    }
}

/// Splits `host:port` or `[v6]:port`; `nil` when the port is missing, 0 or not a number.
package func splitHostPort(_ text: String) -> (host: String, port: UInt16)? {
    guard let colon = text.lastIndex(of: ":"),
        let port = UInt16(text[text.index(after: colon)...]), port != 0
    else { return nil }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") {
        host = String(host.dropFirst().dropLast())
    } else if host.contains(":") {
        return nil
    }
    return host.isEmpty ? nil : (host, port)
}

extension SocketAddress {
    /// 19 bytes or 7: family (4 or 6), address, port. Scopes do not travel.
    package func encode(into writer: inout ByteWriter) {
        writer.write(UInt8(ip.isIPv4 ? 4 : 6))
        writer.write(raw: ip.bytes)
        writer.write(port)
    }

    package init(from reader: inout ByteReader) throws(DecodingFailure) {
        let family = try reader.readByte()
        guard family == 4 || family == 6 else { throw .field("address family") }
        guard let ip = IPAddress(bytes: try reader.readBytes(family == 4 ? 4 : 16)) else {
            throw .truncated
        }
        self.init(ip: ip, port: try reader.readUInt16())
    }
}
