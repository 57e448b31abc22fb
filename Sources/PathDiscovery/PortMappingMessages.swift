import MeshBase
import NetAddress

/// What a gateway says about a mapping.
struct GatewayAnswer: Hashable {
    /// 0 for success; the protocol's own number otherwise.
    var result: UInt16
    /// Seconds since the gateway's tables began; `nil` where the protocol has none.
    var epoch: UInt32?
    var internalPort: UInt16?
    var external: SocketAddress?
    var lifetime: UInt32 = 0
}

/// The Port Control Protocol's MAP operation for UDP (RFC 6887 sections 7 and 11.1).
///
///     request, 60 bytes                         response, 60 bytes
///     0   version 2, opcode 1, 2 reserved       0   version 2, opcode 0x81, reserved, result
///     4   lifetime in seconds                   4   lifetime in seconds
///     8   client address, 16                    8   epoch, 12 reserved
///     24  nonce, 12                             24  nonce, 12
///     36  protocol 17, 3 reserved               36  protocol 17, 3 reserved
///     40  internal port, suggested port         40  internal port, assigned port
///     44  suggested address, 16                 44  assigned address, 16
enum PCP {
    static let port: UInt16 = 5_351
    static let version: UInt8 = 2
    private static let map: UInt8 = 1
    private static let udp: UInt8 = 17
    static let nonceCount = 12
    /// Section 7.4.
    static let unsupportedVersion: UInt16 = 1

    static func request(
        lifetime: UInt32, client: IPAddress, nonce: [UInt8], internalPort: UInt16,
        suggested: SocketAddress?
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: 60)
        writer.write(raw: [version, map, 0, 0])
        writer.write(lifetime)
        writer.write(raw: client.mappedBytes)
        writer.write(raw: nonce)
        writer.write(raw: [udp, 0, 0, 0])
        writer.write(internalPort)
        writer.write(suggested?.port ?? internalPort)
        // Section 11.1: without a wish, the all-zeros address of the family.
        writer.write(raw: (suggested?.ip ?? .v4(0)).mappedBytes)
        return writer.bytes
    }

    /// Section 14.1: nothing but the header, to learn the epoch.
    static func announceRequest(client: IPAddress) -> [UInt8] {
        [version, 0, 0, 0, 0, 0, 0, 0] + client.mappedBytes
    }

    /// `nil` for what is no answer to a request with this nonce. An answer in NAT-PMP's form says
    /// that the gateway does not know this version.
    static func answer(_ datagram: [UInt8], nonce: [UInt8]) -> GatewayAnswer? {
        guard datagram.count >= 4 else { return nil }
        if datagram[0] == NATPMP.version, datagram[1] & 0x80 != 0 {
            return GatewayAnswer(result: unsupportedVersion)
        }
        guard datagram[0] == version, datagram[1] == map | 0x80, datagram.count >= 24,
            datagram.count <= 1_100, datagram.count.isMultiple(of: 4)
        else { return nil }
        let result = UInt16(datagram[3])
        let epoch = number(datagram, 8)
        if result != 0, datagram.count < 60 {
            return GatewayAnswer(result: result, epoch: epoch, lifetime: number(datagram, 4))
        }
        guard datagram.count >= 60, Array(datagram[24..<36]) == nonce, datagram[36] == udp,
            let ip = IPAddress(bytes: datagram[44..<60])?.unmapped
        else { return nil }
        return GatewayAnswer(
            result: result, epoch: epoch, internalPort: short(datagram, 40),
            external: SocketAddress(ip: ip, port: short(datagram, 42)),
            lifetime: number(datagram, 4))
    }

    /// The epoch of an announcement (section 14.1): an answer with opcode 0.
    static func announcedEpoch(_ datagram: [UInt8]) -> UInt32? {
        guard datagram.count >= 24, datagram[0] == version, datagram[1] == 0x80, datagram[3] == 0
        else { return nil }
        return number(datagram, 8)
    }
}

/// The NAT Port Mapping Protocol (RFC 6886 section 3).
///
///     which address am I seen at              map a UDP port
///     0  version 0, opcode 0                  0  version 0, opcode 1, 2 reserved
///                                             4  internal port, suggested port
///                                             8  lifetime in seconds
///     0  version 0, opcode 128, result        0  version 0, opcode 129, result
///     4  epoch                                4  epoch
///     8  address, 4                           8  internal port, external port
///                                             12 lifetime in seconds
enum NATPMP {
    static let version: UInt8 = 0

    static let addressRequest: [UInt8] = [version, 0]

    static func mapRequest(
        internalPort: UInt16, suggested: UInt16, lifetime: UInt32
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: 12)
        writer.write(raw: [version, 1, 0, 0])
        writer.write(internalPort)
        writer.write(suggested)
        writer.write(lifetime)
        return writer.bytes
    }

    enum Answer: Hashable {
        case address(IPAddress, epoch: UInt32)
        case mapped(GatewayAnswer, externalPort: UInt16)
        case refused(UInt16)
    }

    static func answer(_ datagram: [UInt8]) -> Answer? {
        guard datagram.count >= 8, datagram[0] == version else { return nil }
        let result = short(datagram, 2)
        switch datagram[1] {
        case 128:
            guard result == 0 else { return .refused(result) }
            guard datagram.count >= 12 else { return nil }
            return .address(.v4(number(datagram, 8)), epoch: number(datagram, 4))
        case 129:
            guard result == 0 else { return .refused(result) }
            guard datagram.count >= 16 else { return nil }
            return .mapped(
                GatewayAnswer(
                    result: 0, epoch: number(datagram, 4), internalPort: short(datagram, 8),
                    lifetime: number(datagram, 12)), externalPort: short(datagram, 10))
        default: return nil
        }
    }
}

private func short(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
    UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
}

private func number(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
    UInt32(short(bytes, offset)) << 16 | UInt32(short(bytes, offset + 2))
}
