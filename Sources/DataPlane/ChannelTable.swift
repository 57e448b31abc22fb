import CLinux
import NetAddress

/// The relays' channels that the packet threads serve.
package struct ForwardingChannels: Sendable {
    /// A channel that this node carries between two others.
    package struct Carried: Sendable {
        package var channel: UInt32
        package var first: SocketAddress
        package var second: SocketAddress

        package init(channel: UInt32, first: SocketAddress, second: SocketAddress) {
            self.channel = channel
            self.first = first
            self.second = second
        }
    }

    /// A channel at whose end this node is.
    package struct Ended: Sendable {
        package var channel: UInt32
        package var relay: SocketAddress
        /// What stands for the peer at the other end, in reports.
        package var address: SocketAddress

        package init(channel: UInt32, relay: SocketAddress, address: SocketAddress) {
            self.channel = channel
            self.relay = relay
            self.address = address
        }
    }

    package var carried: [Carried]
    package var ended: [Ended]
    /// Of everything that is carried; `nil` without a limit.
    package var bytesPerSecond: UInt64?

    package init(carried: [Carried] = [], ended: [Ended] = [], bytesPerSecond: UInt64? = nil) {
        self.carried = carried
        self.ended = ended
        self.bytesPerSecond = bytesPerSecond
    }
}

/// The eight bytes before a relayed datagram: EB 56 01 04 and the channel.
enum RelayHeader {
    static let count = 8
    /// The first four bytes.
    static let magic: UInt32 = 0xEB56_0104

    @inline(__always)
    static func matches(_ datagram: UnsafePointer<UInt8>, count: Int) -> Bool {
        count > Self.count && datagram.network32(0) == magic
    }

    @inline(__always)
    static func channel(_ datagram: UnsafePointer<UInt8>) -> UInt32 { datagram.network32(4) }

    @inline(__always)
    static func write(_ channel: UInt32, to output: UnsafeMutablePointer<UInt8>) {
        let bytes = UnsafeMutableRawPointer(output)
        bytes.storeBytes(of: magic.bigEndian, as: UInt32.self)
        bytes.storeBytes(of: channel.bigEndian, toByteOffset: 4, as: UInt32.self)
    }
}

struct ChannelEntry: BitwiseCopyable {
    /// 0 marks an empty place.
    var channel: UInt32 = 0
    var isCarried = false
    /// Of a carried channel: an end. Of an own one: the relay.
    var first = clinux_address()
    /// Of a carried channel: the other end. Of an own one: what stands for the peer.
    var second = clinux_address()
}

/// Channels by number: open addressing, at most half full. Relays choose the numbers at random.
struct ChannelTable: BitwiseCopyable {
    let entries: UnsafeMutablePointer<ChannelEntry>
    let mask: Int
    let bytesPerSecond: UInt64

    init(_ channels: ForwardingChannels) {
        bytesPerSecond = channels.bytesPerSecond ?? .max
        var capacity = 4
        while capacity < (channels.carried.count + channels.ended.count) * 2 { capacity *= 2 }
        mask = capacity - 1
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: ChannelEntry(), count: capacity)
        for carried in channels.carried {
            insert(
                ChannelEntry(
                    channel: carried.channel, isCarried: true,
                    first: clinux_address(carried.first), second: clinux_address(carried.second)))
        }
        for ended in channels.ended {
            insert(
                ChannelEntry(
                    channel: ended.channel, isCarried: false, first: clinux_address(ended.relay),
                    second: clinux_address(ended.address)))
        }
    }

    func deallocate() {
        entries.deallocate()
    }

    private func insert(_ entry: ChannelEntry) {
        guard entry.channel != 0 else { return }
        var position = Int(entry.channel) & mask
        while entries[position].channel != 0 { position = (position + 1) & mask }
        entries[position] = entry
    }

    /// Where the channel is, or -1.
    @inline(__always)
    func find(_ channel: UInt32) -> Int {
        var position = Int(channel) & mask
        while entries[position].channel != 0 {
            if entries[position].channel == channel { return position }
            position = (position &+ 1) & mask
        }
        return -1
    }
}

/// Bytes that may pass now; refilled by time, a tenth of a second at most.
struct RelayAllowance: BitwiseCopyable {
    private var bytes: UInt64 = 0
    private var updated: UInt64 = 0

    /// Whether `count` bytes may pass at `now` (nanoseconds).
    mutating func spend(_ count: Int, rate: UInt64, at now: UInt64) -> Bool {
        if rate == .max { return true }
        let elapsed = min(now &- updated, 100_000_000)
        let burst = max(rate / 10, 65_536)
        bytes = min(burst, bytes &+ rate / 1_000 &* (elapsed / 1_000) / 1_000)
        // What a short span is worth is not lost to rounding.
        if elapsed >= 1_000 { updated = now }
        guard bytes >= UInt64(count) else { return false }
        bytes &-= UInt64(count)
        return true
    }
}
