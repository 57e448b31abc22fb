import MeshBase

/// What an OPT record says (RFC 6891 section 6.1).
package struct EDNS: Hashable, Sendable {
    /// Bytes of UDP payload that the sender can take.
    package var payloadSize: UInt16
    /// The upper eight bits of the response code.
    package var extendedCode: UInt8
    package var version: UInt8
    package var dnssecOK: Bool
    /// The COOKIE option: 8 bytes of the client, then up to 32 of the server (RFC 7873 section 4);
    /// empty when there is none.
    package var cookie: [UInt8] = []
    /// The INFO-CODE of an Extended DNS Error option (RFC 8914 section 2).
    package var extendedError: UInt16?
    /// Bytes of a PADDING option (RFC 7830); `nil` for none.
    package var padding: Int?

    package init(
        payloadSize: UInt16 = EDNS.ownPayloadSize, extendedCode: UInt8 = 0, version: UInt8 = 0,
        dnssecOK: Bool = false
    ) {
        self.payloadSize = payloadSize
        self.extendedCode = extendedCode
        self.version = version
        self.dnssecOK = dnssecOK
    }

    /// What we advertise and send at most over UDP: it fits IPv6's minimum MTU unfragmented.
    package static let ownPayloadSize: UInt16 = 1232
    /// Without EDNS a UDP message has at most 512 bytes (RFC 1035 section 4.2.1).
    package static let classicPayloadSize = 512
    /// Stale Answer (RFC 8914 section 4.4).
    package static let staleAnswer: UInt16 = 3

    private static let cookieOption: UInt16 = 10
    private static let errorOption: UInt16 = 15
    private static let paddingOption: UInt16 = 12
    /// The record without options.
    private static let emptySize = 11

    /// Bytes of the record.
    var size: Int { EDNS.emptySize + optionsSize }

    private var optionsSize: Int {
        (cookie.isEmpty ? 0 : 4 + cookie.count) + (extendedError == nil ? 0 : 6)
            + (padding.map { 4 + $0 } ?? 0)
    }

    /// Padding that makes a query behind which it comes a multiple of 128 bytes, so that its length
    /// tells little (RFC 8467 section 4.1).
    static func padding(behind count: Int) -> Int { (128 - (count + 4) % 128) % 128 }

    /// Appends the record and counts it in the header of `message`.
    func append(to message: inout [UInt8]) {
        message.append(0)
        append(RecordType.opt.rawValue, to: &message)
        append(payloadSize, to: &message)
        message.append(extendedCode)
        message.append(version)
        append(dnssecOK ? 0x8000 : 0, to: &message)
        append(UInt16(optionsSize), to: &message)
        if !cookie.isEmpty {
            append(EDNS.cookieOption, to: &message)
            append(UInt16(cookie.count), to: &message)
            message.append(contentsOf: cookie)
        }
        if let extendedError {
            append(EDNS.errorOption, to: &message)
            append(2, to: &message)
            append(extendedError, to: &message)
        }
        if let padding {
            append(EDNS.paddingOption, to: &message)
            append(UInt16(padding), to: &message)
            message.append(contentsOf: repeatElement(0, count: padding))
        }
        storeUInt16(loadUInt16(message, at: 10) &+ 1, into: &message, at: 10)
    }

    private func append(_ value: UInt16, to message: inout [UInt8]) {
        message.append(UInt8(truncatingIfNeeded: value >> 8))
        message.append(UInt8(truncatingIfNeeded: value))
    }

    /// Reads the options between `reader` and `end`; those of other kinds are passed over.
    mutating func readOptions(
        _ reader: inout DNSReader, to end: Int
    ) throws(DecodingFailure) {
        while reader.offset < end {
            let code = try reader.readUInt16()
            let count = Int(try reader.readUInt16())
            guard reader.offset + count <= end else { throw .field("option length") }
            let next = reader.offset + count
            switch code {
            case EDNS.cookieOption:
                guard count == 8 || (16...40).contains(count) else { throw .field("cookie") }
                // The first counts (RFC 7873 section 5.2).
                if cookie.isEmpty { cookie = try reader.readBytes(count) }
            case EDNS.paddingOption: padding = count
            case EDNS.errorOption where count >= 2: extendedError = try reader.readUInt16()
            default: break
            }
            reader.offset = next
        }
    }
}
