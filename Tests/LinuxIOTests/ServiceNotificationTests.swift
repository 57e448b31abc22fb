import Glibc
import LinuxIO
import Testing

@Suite("Service notification") struct ServiceNotificationTests {
    @Test func theManagerHearsReadyAndStopping() throws {
        let path = "/tmp/evpn-notify-\(getpid())"
        let listener = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer {
            close(listener)
            unlink(path)
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
        let notification = try #require(ServiceNotification(socket: path))
        notification.ready()
        notification.stopping()
        var buffer = [UInt8](repeating: 0, count: 64)
        var heard: [String] = []
        for _ in 0..<2 {
            let count = recv(listener, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            heard.append(String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self))
        }
        #expect(heard == ["READY=1", "STOPPING=1"])
    }

    @Test func withoutAManagerThereIsNobodyToTell() {
        #expect(ServiceNotification(socket: nil) == nil)
        #expect(ServiceNotification(socket: "relative") == nil)
    }
}
