import DataPlane
import MeshBase
import NetAddress
import Testing

@Suite("The route table")
struct RoutingTests {
    /// Longest match by looking at every prefix; the later of equal ones wins.
    func reference(_ routes: [(IPPrefix, Int32)], _ address: IPAddress) -> Int32 {
        var best: (length: Int, slot: Int32) = (-1, RouteTable.none)
        for (prefix, slot) in routes where prefix.contains(address) {
            if prefix.length >= best.length { best = (prefix.length, slot) }
        }
        return best.slot
    }

    func check(_ routes: [(IPPrefix, Int32)], _ addresses: [IPAddress]) {
        let table = RouteTable(routes.map { (prefix: $0.0, slot: $0.1) })
        defer { table.deallocate() }
        for address in addresses {
            let found: Int32
            switch address {
            case .v4(let value): found = table.slot4(value)
            case .v6(let high, let low): found = table.slot6(UInt128(high) << 64 | UInt128(low))
            }
            let expected = reference(routes, address)
            #expect(found == expected, "\(address) among \(routes.count) prefixes")
        }
    }

    @Test("agrees with looking at every prefix", arguments: 1...6)
    func random(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var routes: [(IPPrefix, Int32)] = []
        var addresses: [IPAddress] = [
            .v4(0), .v4(.max), .v6(0, 0), .v6(.max, .max), .v4(0x8000_0000),
        ]
        for slot in 0..<Int32(120) {
            // Few significant bits, so that prefixes nest and touch.
            let value = UInt32(random.next() & 0x0F) << 28 | UInt32(random.next() & 3)
            let length = Int(random.next() % 33)
            let address = IPAddress.v4(value).masked(to: length)
            routes.append((try #require(IPPrefix(address, length: length)), slot % 7))
            let high = random.next() & 0xF000_0000_0000_0003
            let length6 = Int(random.next() % 129)
            let address6 = IPAddress.v6(high, random.next() & 3).masked(to: length6)
            routes.append((try #require(IPPrefix(address6, length: length6)), slot % 5))
        }
        for (prefix, _) in routes {
            switch prefix.address {
            case .v4(let value):
                let last = UInt32(truncatingIfNeeded: UInt64(1) << UInt64(32 - prefix.length) - 1)
                addresses += [
                    .v4(value), .v4(value &- 1), .v4(value | last), .v4((value | last) &+ 1),
                ]
            case .v6(let high, let low):
                addresses += [.v6(high, low), .v6(high, low ^ 1), .v6(high ^ 1, low)]
            }
        }
        for _ in 0..<500 {
            addresses.append(.v4(UInt32(truncatingIfNeeded: random.next())))
            addresses.append(.v6(random.next(), random.next()))
        }
        check(routes, addresses)
    }

    @Test("holds 10,000 routes of both families")
    func many() throws {
        var routes: [(IPPrefix, Int32)] = []
        for index in UInt32(0)..<5000 {
            routes.append((IPPrefix(host: .v4(0x0A01_0000 + index * 3)), Int32(index)))
            let address = IPAddress.v6(0xFD00 << 48, UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
            routes.append((IPPrefix(host: address), Int32(index)))
        }
        let table = RouteTable(routes.map { (prefix: $0.0, slot: $0.1) })
        defer { table.deallocate() }
        for (prefix, slot) in routes {
            switch prefix.address {
            case .v4(let value):
                #expect(table.slot4(value) == slot)
                #expect(table.slot4(value + 1) == RouteTable.none)
            case .v6(let high, let low):
                #expect(table.slot6(UInt128(high) << 64 | UInt128(low)) == slot)
            }
        }
    }

    @Test("without routes nothing has a peer")
    func empty() {
        check([], [.v4(0), .v4(.max), .v6(0, 0), .v6(.max, .max)])
    }
}

@Suite("The Internet checksum")
struct ChecksumTests {
    @Test("agrees with the sum word by word, at every length and alignment")
    func reference() {
        let bytes = pattern(1600)
        bytes.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return }
            for offset in 0..<8 {
                for count in 0...300 {
                    let slice = Array(bytes[offset..<offset + count])
                    let sum = InternetChecksum.add(base + offset, count: count, to: 0)
                    let value = UInt16(bigEndian: ~InternetChecksum.fold(sum))
                    #expect(value == referenceChecksum(slice))
                }
            }
        }
    }

    @Test("carries through the worst bytes of the largest packet")
    func carries() {
        let bytes = [UInt8](repeating: 0xFF, count: 65_535)
        bytes.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return }
            let sum = InternetChecksum.add(base, count: bytes.count, to: 0)
            #expect(UInt16(bigEndian: ~InternetChecksum.fold(sum)) == referenceChecksum(bytes))
        }
    }
}

@Suite("Cutting super-packets")
struct SegmentationTests {
    /// Each packet, read out before the next is written over its end.
    func cut(_ header: [UInt8], _ packet: [UInt8]) -> [[UInt8]]? {
        var bytes = packet + [UInt8](repeating: 0xAA, count: 64)
        var template = [UInt8](repeating: 0, count: Segmentation.templateCapacity)
        return bytes.withUnsafeMutableBufferPointer { buffer in
            template.withUnsafeMutableBufferPointer { space in
                guard let start = buffer.baseAddress, let scratch = space.baseAddress,
                    let segmentation = Segmentation(
                        header: header, packet: start, count: packet.count, template: scratch)
                else { return nil }
                var packets: [[UInt8]] = []
                for index in 0..<segmentation.count {
                    let (first, count) = segmentation.write(index)
                    packets.append(Array(UnsafeBufferPointer(start: first, count: count)))
                }
                return packets
            }
        }
    }

