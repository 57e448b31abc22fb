import CLinux
import NetAddress

extension UDPSocket {
    /// Takes what has arrived, at most `limit` messages, and hands it over datagram by datagram.
    package func receiveDatagrams(limit: Int, _ body: ([UInt8], SocketAddress) -> Void) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 65_536) { room in
            for _ in 0..<limit {
                var message = clinux_incoming()
                message.bytes = room.baseAddress
                message.capacity = UInt32(room.count)
                guard endpoint.receive(&message, count: 1) == 1 else { return }
                guard message.is_truncated == 0 else { continue }
                let total = Int(message.count)
                let segment = message.segment == 0 ? total : Int(message.segment)
                let source = message.from.socketAddress
                var offset = 0
                while offset < total {
                    let end = min(offset + segment, total)
                    body(Array(room[offset..<end]), source)
                    offset = end
                }
            }
        }
    }
}
