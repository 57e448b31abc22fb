import MeshBase
import NetAddress

/// What hangs on a claimed IPv4 address. The stronger of two claims wins, and only between equals
/// does the order of hashes decide: an address in a datastore's certificates never changes.
package enum ClaimStrength: UInt8, Comparable, Sendable {
    /// Nothing yet.
    case wish = 1
    /// A server was asked to admit the machine under this address.
    case promised = 2
    /// A datastore on the machine uses it.
    case used = 3

    package static func < (first: ClaimStrength, second: ClaimStrength) -> Bool {
        first.rawValue < second.rawValue
    }
}

/// What a machine says about itself in the ledger: bucket `machines`, key `self`.
///
///     size   field
///     1      layout version, 1
///     1 + n  hostname
///     1      0 = no IPv4 claim, else the strength of the claim that follows
///     4      the claimed IPv4 address
///     1      count of addresses, at most 8
///     7, 19  each address and port at which the machine may be reached
package struct MachineRecord: Hashable, Sendable {
    package var hostname: String
    package var ipv4: IPAddress?
    /// What hangs on the address; without one it means nothing.
    package var strength: ClaimStrength
    package var endpoints: [SocketAddress]

    package static let bucket = "machines"
    package static let key = "self"
    /// A machine with more addresses announces the first ones.
    package static let endpointLimit = 8
    private static let layoutVersion: UInt8 = 1

    package init(
        hostname: String, ipv4: IPAddress?, strength: ClaimStrength, endpoints: [SocketAddress]
    ) {
        self.hostname = hostname
        self.ipv4 = ipv4
        self.strength = ipv4 == nil ? .wish : strength
        self.endpoints = Array(endpoints.prefix(Self.endpointLimit))
    }

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(Self.layoutVersion)
        writer.write(shortText: hostname)
        writer.write(ipv4 == nil ? 0 : strength.rawValue)
        if let ipv4 { writer.write(raw: ipv4.bytes) }
        writer.write(UInt8(endpoints.count))
        for endpoint in endpoints { endpoint.encode(into: &writer) }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == Self.layoutVersion else { throw .field("layout version") }
        hostname = try reader.readShortText()
        guard Self.isValidHostname(hostname) else { throw .field("hostname") }
        let claim = try reader.readByte()
        guard claim == 0 || ClaimStrength(rawValue: claim) != nil else {
            throw .field("IPv4 claim")
        }
        ipv4 = claim == 0 ? nil : IPAddress(bytes: try reader.readBytes(4))
        strength = ClaimStrength(rawValue: claim) ?? .wish
        let count = try reader.readByte()
        guard count <= Self.endpointLimit else { throw .field("address count") }
        endpoints = []
        for _ in 0..<count { endpoints.append(try SocketAddress(from: &reader)) }
        try reader.finish()
    }

    /// One DNS label: letters, digits and inner hyphens, 1...63 bytes (RFC 1123 section 2.1).
    package static func isValidHostname(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        let isLetterOrDigit = { (byte: UInt8) in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
        }
        guard (1...63).contains(bytes.count), let first = bytes.first, let last = bytes.last else {
            return false
        }
        return isLetterOrDigit(first) && isLetterOrDigit(last)
            && bytes.allSatisfy { isLetterOrDigit($0) || $0 == UInt8(ascii: "-") }
    }

    /// The first label of a host's name with everything that a label may not hold replaced.
    package static func hostnameLabel(from name: String) -> String {
        let label = name.split(separator: ".").first.map(String.init) ?? ""
        var bytes = Array(label.utf8.prefix(63)).map { byte -> UInt8 in
            let single = String(decoding: [byte], as: UTF8.self)
            return isValidHostname(single) ? byte : UInt8(ascii: "-")
        }
        while bytes.first == UInt8(ascii: "-") { bytes.removeFirst() }
        while bytes.last == UInt8(ascii: "-") { bytes.removeLast() }
        return bytes.isEmpty ? "node" : String(decoding: bytes, as: UTF8.self)
    }
}
