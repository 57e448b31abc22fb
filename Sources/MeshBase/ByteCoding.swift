/// Why bytes could not be read as what they claim to be.
package enum DecodingFailure: Error, Hashable, Sendable {
    /// Fewer bytes than the layout needs.
    case truncated
    /// Bytes are left over after a complete value.
    case trailingBytes
    /// A field holds a value that the layout does not allow; the name is the field's.
    case invalid(StaticFieldName)

    /// Shorthand for ``invalid(_:)``.
    package static func field(_ name: StaticString) -> DecodingFailure {
        .invalid(StaticFieldName(name))
    }
}

/// A field name known at compile time, so that errors never carry hostile bytes.
package struct StaticFieldName: Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ name: StaticString) {
        description = name.description
    }
}

/// Reads fixed layouts front to back. Numbers are big-endian unless the name says otherwise.
package struct ByteReader {
    private let bytes: [UInt8]
    /// The offset of the next unread byte.
    package private(set) var offset: Int
    private let end: Int

    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        offset = 0
        end = bytes.count
    }

    package init(_ slice: ArraySlice<UInt8>) {
        self.init(Array(slice))
    }

    package var remaining: Int { end - offset }

    package mutating func readByte() throws(DecodingFailure) -> UInt8 {
        guard remaining >= 1 else { throw .truncated }
        defer { offset += 1 }
        return bytes[offset]
    }

    package mutating func readUInt16() throws(DecodingFailure) -> UInt16 {
        UInt16(truncatingIfNeeded: try readBigEndian(count: 2))
    }

    package mutating func readUInt32() throws(DecodingFailure) -> UInt32 {
        UInt32(truncatingIfNeeded: try readBigEndian(count: 4))
    }

    package mutating func readUInt64() throws(DecodingFailure) -> UInt64 {
        try readBigEndian(count: 8)
    }

    package mutating func readBytes(_ count: Int) throws(DecodingFailure) -> [UInt8] {
        guard count >= 0, remaining >= count else { throw .truncated }
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    package mutating func readBytes32() throws(DecodingFailure) -> Bytes32 {
        let slice = try readBytes(32)
        guard let value = Bytes32(slice) else { throw .truncated }
        return value
    }

    package mutating func readNodeID() throws(DecodingFailure) -> NodeID {
        NodeID(try readBytes32())
    }

    /// Reads a byte string behind a one-byte length.
    package mutating func readShortBytes() throws(DecodingFailure) -> [UInt8] {
        try readBytes(Int(try readByte()))
    }

    /// Reads a byte string behind a two-byte length.
    package mutating func readLongBytes(limit: Int = 65_535) throws(DecodingFailure) -> [UInt8] {
        let count = Int(try readUInt16())
        guard count <= limit else { throw .field("length") }
        return try readBytes(count)
    }

    /// Reads UTF-8 text behind a one-byte length.
    package mutating func readShortText() throws(DecodingFailure) -> String {
        let raw = try readShortBytes()
        guard let text = String(validating: raw, as: UTF8.self) else { throw .field("text") }
        return text
    }

    /// Every byte that is left.
    package mutating func readRest() -> [UInt8] {
        defer { offset = end }
        return Array(bytes[offset..<end])
    }

    /// Refuses left-over bytes: the last call of a complete decoder.
    package func finish() throws(DecodingFailure) {
        guard remaining == 0 else { throw .trailingBytes }
    }

    private mutating func readBigEndian(count: Int) throws(DecodingFailure) -> UInt64 {
        guard remaining >= count else { throw .truncated }
        var value: UInt64 = 0
        for index in offset..<offset + count {
            value = value << 8 | UInt64(bytes[index])
        }
        offset += count
        return value
    }
}

/// Writes fixed layouts front to back, the mirror of ``ByteReader``.
package struct ByteWriter {
    package private(set) var bytes: [UInt8]

    package init(capacity: Int = 256) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    package var count: Int { bytes.count }

    package mutating func write(_ value: UInt8) {
        bytes.append(value)
    }

    package mutating func write(_ value: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    package mutating func write(_ value: UInt32) {
        write(UInt16(truncatingIfNeeded: value >> 16))
        write(UInt16(truncatingIfNeeded: value))
    }

    package mutating func write(_ value: UInt64) {
        write(UInt32(truncatingIfNeeded: value >> 32))
        write(UInt32(truncatingIfNeeded: value))
    }

    package mutating func write(_ value: Bytes32) {
        bytes.append(contentsOf: value.bytes)
    }

    package mutating func write(_ value: NodeID) {
        write(value.bytes)
    }

    package mutating func write(raw value: some Sequence<UInt8>) {
        bytes.append(contentsOf: value)
    }

    /// Writes a byte string of at most 255 bytes behind its one-byte length.
    package mutating func write(short value: some Collection<UInt8>) {
        precondition(value.count <= 255, "a short byte string has at most 255 bytes")
        bytes.append(UInt8(value.count))
        bytes.append(contentsOf: value)
    }

    /// Writes a byte string of at most 65,535 bytes behind its two-byte length.
    package mutating func write(long value: some Collection<UInt8>) {
        precondition(value.count <= 65_535, "a long byte string has at most 65,535 bytes")
        write(UInt16(value.count))
        bytes.append(contentsOf: value)
    }

    package mutating func write(shortText value: String) {
        write(short: Array(value.utf8))
    }

    package mutating func pad(to count: Int) {
        if bytes.count < count {
            bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
        }
    }
}

/// The four bytes at `offset` as a little-endian number; the caller checks the bounds.
package func loadLittleEndian32(_ bytes: [UInt8], at offset: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in stride(from: offset + 3, through: offset, by: -1) {
        value = value << 8 | UInt32(bytes[index])
    }
    return value
}
