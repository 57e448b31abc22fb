import CLinux
import Glibc
import LinuxIO
import NetAddress

/// Sends datagrams of 64 bytes in bursts, one a millisecond, and never more than asked for.
///
/// It takes one system call for 64 datagrams and a connected socket, so that it leaves most of the
/// CPU to what carries them. What does not fit into a millisecond is left out, not caught up with.
enum DatagramSource {
    static let size = 64

    static func run(to destination: SocketAddress, perSecond: Int, seconds: Int) throws {
        let socket = try UDPSocket(port: 0)
        try socket.connect(to: destination)
        let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: size)
        bytes.initialize(repeating: 0x5A, count: size)
        var message = clinux_outgoing()
        message.bytes = UnsafePointer(bytes)
        message.count = UInt32(size)
        let messages = [clinux_outgoing](repeating: message, count: Int(CLINUX_SEND_LIMIT))
        let sent = pace(perSecond: perSecond, seconds: seconds) { count in
            messages.withUnsafeBufferPointer { buffer in
                guard let start = buffer.baseAddress else { return 0 }
                return max(0, socket.endpoint.send(start, count: count))
            }
        }
        print("{\"sent\": \(sent), \"seconds\": \(seconds)}")
    }

    /// Calls `body` with at most 64 at a time, as often as the rate wants; the sum of its results.
    static func pace(perSecond: Int, seconds: Int, _ body: (Int) -> Int) -> Int {
        let start = SystemClock.bootNanoseconds()
        let end = start + UInt64(seconds) * 1_000_000_000
        var sent = 0
        var due = start
        var owed = 0
        while due < end {
            // Whole datagrams per millisecond, the rest carried over.
            owed += perSecond
            var count = owed / 1000
            owed %= 1000
            due += 1_000_000
            while count > 0, SystemClock.bootNanoseconds() < due {
                let burst = min(count, Int(CLINUX_SEND_LIMIT))
                sent += body(burst)
                count -= burst
            }
            let now = SystemClock.bootNanoseconds()
            if now < due {
                var pause = timespec(tv_sec: 0, tv_nsec: Int(due - now))
                nanosleep(&pause, nil)
            } else {
                // Late: the milliseconds that passed are lost to the sender.
                due = max(due, now - (now - start) % 1_000_000)
            }
        }
        return sent
    }
}

/// Says "ready", then counts what arrives at a port until nothing has come for 300 ms.
///
/// It asks for a buffer of 16 MiB and takes datagrams one by one (no UDP_GRO), as programs do.
enum DatagramSink {
    static func run(port: Int) throws {
        let socket = try UDPSocket(port: UInt16(port), bufferBytes: 16 << 20)
        var off: Int32 = 0
        setsockopt(socket.descriptor, Int32(IPPROTO_UDP), 104, &off, 4)
        let slots = Int(CLINUX_RECEIVE_LIMIT)
        let capacity = 2048
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: slots * capacity)
        let messages = UnsafeMutablePointer<clinux_incoming>.allocate(capacity: slots)
        messages.initialize(repeating: clinux_incoming(), count: slots)
        for index in 0..<slots {
            messages[index].bytes = memory + index * capacity
            messages[index].capacity = UInt32(capacity)
        }
        print("ready")
        fflush(nil)
        var received = 0
        var entry = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
        // The first may take as long as it takes to start a sender.
        while poll(&entry, 1, received == 0 ? 5000 : 300) > 0 {
            while true {
                let count = socket.endpoint.receive(messages, count: slots)
                if count <= 0 { break }
                for index in 0..<count where messages[index].count == DatagramSource.size {
                    received += 1
                }
            }
        }
        print("{\"received\": \(received)}")
    }
}
