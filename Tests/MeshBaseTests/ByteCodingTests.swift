import MeshBase
import Testing

@Test func numbersAreBigEndianBothWays() throws {
    var writer = ByteWriter()
    writer.write(UInt8(1))
    writer.write(UInt16(0x0203))
    writer.write(UInt32(0x0405_0607))
    writer.write(UInt64(0x0809_0A0B_0C0D_0E0F))
    #expect(writer.bytes == Array(1...15))
    var reader = ByteReader(writer.bytes)
    #expect(try reader.readByte() == 1)
    #expect(try reader.readUInt16() == 0x0203)
    #expect(try reader.readUInt32() == 0x0405_0607)
    #expect(reader.offset == 7)
    #expect(try reader.readUInt64() == 0x0809_0A0B_0C0D_0E0F)
    try reader.finish()
}

@Test func stringsOfBytesCarryTheirLength() throws {
    let long = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
    var writer = ByteWriter()
    writer.write(short: long.prefix(255))
    writer.write(long: long)
    writer.write(shortText: "Grüße")
    writer.write(short: [])
    var reader = ByteReader(writer.bytes)
    #expect(try reader.readShortBytes() == Array(long.prefix(255)))
    #expect(try reader.readLongBytes() == long)
    #expect(try reader.readShortText() == "Grüße")
    #expect(try reader.readShortBytes() == [])
    try reader.finish()
}

@Test func aSliceIsReadFromItsOwnBeginning() throws {
    var reader = ByteReader([9, 9, 1, 2][2...])
    #expect(try reader.readUInt16() == 0x0102)
    #expect(reader.remaining == 0)
}

/// Reads one value of each kind; every one of them must refuse a text that is too short.
private let reads: [(count: Int, read: @Sendable (inout ByteReader) throws -> Void)] = [
    (1, { _ = try $0.readByte() }),
    (2, { _ = try $0.readUInt16() }),
    (4, { _ = try $0.readUInt32() }),
    (8, { _ = try $0.readUInt64() }),
    (5, { _ = try $0.readBytes(5) }),
    (32, { _ = try $0.readBytes32() }),
    (32, { _ = try $0.readNodeID() }),
]

@Test func nothingIsReadBeyondTheEnd() {
    for (count, read) in reads {
        for available in 0..<count {
            var reader = ByteReader([UInt8](repeating: 7, count: available))
            #expect(throws: DecodingFailure.truncated) { try read(&reader) }
            #expect(reader.offset == 0, "a failed read of \(count) bytes took some")
        }
        var reader = ByteReader([UInt8](repeating: 7, count: count))
        #expect(throws: Never.self) { try read(&reader) }
        #expect(reader.remaining == 0)
    }
}

@Test func lengthsThatLieAreRefused() {
    var short = ByteReader([3, 1, 2])
    #expect(throws: DecodingFailure.truncated) { try short.readShortBytes() }
    var long = ByteReader([0xFF, 0xFF, 1])
    #expect(throws: DecodingFailure.truncated) { try long.readLongBytes() }
    var limited = ByteReader([0, 3, 1, 2, 3])
    #expect(throws: DecodingFailure.field("length")) { try limited.readLongBytes(limit: 2) }
    var negative = ByteReader([1, 2, 3])
    #expect(throws: DecodingFailure.truncated) { try negative.readBytes(-1) }
    var text = ByteReader([2, 0xC3, 0x28])
    #expect(throws: DecodingFailure.field("text")) { try text.readShortText() }
}

@Test func leftOverBytesAreAFailure() throws {
    var reader = ByteReader([1, 2])
    _ = try reader.readByte()
    #expect(throws: DecodingFailure.trailingBytes) { try reader.finish() }
    #expect(reader.readRest() == [2])
    try reader.finish()
}

@Test func paddingFillsAndNeverCuts() {
    var writer = ByteWriter()
    writer.write(raw: [1, 2, 3])
    writer.pad(to: 2)
    #expect(writer.bytes == [1, 2, 3])
    writer.pad(to: 5)
    #expect(writer.bytes == [1, 2, 3, 0, 0])
    #expect(writer.count == 5)
}

@Test func thirtyTwoBytesCompareLikeTheirBytes() throws {
    let small = try #require(Bytes32([UInt8](repeating: 0, count: 31) + [0xFF]))
    let large = try #require(Bytes32([1] + [UInt8](repeating: 0, count: 31)))
    let high = try #require(Bytes32([0x80] + [UInt8](repeating: 0, count: 31)))
    #expect([high, small, .zero, large].sorted() == [.zero, small, large, high])
    #expect(small.bytes == [UInt8](repeating: 0, count: 31) + [0xFF])
    #expect(large.prefix64 == 1 << 56)
    #expect(Bytes32([UInt8](repeating: 0, count: 31)) == nil)
    #expect(Bytes32([UInt8](repeating: 0, count: 33)) == nil)
    #expect(large.description.count == 64)
    #expect(NodeID(high).short == "80000000")
    for position in 0..<32 {
        var bytes = [UInt8](repeating: 0, count: 32)
        bytes[position] = 1
        let value = try #require(Bytes32(bytes))
        #expect(value > .zero)
        #expect(value.bytes == bytes)
    }
}
