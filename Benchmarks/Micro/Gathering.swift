import DataPlane
import Glibc
import LinuxIO

extension Micro {
    /// What it costs to find that packets of one TCP flow continue each other, their checksums
    /// included, and to make one of them. The device that they are written to does not exist.
    static func gathering() {
        guard let socket = try? UDPSocket(port: 0),
            let plane = try? PacketPlane(DataPlaneConfiguration(device: nil, socket: socket))
        else { return }
        var worker = plane.makeWorker()
        let count = 1420
        let stride = 1424
        // As many as one message of the socket carries.
        let run = 45
        let packets = UnsafeMutablePointer<UInt8>.allocate(capacity: run * stride)
        let header = UnsafeMutablePointer<UInt8>.allocate(capacity: 40)
        defer {
            packets.deallocate()
            header.deallocate()
        }
        for index in 0..<run {
            tcpPacket(packets + index * stride, count: count, sequence: UInt32(index * 1380))
        }
        memcpy(header, packets, 40)
        measure("gathering 45 packets of 1420 bytes, each", 2_000, parts: run) {
            // The first packet's headers become those of the whole.
            memcpy(packets, header, 40)
            for index in 0..<run { worker.gather(packets + index * stride, count: count) }
            worker.writeFlows()
        }
        precondition(plane.drops(.deviceRefused) == 14_000, "each run is one packet")
    }

    /// An IPv4 packet with a right checksum, of a flow from 10.0.0.1 to 10.0.0.2.
    private static func tcpPacket(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, sequence: UInt32
    ) {
        packet.initialize(repeating: 7, count: count)
        let network: [UInt8] = [
            0x45, 0, UInt8(count >> 8), UInt8(count & 255), 0, 0, 0x40, 0, 64, 6, 0, 0,
            10, 0, 0, 1, 10, 0, 0, 2,
        ]
        let acknowledgement: UInt8 = 0x10
        let transport: [UInt8] =
            [0x03, 0xE8, 0x07, 0xD0] + bytes(of: sequence) + bytes(of: UInt32(1))
            + [0x50, acknowledgement, 0xFF, 0xFF, 0, 0, 0, 0]
        for (offset, byte) in (network + transport).enumerated() { packet[offset] = byte }
        let pseudo = InternetChecksum.pseudoHeader(
            packet, isIPv6: false, transport: 6, count: count - 20)
        let sum = ~InternetChecksum.fold(
            InternetChecksum.add(packet + 20, count: count - 20, to: pseudo))
        // Sums are in the machine's order.
        UnsafeMutableRawPointer(packet + 36).storeBytes(of: sum, as: UInt16.self)
    }

    private static func bytes(of number: UInt32) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }
}