    @Test(
        "gives the packets that the kernel would have sent", arguments: [false, true],
        [true, false])
    func packets(isIPv6: Bool, isTCP: Bool) throws {
        var template = PacketTemplate(isIPv6: isIPv6, isTCP: isTCP)
        template.flags = 0x19 | 0x80
        for (count, size) in [(5000, 1368), (1368, 1368), (1369, 1368), (10, 3), (60_000, 999)] {
            let payload = pattern(count)
            let packets = try #require(cut(template.superHeader(size), template.packet(payload)))
            #expect(packets.count == (count + size - 1) / size)
            for (index, packet) in packets.enumerated() {
                var expected = template
                let isLast = index == packets.count - 1
                expected.sequence &+= UInt32(index * size)
                expected.identification = (template.identification + index) & 0xFFFF
                expected.flags =
                    0x10 | (isLast ? 0x09 : 0) | (index == 0 ? 0x80 : 0)
                let part = Array(payload[(index * size)..<min(count, (index + 1) * size)])
                #expect(packet == expected.packet(part), "packet \(index) of \(packets.count)")
                #expect(transportChecksum(packet) == 0)
            }
        }
    }

    @Test("survives any header")
    func hostile() {
        var random = SeededGenerator(seed: 9)
        let packets = [
            PacketTemplate().packet(pattern(300)),
            PacketTemplate(isIPv6: true).packet(pattern(300)),
            PacketTemplate(isTCP: false).packet(pattern(300)),
        ]
        var refused = 0
        for round in 0..<20_000 {
            var header = random.bytes(10)
            // Mostly plausible: the type and a small start get further in.
            if round % 2 == 0 { header[1] = [1, 4, 5][round / 2 % 3] }
            if round % 4 < 3 { header[7] = 0 }
            var packet = packets[round % 3]
            packet[Int(random.next() % UInt64(packet.count))] = UInt8(random.next() & 255)
            let short = Array(packet.prefix(20 + Int(random.next() % 300)))
            if cut(header, short) == nil { refused += 1 }
        }
        #expect(refused > 0 && refused < 20_000)
    }
}
