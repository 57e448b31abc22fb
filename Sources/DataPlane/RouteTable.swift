import NetAddress

/// Longest-prefix match, compiled into sorted disjoint ranges: a lookup is one binary search,
/// whatever the prefixes are. 10,000 prefixes make at most 20,001 ranges.
package struct RouteTable: BitwiseCopyable {
    /// First address of each range, ascending, the first one 0.
    let starts4: UnsafeMutablePointer<UInt32>
    let slots4: UnsafeMutablePointer<Int32>
    let count4: Int
    let starts6: UnsafeMutablePointer<UInt128>
    let slots6: UnsafeMutablePointer<Int32>
    let count6: Int

    /// No peer.
    package static let none: Int32 = -1

    /// - Parameter routes: Later entries win over earlier ones with the same prefix.
    package init(_ routes: [(prefix: IPPrefix, slot: Int32)]) {
        let ranges4 = RouteTable.disjoint(routes.filter { $0.prefix.address.isIPv4 })
        let ranges6 = RouteTable.disjoint(routes.filter { !$0.prefix.address.isIPv4 })
        count4 = ranges4.count
        count6 = ranges6.count
        starts4 = .allocate(capacity: count4)
        slots4 = .allocate(capacity: count4)
        starts6 = .allocate(capacity: count6)
        slots6 = .allocate(capacity: count6)
        for (index, range) in ranges4.enumerated() {
            starts4[index] = UInt32(truncatingIfNeeded: range.start)
            slots4[index] = range.slot
        }
        for (index, range) in ranges6.enumerated() {
            starts6[index] = range.start
            slots6[index] = range.slot
        }
    }

    package func deallocate() {
        starts4.deallocate()
        slots4.deallocate()
        starts6.deallocate()
        slots6.deallocate()
    }

    /// The peer slot for a host-order IPv4 address, or ``none``.
    @inline(__always)
    package func slot4(_ address: UInt32) -> Int32 {
        var low = 0
        var length = count4
        while length > 1 {
            let half = length / 2
            if starts4[low &+ half] <= address { low &+= half }
            length &-= half
        }
        return slots4[low]
    }

    /// The peer slot for a host-order IPv6 address, or ``none``.
    @inline(__always)
    package func slot6(_ address: UInt128) -> Int32 {
        var low = 0
        var length = count6
        while length > 1 {
            let half = length / 2
            if starts6[low &+ half] <= address { low &+= half }
            length &-= half
        }
        return slots6[low]
    }

    private struct Range {
        var start: UInt128
        var slot: Int32
    }

    /// Nested prefixes to disjoint ranges: prefixes either nest or are apart, so a stack of the
    /// open ones suffices.
    private static func disjoint(_ routes: [(prefix: IPPrefix, slot: Int32)]) -> [Range] {
        let sorted = routes.enumerated().sorted { first, second in
            if first.element.prefix != second.element.prefix {
                return first.element.prefix < second.element.prefix
            }
            return first.offset < second.offset
        }
        var ranges = [Range(start: 0, slot: none)]
        var open: [(end: UInt128, slot: Int32)] = []
        func begin(_ start: UInt128, _ slot: Int32) {
            if ranges[ranges.count - 1].start == start {
                ranges[ranges.count - 1].slot = slot
            } else if ranges[ranges.count - 1].slot != slot {
                ranges.append(Range(start: start, slot: slot))
            }
        }
        func close(before start: UInt128?) {
            while let last = open.last, start.map({ last.end < $0 }) ?? true {
                open.removeLast()
                let (next, overflow) = last.end.addingReportingOverflow(1)
                if !overflow { begin(next, open.last?.slot ?? none) }
            }
        }
        for (_, route) in sorted {
            let (start, end) = bounds(route.prefix)
            close(before: start)
            begin(start, route.slot)
            open.append((end, route.slot))
        }
        close(before: nil)
        return ranges.filter { $0.start <= addressLimit(routes) }
    }

    private static func addressLimit(_ routes: [(prefix: IPPrefix, slot: Int32)]) -> UInt128 {
        routes.first?.prefix.address.isIPv4 ?? true ? UInt128(UInt32.max) : .max
    }

    private static func bounds(_ prefix: IPPrefix) -> (UInt128, UInt128) {
        let width = prefix.address.bitWidth
        let host: UInt128 =
            width == prefix.length
            ? 0 : UInt128.max >> UInt128(128 - (width - prefix.length))
        let start = prefix.address.number
        return (start, start | host)
    }
}

extension IPAddress {
    /// The address as a number, IPv4 in the low 32 bits.
    package var number: UInt128 {
        switch self {
        case .v4(let value): UInt128(value)
        case .v6(let high, let low): UInt128(high) << 64 | UInt128(low)
        }
    }
}
