import Glibc

/// The four bytes in front of each piece of a packet that was too large for the path. A piece is an
/// ordinary packet of the session whose payload begins so; the counters of the two are neighbours.
enum PieceHeader {
    static let count = 4
    /// Neither IP (4, 6) nor a control frame (1); the lowest bit tells the second piece.
    static let marker: UInt8 = 0xF0
    static let mask: UInt8 = 0xF0

    /// Writes the header of a piece of `length` bytes.
    static func write(_ start: UnsafeMutablePointer<UInt8>, isSecond: Bool, length: Int) {
        start[0] = marker | (isSecond ? 1 : 0)
        start[1] = 0
        start.storeNetwork(UInt16(truncatingIfNeeded: length), at: 2)
    }
}

/// Pieces whose other piece has not come yet. Both passed the session's seal and replay window, so
/// nobody but the peer can fill this.
struct PieceTable: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var session: UInt32 = 0
        /// Of the first piece.
        var counter: UInt64 = 0
        /// Length of each piece; 0 until it came.
        var first = 0
        var second = 0
        /// The batch in which the packet was joined: it may be referred to until that ends.
        var joinedIn: UInt64 = 0
    }

    enum Outcome {
        case joined(UnsafeMutablePointer<UInt8>, Int)
        /// The other piece is awaited; whether another packet's piece was given up for it.
        case waits(hasReplaced: Bool)
        case malformed
    }

    /// Pieces follow each other closely; this much reordering is taken.
    private static let capacity = 32
    private let entries: UnsafeMutablePointer<Entry>
    /// For each entry room for a packet and, behind it, for a second piece that came first. Not
    /// touched before use: on most paths no packet is ever sent in pieces.
    private let storage: UnsafeMutablePointer<UInt8>
    private let stride: Int
    private let mtu: Int
    private var next = 0
    /// Counts receive batches.
    var batch: UInt64 = 0

    init(mtu: Int) {
        self.mtu = mtu
        stride = (mtu + 63) & ~63
        entries = PacketMemory.touched(PieceTable.capacity, of: Entry())
        storage = .allocate(capacity: PieceTable.capacity * 2 * stride)
    }

    deinit {
        entries.deallocate()
        storage.deallocate()
    }

    /// Whether a packet of this batch lies where the next new piece goes.
    var nextIsInUse: Bool { entries[next].joinedIn == batch && batch != 0 }

    /// Takes a piece; the packet if it is whole now, valid until the batch ends.
    mutating func take(
        _ piece: UnsafePointer<UInt8>, count: Int, session: UInt32, counter: UInt64
    ) -> Outcome {
        guard count > PieceHeader.count, piece[0] & 0x0E == 0, piece[1] == 0 else {
            return .malformed
        }
        let length = piece.network16(2)
        let isSecond = piece[0] & 1 == 1
        guard length > 0, length <= count - PieceHeader.count, length < mtu,
            !isSecond || counter > 0
        else { return .malformed }
        let base = isSecond ? counter - 1 : counter
        var hasReplaced = false
        var index = find(session, base)
        if index < 0 {
            index = next
            next = (next + 1) % PieceTable.capacity
            hasReplaced = (entries[index].first == 0) != (entries[index].second == 0)
            entries[index] = Entry(session: session, counter: base)
        }
        let packet = storage + index * 2 * stride
        memcpy(isSecond ? packet + stride : packet, piece + PieceHeader.count, length)
        if isSecond { entries[index].second = length } else { entries[index].first = length }
        let (first, second) = (entries[index].first, entries[index].second)
        guard first > 0, second > 0 else { return .waits(hasReplaced: hasReplaced) }
        guard first + second <= mtu else {
            entries[index] = Entry()
            return .malformed
        }
        memcpy(packet + first, packet + stride, second)
        entries[index].joinedIn = batch
        return .joined(packet, first + second)
    }

    private func find(_ session: UInt32, _ counter: UInt64) -> Int {
        for index in 0..<PieceTable.capacity {
            let entry = entries + index
            if entry.pointee.counter == counter, entry.pointee.session == session,
                (entry.pointee.first == 0) != (entry.pointee.second == 0)
            {
                return index
            }
        }
        return -1
    }
}
