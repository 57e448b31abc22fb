import CLinux
import Glibc

/// One queue of a TUN device: IP packets in and out of the kernel, each behind a
/// `virtio_net_hdr`, with segmentation left to us (<linux/if_tun.h>, virtio 1.2 section 5.1.6).
package final class TunDevice: Sendable {
    package let descriptor: Int32
    /// The interface name that the kernel chose or accepted.
    package let name: String
    /// Whether the kernel hands over and takes whole runs of UDP datagrams (Linux 6.2).
    package let offloadsUDP: Bool

    /// Packets that may wait for the reader. The kernel's 500 overflow within a sender's time slice
    /// of a few milliseconds at small packets; senders of large ones are held back by their own
    /// socket buffers long before.
    package static let queueLength = 2000

    /// The `virtio_net_hdr` in front of every packet.
    package static let headerCount = 10

    /// Creates the device, or attaches another queue to one that this process made.
    ///
    /// - Parameters:
    ///   - name: At most 15 bytes; the kernel fills in a number for `%d`.
    ///   - multiQueue: All queues of a device must say the same.
    package init(name: String, multiQueue: Bool = false) throws(SystemCallError) {
        let operation = "create interface \(name)"
        guard name.utf8.count < Int(IFNAMSIZ), !name.isEmpty else {
            throw SystemCallError(operation, code: EINVAL)
        }
        let opened = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard opened >= 0 else { throw SystemCallError("open /dev/net/tun") }
        var field = [CChar](repeating: 0, count: Int(IFNAMSIZ))
        for (index, byte) in name.utf8.enumerated() { field[index] = CChar(bitPattern: byte) }
        var status = clinux_tun_attach(opened, &field, multiQueue ? 1 : 0)
        var hasUDP = true
        if status == 0 { status = clinux_tun_set_offload(opened, CLINUX_OFFLOAD_TCP_UDP) }
        if status == -EINVAL {
            hasUDP = false
            status = clinux_tun_set_offload(opened, CLINUX_OFFLOAD_TCP)
        }
        guard status == 0 else {
            close(opened)
            throw SystemCallError(operation, code: status)
        }
        descriptor = opened
        offloadsUDP = hasUDP
        let spelled = field.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        self.name = String(decoding: spelled, as: UTF8.self)
    }

    /// The queues of a new device, one for each packet thread. The kernel sends the packets of a
    /// flow to the queue that wrote the flow's answers last.
    ///
    /// - Parameter count: At least 1.
    package static func queues(
        of name: String, count: Int
    ) throws(SystemCallError) -> [TunDevice] {
        var queues = [try TunDevice(name: name, multiQueue: count > 1)]
        while queues.count < count {
            queues.append(try TunDevice(name: queues[0].name, multiQueue: true))
        }
        return queues
    }

    /// Takes over a descriptor that behaves like a device's: whole packets behind virtio headers.
    /// Another process may have opened it.
    package init(adopting descriptor: Int32, name: String, offloadsUDP: Bool) {
        self.descriptor = descriptor
        self.name = name
        self.offloadsUDP = offloadsUDP
    }

    deinit {
        close(descriptor)
    }

    /// For a packet loop, whose owner keeps this object alive.
    package var queue: TunQueue { TunQueue(descriptor: descriptor) }
}

/// The reading and writing of a ``TunDevice``, without a reference count.
package struct TunQueue: Sendable, BitwiseCopyable {
    package let descriptor: Int32

    /// A queue without a device, for a loop that must not read.
    package static let absent = TunQueue(descriptor: -1)

    fileprivate init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Reads one header and packet; the byte count, or a negative error number (`-EAGAIN` when
    /// nothing waits).
    package func read(into buffer: UnsafeMutablePointer<UInt8>, capacity: Int) -> Int {
        let count = Glibc.read(descriptor, buffer, capacity)
        return count >= 0 ? count : Int(-errno)
    }

    /// Writes one header and packet, gathered; the byte count, or a negative error number.
    package func write(_ vectors: UnsafePointer<iovec>, count: Int) -> Int {
        let written = writev(descriptor, vectors, Int32(truncatingIfNeeded: count))
        return written >= 0 ? written : Int(-errno)
    }
}
