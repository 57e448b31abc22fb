import MeshBase
import NetAddress

/// The texts of an Internet gateway device (UPnP Device Architecture 1.1; WANIPConnection:1 and :2).
///
///     1. M-SEARCH, a datagram, is answered with the place of a description
///     2. the description, XML, names the place of a service's control
///     3. AddPortMapping, GetExternalIPAddress, GetSpecificPortMappingEntry and DeletePortMapping are
///        SOAP calls there
///
/// Gateways' texts are read only as far as needed: the values of a few elements, wherever they are.
enum UPnP {
    static let searchPort: UInt16 = 1_900
    static let group = IPAddress.v4(0xEFFF_FFFA)
    static let serviceTypes = [
        "urn:schemas-upnp-org:service:WANIPConnection:2",
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "urn:schemas-upnp-org:service:WANPPPConnection:1",
    ]
    /// More than any description; the end of it is not read.
    static let textLimit = 65_536

    static func search(_ target: String) -> [UInt8] {
        Array(
            """
            M-SEARCH * HTTP/1.1\r
            HOST: 239.255.255.250:1900\r
            MAN: "ssdp:discover"\r
            MX: 1\r
            ST: \(target)\r
            \r

            """.utf8)
    }

    /// Where a page is: always at an address, since a gateway that needs names is none.
    struct Place: Hashable {
        var address: SocketAddress
        var path: String

        init?(_ url: String) {
            guard url.lowercased().hasPrefix("http://") else { return nil }
            let rest = url.dropFirst(7)
            let host = rest.prefix { $0 != "/" }
            let parts = host.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2, let ip = IPAddress(String(parts[0])), ip.isIPv4,
                case let port? = parts.count == 2 ? UInt16(String(parts[1])) : 80, port != 0
            else { return nil }
            address = SocketAddress(ip: ip, port: port)
            path = rest.count > host.count ? String(rest.dropFirst(host.count)) : "/"
            guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        }

        init(address: SocketAddress, path: String) {
            self.address = address
            self.path = path
        }
    }

    /// The place of the description in the answer to a search.
    static func location(_ datagram: [UInt8]) -> Place? {
        guard datagram.count <= 2_048 else { return nil }
        let lines = String(decoding: datagram, as: UTF8.self).split(whereSeparator: \.isNewline)
        guard let first = lines.first, first.hasPrefix("HTTP/1."), first.contains(" 200") else {
            return nil
        }
        for line in lines.dropFirst() where line.lowercased().hasPrefix("location:") {
            return Place(trimmed(line.dropFirst(9)))
        }
        return nil
    }

    static func get(_ place: Place) -> [UInt8] {
        Array(
            """
            GET \(place.path) HTTP/1.1\r
            Host: \(place.address)\r
            Connection: close\r
            \r

            """.utf8)
    }

    /// The service of a description that maps ports, with the place of its control.
    static func control(in body: String, from place: Place) -> (service: String, place: Place)? {
        for service in serviceTypes {
            for block in elements("service", in: body) where block.contains(service) {
                guard let path = elements("controlURL", in: block).first.map({ trimmed($0[...]) })
                else { continue }
                if let there = Place(path) {
                    // A description that leads elsewhere is not followed.
                    guard there.address.ip == place.address.ip else { continue }
                    return (service, there)
                }
                guard !path.isEmpty, !path.contains("://") else { continue }
                let absolute = path.hasPrefix("/") ? path : "/" + path
                guard absolute.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { continue }
                return (service, Place(address: place.address, path: absolute))
            }
        }
        return nil
    }

