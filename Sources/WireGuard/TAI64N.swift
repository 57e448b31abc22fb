import MeshBase

/// A TAI64N label: 64-bit TAI seconds and nanoseconds, twelve big-endian bytes on the wire.
///
/// A responder accepts an initiation only with a stamp greater than all before from that peer.
package struct TAI64N: Hashable, Comparable, Sendable {
    package let seconds: UInt64
    package let nanoseconds: UInt32
    package static let byteCount = 12

    package init(seconds: UInt64, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    /// The stamp of a civil time. The low 24 bits of the nanoseconds are cleared, so that a stamp
    /// does not tell an observer the exact time of the sender.
    package init(_ wall: WallTime) {
        let base: UInt64 = 0x4000_0000_0000_000A
        seconds = base &+ UInt64(bitPattern: wall.seconds)
        nanoseconds = wall.nanoseconds & ~TAI64N.granularityMask
    }

    package init(from reader: inout ByteReader) throws(DecodingFailure) {
        seconds = try reader.readUInt64()
        nanoseconds = try reader.readUInt32()
    }

    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: TAI64N.byteCount)
        writer.write(seconds)
        writer.write(nanoseconds)
        return writer.bytes
    }

    package static func < (lhs: TAI64N, rhs: TAI64N) -> Bool {
        (lhs.seconds, lhs.nanoseconds) < (rhs.seconds, rhs.nanoseconds)
    }

    /// The least whitened stamp above this one.
    var successor: TAI64N {
        let next = (nanoseconds & ~TAI64N.granularityMask) + TAI64N.granularityMask + 1
        if next < 1_000_000_000 { return TAI64N(seconds: seconds, nanoseconds: next) }
        return TAI64N(seconds: seconds &+ 1, nanoseconds: 0)
    }

    private static let granularityMask: UInt32 = 0x00FF_FFFF
}

/// Issues strictly increasing stamps, whatever the wall clock does, and reserves them ahead.
///
/// The interpreter makes each reservation durable before it sends. After a restart every stamp is
/// greater than the reservation, hence greater than all that were ever sent.
struct TimestampSource: Sendable {
    private var last: TAI64N?
    private(set) var reserved: TAI64N?

    init(reserved: TAI64N?) {
        last = reserved
        self.reserved = reserved
    }

    /// The stamp for an initiation at `wall`, and the reservation to persist first, if any.
    mutating func next(at wall: WallTime) -> (stamp: TAI64N, reservation: TAI64N?) {
        var stamp = TAI64N(wall)
        if let last, stamp <= last { stamp = last.successor }
        last = stamp
        if let reserved, stamp <= reserved { return (stamp, nil) }
        let ahead = stamp.seconds &+ HandshakePolicy.timestampReservation
        let reservation = TAI64N(seconds: ahead, nanoseconds: 0)
        reserved = reservation
        return (stamp, reservation)
    }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(last?.bytes ?? [])
        hash.mix(reserved?.bytes ?? [])
    }
}
