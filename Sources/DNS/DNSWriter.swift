import NetAddress

/// Writes a DNS message front to back, with name compression (RFC 1035 section 4.1.4).
struct DNSWriter {
    private(set) var bytes: [UInt8]
    /// Where labels of names begin that later names may point to.
    private var labelOffsets: [UInt16] = []

    /// Enough for every name of a usual answer; a bound keeps large messages linear.
    private static let maximumLabelOffsets = 48
    /// Pointers have fourteen bits.
    private static let maximumPointer = 0x3FFF

    /// Starts with a header whose four counts are zero.
    init(id: UInt16, flags: DNSFlags, capacity: Int = 256) {
        bytes = []
        bytes.reserveCapacity(capacity)
        write(id)
        write(flags.rawValue)
        for _ in 0..<8 { bytes.append(0) }
    }

    /// Starts a response that repeats the question of `query`, bytes 12..<`questionEnd`, verbatim.
    init(id: UInt16, flags: DNSFlags, questionOf query: [UInt8], questionEnd: Int) {
        self.init(id: id, flags: flags)
        guard questionEnd > DNSReader.headerSize else { return }
        bytes.append(contentsOf: query[DNSReader.headerSize..<questionEnd])
        setCount(.question, 1)
        noteLabels(from: DNSReader.headerSize)
    }

    enum Section: Int {
        case question = 4
        case answer = 6
        case authority = 8
        case additional = 10
    }

    var count: Int { bytes.count }

    mutating func setCount(_ section: Section, _ count: Int) {
        storeUInt16(UInt16(clamping: count), into: &bytes, at: section.rawValue)
    }

    mutating func increment(_ section: Section) {
        let count = loadUInt16(bytes, at: section.rawValue)
        storeUInt16(count &+ 1, into: &bytes, at: section.rawValue)
    }

    /// Takes back the count of one additional record.
    mutating func decrementAdditional() {
        let offset = Section.additional.rawValue
        storeUInt16(loadUInt16(bytes, at: offset) &- 1, into: &bytes, at: offset)
    }

    mutating func setFlags(_ flags: DNSFlags) {
        storeUInt16(flags.rawValue, into: &bytes, at: 2)
    }

    /// Takes back everything behind `count`.
    mutating func truncate(to count: Int) {
        bytes.removeLast(bytes.count - count)
        labelOffsets.removeAll { Int($0) >= count }
    }

    mutating func write(_ value: UInt8) {
        bytes.append(value)
    }

    mutating func write(_ value: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    mutating func write(_ value: UInt32) {
        write(UInt16(truncatingIfNeeded: value >> 16))
        write(UInt16(truncatingIfNeeded: value))
    }

    mutating func write(_ question: DNSQuestion) {
        write(question.name)
        write(question.type.rawValue)
        write(question.recordClass.rawValue)
        increment(.question)
    }

    mutating func write(_ record: ResourceRecord, in section: Section) {
        write(record.name)
        write(record.type.rawValue)
        write(record.recordClass.rawValue)
        write(record.ttl)
        let lengthOffset = bytes.count
        write(UInt16(0))
        write(record.data)
        let length = UInt16(clamping: bytes.count - lengthOffset - 2)
        storeUInt16(length, into: &bytes, at: lengthOffset)
        increment(section)
    }

    /// Appends an OPT record to the additional section.
    mutating func write(_ edns: EDNS) {
        edns.append(to: &bytes)
    }

    /// Names are compressed in the data of RFC 1035's own types only (RFC 3597 section 4).
    private mutating func write(_ data: RecordData) {
        switch data {
        case .address(.v4(let value)): write(value)
        case .address(.v6(let high, let low)):
            for half in [high, low] {
                write(UInt32(truncatingIfNeeded: half >> 32))
                write(UInt32(truncatingIfNeeded: half))
            }
        case .ns(let name), .cname(let name), .ptr(let name): write(name)
        case .soa(let soa):
            write(soa.primary)
            write(soa.mailbox)
            write(soa.serial)
            write(soa.refresh)
            write(soa.retry)
            write(soa.expire)
            write(soa.minimum)
        case .mx(let preference, let exchange):
            write(preference)
            write(exchange)
        case .txt(let texts):
            for text in texts.isEmpty ? [[]] : texts {
                let bounded = text.prefix(255)
                write(UInt8(bounded.count))
                bytes.append(contentsOf: bounded)
            }
        case .srv(let service):
            write(service.priority)
            write(service.weight)
            write(service.port)
            bytes.append(contentsOf: service.target.wire)
        case .opaque(_, let raw): bytes.append(contentsOf: raw)
        }
    }

    /// Writes `name`, ending in a pointer where its tail is already in the message.
    mutating func write(_ name: DNSName) {
        let wire = name.wire
        var position = 0
        // Labels of this very name are no targets: it is not complete yet.
        let complete = labelOffsets.count
        while wire[position] != 0 {
            let targets = labelOffsets[..<complete]
            if let target = targets.first(where: { matches(wire, from: position, at: $0) }) {
                write(0xC000 | target)
                return
            }
            if bytes.count <= DNSWriter.maximumPointer,
                labelOffsets.count < DNSWriter.maximumLabelOffsets
            {
                labelOffsets.append(UInt16(bytes.count))
            }
            let next = position + 1 + Int(wire[position])
            bytes.append(contentsOf: wire[position..<next])
            position = next
        }
        bytes.append(0)
    }

    /// Whether the name that starts at `target` in the message equals the tail of `wire`.
    private func matches(_ wire: [UInt8], from start: Int, at target: UInt16) -> Bool {
        var position = start
        var offset = Int(target)
        while true {
            let length = Int(bytes[offset])
            if length >= 0xC0 {
                offset = (length & 0x3F) << 8 | Int(bytes[offset + 1])
                continue
            }
            guard length == Int(wire[position]) else { return false }
            if length == 0 { return true }
            for index in 1...length
            where foldCase(bytes[offset + index]) != foldCase(wire[position + index]) {
                return false
            }
            offset += length + 1
            position += length + 1
        }
    }

    private mutating func noteLabels(from start: Int) {
        var position = start
        while bytes[position] != 0 {
            labelOffsets.append(UInt16(position))
            position += 1 + Int(bytes[position])
            if labelOffsets.count == DNSWriter.maximumLabelOffsets { return }
        }
    }
}