    static func call(
        _ action: String, _ arguments: [(String, String)], service: String, at place: Place
    ) -> [UInt8] {
        let values = arguments.map { "<\($0.0)>\($0.1)</\($0.0)>" }.joined()
        let body =
            "<?xml version=\"1.0\"?>"
            + "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\""
            + " s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>"
            + "<u:\(action) xmlns:u=\"\(service)\">\(values)</u:\(action)></s:Body></s:Envelope>"
        let head = """
            POST \(place.path) HTTP/1.1\r
            Host: \(place.address)\r
            Content-Type: text/xml; charset="utf-8"\r
            SOAPAction: "\(service)#\(action)"\r
            Content-Length: \(body.utf8.count)\r
            Connection: close\r
            \r

            """
        return Array(head.utf8) + Array(body.utf8)
    }

    static func add(
        _ port: UInt16, to client: IPAddress, internalPort: UInt16, lease: UInt32
    ) -> [(String, String)] {
        [
            ("NewRemoteHost", ""), ("NewExternalPort", "\(port)"), ("NewProtocol", "UDP"),
            ("NewInternalPort", "\(internalPort)"), ("NewInternalClient", "\(client)"),
            ("NewEnabled", "1"), ("NewPortMappingDescription", "edgevpn"),
            ("NewLeaseDuration", "\(lease)"),
        ]
    }

    /// Names one mapping.
    static func entry(_ port: UInt16) -> [(String, String)] {
        [("NewRemoteHost", ""), ("NewExternalPort", "\(port)"), ("NewProtocol", "UDP")]
    }

    /// Whether a gateway's answer about a mapping says that it leads to `client`.
    static func names(_ client: IPAddress, in reply: (status: Int, body: String)) -> Bool {
        reply.status == 200
            && elements("NewInternalClient", in: reply.body).first.map { trimmed($0[...]) }
                == "\(client)"
    }

    /// An HTTP answer: its status, and its body without chunks.
    static func answer(_ bytes: [UInt8]) -> (status: Int, body: String)? {
        let end: [UInt8] = [13, 10, 13, 10]
        guard let split = bytes.indices.first(where: { bytes[$0...].starts(with: end) }) else {
            return nil
        }
        let head = String(decoding: bytes[..<split], as: UTF8.self).split(
            whereSeparator: \.isNewline)
        let words = head.first?.split(separator: " ") ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            return nil
        }
        var body = Array(bytes[(split + 4)...])
        if head.contains(where: {
            $0.lowercased().hasPrefix("transfer-encoding:") && $0.lowercased().contains("chunked")
        }) {
            body = unchunked(body)
        }
        return (status, String(decoding: body, as: UTF8.self))
    }

    /// RFC 9112 section 7.1, as far as it came.
    private static func unchunked(_ body: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var rest = body[...]
        while let newline = rest.firstIndex(of: 10) {
            let digits = rest[..<newline].prefix { $0 != 13 && $0 != UInt8(ascii: ";") }
            guard let count = Int(String(decoding: digits, as: UTF8.self), radix: 16), count > 0,
                count <= textLimit
            else { break }
            let chunk = rest[(newline + 1)...]
            result += chunk.prefix(count)
            rest = chunk.dropFirst(count + 2)
        }
        return result
    }

    /// The contents of all elements of a name, without namespaces.
    static func elements(_ name: String, in text: String) -> [String] {
        var result: [String] = []
        let bytes = Array(text.utf8)
        let opening = Array("<\(name)>".utf8)
        let closing = Array("</\(name)>".utf8)
        var position = 0
        while let start = find(opening, in: bytes, from: position),
            let end = find(closing, in: bytes, from: start + opening.count)
        {
            result.append(
                String(decoding: bytes[(start + opening.count)..<end], as: UTF8.self))
            position = end + closing.count
        }
        return result
    }

    private static func find(_ needle: [UInt8], in bytes: [UInt8], from start: Int) -> Int? {
        guard bytes.count >= needle.count, start <= bytes.count - needle.count else { return nil }
        return (start...(bytes.count - needle.count)).first {
            bytes[$0] == needle[0] && bytes[$0..<($0 + needle.count)].elementsEqual(needle)
        }
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while let first = text.first, first.isWhitespace { text.removeFirst() }
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text)
    }
}
