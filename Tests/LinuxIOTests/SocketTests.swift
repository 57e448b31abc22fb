import CLinux
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Synchronization
import Testing

@Suite("UDP sockets")
struct SocketTests {
    /// Receives until `count` bytes are there, with the size of each datagram.
    func receive(_ socket: UDPSocket, bytes expected: Int) -> [(
        bytes: [UInt8], from: SocketAddress
    )] {
        let room = IncomingRoom()
        defer { withExtendedLifetime(room) {} }
        var received: [(bytes: [UInt8], from: SocketAddress)] = []
        var total = 0
        while total < expected {
            var entry = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 10_000) == 1 else { break }
            let count = socket.endpoint.receive(&room.messages, count: 8)
            for message in room.messages.prefix(max(count, 0)) {
                let all = Array(
                    UnsafeBufferPointer(start: message.bytes, count: Int(message.count)))
                total += all.count
                for start in stride(from: 0, to: all.count, by: max(Int(message.segment), 1)) {
                    let end = min(start + Int(message.segment), all.count)
                    received.append((Array(all[start..<end]), message.from.socketAddress))
                }
            }
        }
        return received
    }

    @Test(
        "send and receive over IPv4 and IPv6 through one descriptor",
        arguments: ["127.0.0.1", "::1"])
    func families(host: String) throws {
        let ip = try #require(IPAddress(host))
        let first = try UDPSocket(port: 0)
        let second = try UDPSocket(port: 0)
        #expect(first.send([1, 2, 3], to: SocketAddress(ip: ip, port: second.port)))
        let received = try #require(receive(second, bytes: 3).first)
        #expect(received.bytes == [1, 2, 3])
        #expect(received.from == SocketAddress(ip: ip, port: first.port))
    }

    @Test("send where they are connected to, and hear nobody else")
    func connected() throws {
        let (first, second, third) = (
            try UDPSocket(port: 0), try UDPSocket(port: 0), try UDPSocket(port: 0)
        )
        let home = IPAddress.v4(0x7F00_0001)
        try first.connect(to: SocketAddress(ip: home, port: second.port))
        let bytes: [UInt8] = [1, 2, 3]
        let sent = bytes.withUnsafeBufferPointer { buffer in
            var message = clinux_outgoing()
            message.bytes = buffer.baseAddress
            message.count = 3
            return first.endpoint.send(&message, count: 1)
        }
        #expect(sent == 1)
        #expect(receive(second, bytes: 3).first?.bytes == bytes)
        third.send([9], to: SocketAddress(ip: home, port: first.port))
        second.send([4, 5], to: SocketAddress(ip: home, port: first.port))
        #expect(receive(first, bytes: 2).map(\.bytes) == [[4, 5]])
    }

    @Test(
        "send a run of datagrams in one message, cut by the kernel",
        arguments: ["127.0.0.1", "::1"])
    func segments(host: String) throws {
        let ip = try #require(IPAddress(host))
        let first = try UDPSocket(port: 0)
        let second = try UDPSocket(port: 0)
        let bytes = (0..<30_500).map { UInt8(truncatingIfNeeded: $0 / 1000) }
        bytes.withUnsafeBufferPointer { buffer in
            var message = clinux_outgoing()
            message.bytes = buffer.baseAddress
            message.count = 30_500
            message.segment = 1000
            message.to = clinux_address(SocketAddress(ip: ip, port: second.port))
            #expect(first.endpoint.send(&message, count: 1) == 1)
        }
        let received = receive(second, bytes: 30_500)
        #expect(received.map(\.bytes.count) == [Int](repeating: 1000, count: 30) + [500])
        #expect(received.flatMap(\.bytes) == bytes)
    }

    @Test("a taken port is refused with its number, a shared one is not")
    func ports() throws {
        let first = try UDPSocket(port: 0)
        let failure = #expect(throws: SystemCallError.self) { try UDPSocket(port: first.port) }
        #expect(failure?.code == EADDRINUSE)
        #expect(failure?.description.contains("\(first.port)") == true)
        let shared = try UDPSocket(port: 0, sharesPort: true)
        #expect(try UDPSocket(port: shared.port, sharesPort: true).port == shared.port)
    }

    @Test("addresses survive the kernel's form")
    func addresses() throws {
        for text in ["1.2.3.4:5", "[fd00::1:2]:65535", "[fe80::1%3]:9"] {
            let address = try #require(SocketAddress(text))
            #expect(clinux_address(address).socketAddress == address)
        }
    }
}

@Suite("Threads, clocks and pollers")
struct SystemTests {
    @Test("a thread bears its name and runs once")
    func thread() throws {
        let name = Mutex("")
        let thread = try WorkerThread(name: "a-rather-long-name") {
            var bytes = [UInt8](repeating: 0, count: 32)
            let file = open("/proc/thread-self/comm", O_RDONLY)
            let count = read(file, &bytes, bytes.count)
            close(file)
            name.withLock { $0 = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self) }
        }
        thread.join()
        #expect(name.withLock { $0 } == "a-rather-long-n\n")
    }

    @Test("the boot clock does not go back, and the wall clock is after 2020")
    func clocks() {
        var last = SystemClock.boot()
        for _ in 0..<1000 {
            let next = SystemClock.boot()
            #expect(next >= last)
            last = next
        }
        #expect(SystemClock.wall().seconds > 1_577_836_800)
    }

    @Test("random bytes differ from call to call")
    func random() {
        #expect(SystemRandom.bytes(0) == [])
        #expect(SystemRandom.bytes(1000).count == 1000)
        #expect(Set((0..<100).map { _ in SystemRandom.bytes32() }).count == 100)
    }

    @Test("a poller wakes for a doorbell, for a deadline, and says which")
    func poller() throws {
        let poller = try Poller()
        let first = try Doorbell()
        let second = try Doorbell()
        try poller.add(first.descriptor, token: 1)
        try poller.add(second.descriptor, token: 2)
        #expect(poller.wait(until: .zero) == [])
        second.ring()
        second.ring()
        #expect(poller.wait(until: nil) == [2])
        #expect(second.answer())
        #expect(!second.answer())
        first.ring()
        second.ring()
        #expect(Set(poller.wait(until: .distantFuture)) == [1, 2])
        poller.remove(first.descriptor)
        second.answer()
        let deadline = SystemClock.boot() + .milliseconds(5)
        #expect(poller.wait(until: deadline) == [])
        #expect(SystemClock.boot() >= deadline)
    }

    @Test("an interface name that is too long is refused before the kernel sees it")
    func deviceName() {
        let failure = #expect(throws: SystemCallError.self) {
            try TunDevice(name: "sixteen-bytes-xx")
        }
        #expect(failure?.code == EINVAL)
    }
}
