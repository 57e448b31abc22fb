import CLinux
import Glibc

/// A filter that the kernel applies to a UDP socket (SO_ATTACH_FILTER, socket(7)) while a flood lasts:
/// of the datagrams that are neither of a wanted kind nor from a known source, only a random part
/// gets through. What is refused costs no room in the socket's buffer and wakes nobody.
///
/// The memory is taken at the beginning.
package struct DatagramSampling: ~Copyable {
    /// Sources that can be told apart; each costs the kernel one comparison.
    package static let knownCapacity = 512
    /// At least one in 4,096 gets through.
    package static let greatestShift = 12

    private let known: UnsafeMutablePointer<UInt32>
    private var knownCount = 0
    private let program: UnsafeMutablePointer<sock_filter>
    private var length = 0

    package init() {
        known = .allocate(capacity: DatagramSampling.knownCapacity)
        known.initialize(repeating: 0, count: DatagramSampling.knownCapacity)
        let capacity = DatagramSampling.knownCapacity + 64
        program = .allocate(capacity: capacity)
        program.initialize(repeating: sock_filter(), count: capacity)
    }

    deinit {
        known.deallocate()
        program.deallocate()
    }

    package mutating func forgetSources() {
        knownCount = 0
    }

    /// Datagrams from this address and port will get through. Further ones than
    /// ``knownCapacity`` are ignored. Two sources may count as one, so this is no proof of origin.
    package mutating func know(_ source: clinux_address) {
        guard knownCount < DatagramSampling.knownCapacity else { return }
        known[knownCount] = DatagramSampling.digest(of: source)
        knownCount += 1
    }

    /// From now on one of 2^`shift` unknown datagrams gets through.
    ///
    /// - Parameter wanted: The first four bytes of datagrams that always get through, as numbers
    ///   in network order.
    /// - Returns: Whether the kernel took it.
    package mutating func attach(
        to socket: UDPEndpoint, shift: Int, wanted: (UInt32, UInt32)
    ) -> Bool {
        length = 0
        // The kernel runs it from the UDP header on, which has 8 bytes.
        emit(.loadWord, 8)
        emit(.jumpIfEqual, wanted.0, ifTrue: 1)
        emit(.jumpIfEqual, wanted.1, ifFalse: 1)
        emit(.accept)
        emitDigest()
        var start = 0
        while start < knownCount {
            // A conditional jump reaches 255 instructions.
            let end = min(start + 250, knownCount)
            for index in start..<end {
                emit(.jumpIfEqual, known[index], ifTrue: UInt8(end - index))
            }
            emit(.jump, 1)
            emit(.accept)
            start = end
        }
        emit(.loadWord, DatagramSampling.ancillary + UInt32(SKF_AD_RANDOM))
        emit(.and, (1 << UInt32(min(max(shift, 0), DatagramSampling.greatestShift))) - 1)
        emit(.jumpIfEqual, 0, ifFalse: 1)
        emit(.accept)
        emit(.refuse)
        var whole = sock_fprog(len: UInt16(length), filter: program)
        return setsockopt(
            socket.descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &whole,
            socklen_t(MemoryLayout<sock_fprog>.size)) == 0
    }

    /// Everything gets through again.
    package static func detach(from socket: UDPEndpoint) {
        var unused: Int32 = 0
        setsockopt(
            socket.descriptor, SOL_SOCKET, SO_DETACH_FILTER, &unused,
            socklen_t(MemoryLayout<Int32>.size))
    }

    // MARK: - The program (<linux/filter.h>)

    /// Instructions of BSD's packet filter.
    private enum Code: UInt16 {
        case loadByte = 0x30
        case loadHalf = 0x28
        case loadWord = 0x20
        case toIndex = 0x07
        case multiply = 0x24
        case and = 0x54
        case xorIndex = 0xAC
        case jump = 0x05
        case jumpIfEqual = 0x15
        case accept = 0x06
        case refuse = 0x106

        /// Both ends of the program are one instruction, with the number of bytes to keep.
        var bits: UInt16 { rawValue & 0xFF }
    }

    /// Where the IP header is, and where the kernel's own figures are: negative offsets.
    private static let network = UInt32(bitPattern: SKF_NET_OFF)
    private static let ancillary = UInt32(bitPattern: SKF_AD_OFF)

    private mutating func emit(
        _ code: Code, _ value: UInt32 = 0, ifTrue: UInt8 = 0, ifFalse: UInt8 = 0
    ) {
        let value = code == .accept ? UInt32.max : value
        program[length] = sock_filter(code: code.bits, jt: ifTrue, jf: ifFalse, k: value)
        length += 1
    }

    /// Leaves the source's digest in the accumulator.
    private mutating func emitDigest() {
        emit(.loadByte, DatagramSampling.network)
        emit(.and, 0xF0)
        emit(.jumpIfEqual, 0x40, ifFalse: 2)
        emit(.loadWord, DatagramSampling.network + 12)
        emit(.jump, 10)
        emit(.loadWord, DatagramSampling.network + 8)
        for offset in [12, 16, 20] as [UInt32] {
            emit(.toIndex)
            emit(.loadWord, DatagramSampling.network + offset)
            emit(.xorIndex)
        }
        emit(.toIndex)
        emit(.loadHalf, 0)
        emit(.multiply, DatagramSampling.spread)
        emit(.xorIndex)
    }

    /// An IPv4 address itself, or the four words of an IPv6 address added without carry, and the
    /// port on top.
    private static func digest(of source: clinux_address) -> UInt32 {
        let (high, low) = source.halves
        let isIPv4 = high == 0 && low >> 32 == 0xFFFF
        let mixed = isIPv4 ? low & 0xFFFF_FFFF : high ^ low
        return UInt32(truncatingIfNeeded: mixed >> 32) ^ UInt32(truncatingIfNeeded: mixed)
            ^ UInt32(source.port) &* spread
    }

    private static let spread: UInt32 = 0x9E37_79B1
}
