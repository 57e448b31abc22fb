import CLinux
import NetAddress

extension UDPSocket {
    /// Sends one datagram that routers drop after so many hops (IP_TTL, IPV6_HOPLIMIT).
    @discardableResult
    package func send(_ datagram: [UInt8], to destination: SocketAddress, hops: UInt8) -> Bool {
        datagram.withUnsafeBufferPointer { bytes in
            var message = clinux_outgoing()
            message.bytes = bytes.baseAddress
            message.count = UInt32(truncatingIfNeeded: bytes.count)
            message.to = clinux_address(destination)
            return endpoint.send(&message, hops: hops) == 1
        }
    }
}
