import Glibc

/// Tells the service manager that started this process how it is doing (sd_notify(3)): one
/// datagram to the unix socket that NOTIFY_SOCKET names. Without a manager it does nothing.
package struct ServiceNotification: Sendable {
    private let path: String

    /// - Parameter socket: the value of NOTIFY_SOCKET; `nil` when nobody asked.
    package init?(socket: String?) {
        guard let socket, socket.hasPrefix("/") || socket.hasPrefix("@"), socket.utf8.count < 108
        else { return nil }
        path = socket
    }

    /// The node works.
    package func ready() { send("READY=1") }

    /// The node says goodbye.
    package func stopping() { send("STOPPING=1") }

    private func send(_ state: String) {
        let descriptor = socket(
            AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        // A leading @ stands for the zero byte of the abstract name space.
        if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = MemoryLayout<sa_family_t>.size + bytes.count
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { target in
                sendto(
                    descriptor, state, state.utf8.count, Int32(MSG_NOSIGNAL), target,
                    socklen_t(length))
            }
        }
    }
}
