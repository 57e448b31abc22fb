import MeshBase
import NetAddress

/// Reads a DNS message front to back and follows compression pointers.
struct DNSReader {
    let bytes: [UInt8]
    var offset: Int

    /// The fixed header (RFC 1035 section 4.1.1).
    static let headerSize = 12

    init(_ bytes: [UInt8], at offset: Int = 0) {
        self.bytes = bytes
        self.offset = offset
    }

    mutating func readByte() throws(DecodingFailure) -> UInt8 {
        guard offset < bytes.count else { throw .truncated }
        defer { offset += 1 }
        return bytes[offset]
    }

    mutating func readUInt16() throws(DecodingFailure) -> UInt16 {
        guard offset + 2 <= bytes.count else { throw .truncated }
        defer { offset += 2 }
        return loadUInt16(bytes, at: offset)
    }

    mutating func readUInt32() throws(DecodingFailure) -> UInt32 {
        let high = UInt32(try readUInt16())
        return high << 16 | UInt32(try readUInt16())
    }

    mutating func readBytes(_ count: Int) throws(DecodingFailure) -> [UInt8] {
        guard count >= 0, offset + count <= bytes.count else { throw .truncated }
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    /// Reads a name. A pointer must go to an earlier place than the part it ends, so following
    /// pointers always comes to an end (RFC 1035 section 4.1.4: "a prior occurrence").
    mutating func readName() throws(DecodingFailure) -> DNSName {
        var wire: [UInt8] = []
        wire.reserveCapacity(32)
        var position = offset
        var partStart = offset
        var end: Int?
        while true {
            guard position < bytes.count else { throw .truncated }
            let length = Int(bytes[position])
            switch length >> 6 {
            case 0 where length == 0:
                wire.append(0)
                offset = end ?? position + 1
                return DNSName(validWire: wire)
            case 0:
                let next = position + 1 + length
                guard next < bytes.count else { throw .truncated }
                guard wire.count + length + 2 <= DNSName.maximumLength else {
                    throw .field("name length")
                }
                wire.append(contentsOf: bytes[position..<next])
                position = next
            case 3:
                guard position + 1 < bytes.count else { throw .truncated }
                let target = (length & 0x3F) << 8 | Int(bytes[position + 1])
                guard target >= DNSReader.headerSize, target < partStart else {
                    throw .field("compression pointer")
                }
                if end == nil { end = position + 2 }
                position = target
                partStart = target
            default:
                throw .field("label type")
            }
        }
    }

    mutating func readQuestion() throws(DecodingFailure) -> DNSQuestion {
        let name = try readName()
        let type = RecordType(rawValue: try readUInt16())
        return DNSQuestion(
            name, type, recordClass: RecordClass(rawValue: try readUInt16()))
    }

    /// Reads the part of a record in front of its data and checks that the data is all there.
    mutating func readRecordHead() throws(DecodingFailure) -> RecordHead {
        let name = try readName()
        let type = RecordType(rawValue: try readUInt16())
        let recordClass = RecordClass(rawValue: try readUInt16())
        let ttlOffset = offset
        let ttl = try readUInt32()
        let count = Int(try readUInt16())
        guard offset + count <= bytes.count else { throw .truncated }
        return RecordHead(
            name: name, type: type, recordClass: recordClass, ttl: ttl, ttlOffset: ttlOffset,
            dataEnd: offset + count)
    }

    /// Reads the data that follows `head`, up to exactly its end.
    mutating func readData(_ head: RecordHead) throws(DecodingFailure) -> RecordData {
        let count = head.dataEnd - offset
        let data: RecordData
        switch head.type {
        case .a, .aaaa:
            let expected = head.type == .a ? 4 : 16
            guard count == expected, let ip = IPAddress(bytes: try readBytes(count)) else {
                throw .field("address length")
            }
            data = .address(ip)
        case .ns: data = .ns(try readName())
        case .cname: data = .cname(try readName())
        case .ptr: data = .ptr(try readName())
        case .soa: data = .soa(try readStartOfAuthority())
        case .mx: data = .mx(preference: try readUInt16(), exchange: try readName())
        case .txt: data = .txt(try readTexts(to: head.dataEnd))
        case .srv: data = .srv(try readServiceLocation())
        default: data = .opaque(head.type, try readOpaque(head.type, to: head.dataEnd))
        }
        guard offset == head.dataEnd else { throw .field("data length") }
        return data
    }

    private mutating func readStartOfAuthority() throws(DecodingFailure) -> StartOfAuthority {
        StartOfAuthority(
            primary: try readName(), mailbox: try readName(), serial: try readUInt32(),
            refresh: try readUInt32(), retry: try readUInt32(), expire: try readUInt32(),
            minimum: try readUInt32())
    }

    /// SRV targets are read with pointers, which multicast DNS allows (RFC 6762 section 18.14).
    private mutating func readServiceLocation() throws(DecodingFailure) -> ServiceLocation {
        ServiceLocation(
            priority: try readUInt16(), weight: try readUInt16(), port: try readUInt16(),
            target: try readName())
    }

    private mutating func readTexts(to end: Int) throws(DecodingFailure) -> [[UInt8]] {
        var texts: [[UInt8]] = []
        while offset < end {
            let count = Int(try readByte())
            guard offset + count <= end else { throw .field("text length") }
            texts.append(try readBytes(count))
        }
        return texts
    }
}

/// A record without its data.
struct RecordHead {
    let name: DNSName
    let type: RecordType
    let recordClass: RecordClass
    let ttl: UInt32
    let ttlOffset: Int
    let dataEnd: Int

    /// What the fields of an OPT record mean (RFC 6891 section 6.1.2).
    var edns: EDNS {
        EDNS(
            payloadSize: recordClass.rawValue, extendedCode: UInt8(ttl >> 24),
            version: UInt8(truncatingIfNeeded: ttl >> 16), dnssecOK: ttl & 0x8000 != 0)
    }

    /// Seconds, with the reading of RFC 2181 section 8.
    var lifetime: UInt32 { ttl > 0x7FFF_FFFF ? 0 : ttl }
}

/// The two bytes at `offset`; the caller checks the bounds.
@inline(__always)
func loadUInt16(_ bytes: [UInt8], at offset: Int) -> UInt16 {
    UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
}

/// The four bytes at `offset`; the caller checks the bounds.
@inline(__always)
func loadUInt32(_ bytes: [UInt8], at offset: Int) -> UInt32 {
    UInt32(loadUInt16(bytes, at: offset)) << 16 | UInt32(loadUInt16(bytes, at: offset + 2))
}

@inline(__always)
func storeUInt16(_ value: UInt16, into bytes: inout [UInt8], at offset: Int) {
    bytes[offset] = UInt8(truncatingIfNeeded: value >> 8)
    bytes[offset + 1] = UInt8(truncatingIfNeeded: value)
}

@inline(__always)
func storeUInt32(_ value: UInt32, into bytes: inout [UInt8], at offset: Int) {
    storeUInt16(UInt16(truncatingIfNeeded: value >> 16), into: &bytes, at: offset)
    storeUInt16(UInt16(truncatingIfNeeded: value), into: &bytes, at: offset + 2)
}
