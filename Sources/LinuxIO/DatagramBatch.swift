import CLinux
import NetAddress

/// Room for datagrams that one system call brings and for their replies, which another one sends:
/// for a server whose clients are many. Used by one thread.
package final class DatagramBatch {
    private let room: UnsafeMutablePointer<UInt8>
    private let arrived: UnsafeMutablePointer<clinux_incoming>
    private let replies: UnsafeMutablePointer<clinux_outgoing>
    private var replyCount = 0

    /// Datagrams of one receive call.
    package static let capacity = CLINUX_RECEIVE_LIMIT
    /// Longer datagrams are cut: no DNS query has a reason to be.
    private static let datagramSize = 4096
    /// Longer replies are not taken.
    private static let replySize = 1280

    package init() {
        let total = DatagramBatch.datagramSize + DatagramBatch.replySize
        room = .allocate(capacity: DatagramBatch.capacity * total)
        room.initialize(repeating: 0, count: DatagramBatch.capacity * total)
        arrived = .allocate(capacity: DatagramBatch.capacity)
        replies = .allocate(capacity: DatagramBatch.capacity)
        var replyPlace = room + DatagramBatch.capacity * DatagramBatch.datagramSize
        for index in 0..<DatagramBatch.capacity {
            var datagram = clinux_incoming()
            datagram.bytes = room + index * DatagramBatch.datagramSize
            datagram.capacity = UInt32(DatagramBatch.datagramSize)
            (arrived + index).initialize(to: datagram)
            var reply = clinux_outgoing()
            reply.bytes = UnsafePointer(replyPlace)
            (replies + index).initialize(to: reply)
            replyPlace += DatagramBatch.replySize
        }
    }

    deinit {
        arrived.deallocate()
        replies.deallocate()
        room.deallocate()
    }

    /// Takes what has arrived at `socket`, without waiting; how many datagrams. What was taken
    /// before is gone.
    package func receive(from socket: DatagramSocket) -> Int {
        max(
            0,
            Int(
                clinux_udp_receive(
                    socket.descriptor, arrived, Int32(truncatingIfNeeded: DatagramBatch.capacity)))
        )
    }

    /// Replaces `bytes` with the datagram at `index`, in the memory that they have.
    package func copy(_ index: Int, into bytes: inout [UInt8]) {
        precondition(index < DatagramBatch.capacity)
        bytes.removeAll(keepingCapacity: true)
        bytes.append(
            contentsOf: UnsafeBufferPointer(
                start: arrived[index].bytes, count: Int(arrived[index].count)))
    }

    package func source(of index: Int) -> SocketAddress {
        precondition(index < DatagramBatch.capacity)
        return arrived[index].from.socketAddress
    }

    /// Keeps a reply for ``send(by:)``; false when it is too long or there is no more room.
    package func append(_ bytes: [UInt8], to destination: SocketAddress) -> Bool {
        guard replyCount < DatagramBatch.capacity, bytes.count <= DatagramBatch.replySize else {
            return false
        }
        let first = DatagramBatch.capacity * DatagramBatch.datagramSize
        let place = room + first + replyCount * DatagramBatch.replySize
        bytes.withUnsafeBufferPointer { source in
            if let start = source.baseAddress { place.update(from: start, count: source.count) }
        }
        replies[replyCount].count = UInt32(truncatingIfNeeded: bytes.count)
        replies[replyCount].to = clinux_address(destination)
        replyCount += 1
        return true
    }

    /// Sends the replies. What the kernel does not take is lost, as datagrams may be.
    package func send(by socket: DatagramSocket) {
        let family = socket.localAddress.family
        var next = 0
        while next < replyCount {
            let sent = clinux_udp_send(
                socket.descriptor, family, replies + next,
                Int32(truncatingIfNeeded: replyCount - next))
            // An error concerns the first of them.
            next += max(1, Int(sent))
        }
        replyCount = 0
    }
}
