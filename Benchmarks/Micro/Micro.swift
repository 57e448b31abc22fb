import Cryptography
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import WireGuard

/// What single steps of the packet path and of handshakes cost on this machine, in nanoseconds of
/// this thread's CPU time: the best of seven batches.
///
///     swift run -c release packet-benchmarks
@main
enum Micro {
    static func main() {
        ciphers()
        lookups()
        checksums()
        gathering()
        manyPeers()
        handshakes()
    }

    /// Best of seven batches, nanoseconds per call, or per each of `parts` equal parts of a call.
    static func measure(_ name: String, _ calls: Int, parts: Int = 1, _ body: () -> Void) {
        var best = Double.infinity
        for _ in 0..<7 {
            let before = cpuNanoseconds()
            for _ in 0..<calls { body() }
            best = min(best, Double(cpuNanoseconds() - before) / Double(calls * parts))
        }
        print("\(name): \(Int(best.rounded())) ns")
    }

    static func cpuNanoseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    static func ciphers() {
        let secret = SecretBytes(Bytes32(word0: 1, word1: 2, word2: 3, word3: 4))
        let input = UnsafeMutablePointer<UInt8>.allocate(capacity: 2048)
        let sealed = UnsafeMutablePointer<UInt8>.allocate(capacity: 2048)
        input.initialize(repeating: 7, count: 2048)
        sealed.initialize(repeating: 0, count: 2048)
        defer {
            input.deallocate()
            sealed.deallocate()
        }
        for implementation in PacketImplementation.allCases {
            guard let engine = PacketEngine(implementation) else {
                print("\(implementation): not on this machine")
                continue
            }
            let cipher = PacketCipher(engine)
            for suite in PacketSuite.allCases where suite == .chaCha20Poly1305 || engine.supportsAES
            {
                let key = PacketKey(secret, suite: suite)
                let isAES = suite == .aes256GCM
                for count in [64, 512, 1420] {
                    let label = "\(implementation) \(suite) \(count) bytes"
                    measure("\(label), seal", 20_000) {
                        cipher.seal(
                            isAES: isAES, key: key.storage, counter: 9, input, count: count,
                            to: sealed)
                    }
                    measure("\(label), open", 20_000) {
                        let isRight = cipher.open(
                            isAES: isAES, key: key.storage, counter: 9, sealed, count: count + 16,
                            to: input)
                        precondition(isRight)
                    }
                }
            }
        }
    }

    static func lookups() {
        for count in [10, 1000, 10_000] {
            let routes = peerRoutes(count)
            let table = RouteTable(routes)
            defer { table.deallocate() }
            var seed: UInt32 = 1
            var sum = 0
            measure("route of an IPv4 address among \(count) peers", 100_000) {
                seed = seed &* 1_664_525 &+ 1_013_904_223
                sum &+= Int(table.slot4(0x0A00_0000 | seed >> 8))
            }
            measure("route of an IPv6 address among \(count) peers", 100_000) {
                seed = seed &* 1_664_525 &+ 1_013_904_223
                sum &+= Int(table.slot6(UInt128(0xFD) << 120 | UInt128(seed >> 8) << 40))
            }
            precondition(sum != .min)
        }
    }

    static func peerRoutes(_ count: Int) -> [(prefix: IPPrefix, slot: Int32)] {
        (0..<count).flatMap { index -> [(prefix: IPPrefix, slot: Int32)] in
            let spread = UInt32(truncatingIfNeeded: index) &* 2_654_435_761 >> 8
            let high = UInt64(0xFD) << 56 | UInt64(spread) >> 24
            return [
                (IPPrefix(host: .v4(0x0A00_0000 | spread)), Int32(index)),
                (IPPrefix(host: .v6(high, UInt64(spread) << 40)), Int32(index)),
            ]
        }
    }

    static func checksums() {
        let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: 2048)
        bytes.initialize(repeating: 0xA5, count: 2048)
        defer { bytes.deallocate() }
        var sum: UInt64 = 0
        for count in [64, 1420] {
            measure("checksum of \(count) bytes", 100_000) {
                sum = InternetChecksum.add(bytes, count: count, to: sum & 0xFFFF)
            }
        }
        precondition(sum != 0)
    }

    /// 10,000 peers with 20,000 routes, 1,000 of them with a session.
    static func manyPeers() {
        let time = SystemClock.boot()
        let before = residentKibibytes()
        var peers: [ForwardingPeer] = []
        for (index, route) in peerRoutes(10_000).enumerated() where index % 2 == 0 {
            let number = UInt32(index / 2)
            var peer = ForwardingPeer(
                key: StaticPublicKey(Bytes32(word0: UInt64(number), word1: 0, word2: 0, word3: 0)),
                prefixes: [route.prefix])
            if number < 1000 {
                let secret = SecretBytes(
                    Bytes32(word0: UInt64(number), word1: 1, word2: 1, word3: 1))
                let session = TransportSession(
                    localIndex: number, remoteIndex: number, suite: .aes256GCM, sendKey: secret,
                    receiveKey: secret, isInitiator: true, createdAt: time)
                peer.sending = session
                peer.receiving = [session]
            }
            peers.append(peer)
        }
        guard let socket = try? UDPSocket(port: 0),
            let plane = try? PacketPlane(
                DataPlaneConfiguration(device: nil, socket: socket, peerCapacity: 16_384))
        else { return }
        let snapshot = ForwardingSnapshot(peers: peers)
        plane.publish(snapshot)
        measure("publish 10,000 peers with 1,000 sessions", 3) { plane.publish(snapshot) }
        print("10,000 peers with 1,000 sessions: \(residentKibibytes() - before) KiB")
    }

    static func residentKibibytes() -> Int {
        var usage = rusage()
        // RUSAGE_SELF, which Swift imports in a type that the function does not take.
        getrusage(0, &usage)
        return usage.ru_maxrss
    }

    /// Initiations of 500 peers, answered by one device; what it costs the responder, best of seven.
    static func handshakes() {
        var random = SeededGenerator(seed: Bytes32(word0: 9, word1: 9, word2: 9, word3: 9))
        func privateKey(_ number: UInt64) -> StaticPrivateKey {
            StaticPrivateKey(SecretBytes(Bytes32(word0: number, word1: 3, word2: 5, word3: 7)))
        }
        let ours = privateKey(1_000_000)
        let address = SocketAddress(ip: .v4(0x7F00_0001), port: 1)
        let now = SystemClock.now()
        let keys = (0..<500 as Range<UInt64>).map(privateKey)
        let initiations = keys.flatMap { key in
            var initiator = TunnelDevice(privateKey: key, lastTimestamp: nil)
            initiator.setPeer(
                TunnelPeerConfiguration(publicKey: ours.publicKey, endpoint: address))
            var actions: [TunnelAction] = []
            initiator.connect(ours.publicKey, at: now, random: &random, into: &actions)
            return actions.sent
        }
        var best = Double.infinity
        var answers = 0
        for _ in 0..<7 {
            var responder = TunnelDevice(privateKey: ours, lastTimestamp: nil)
            for key in keys {
                responder.setPeer(TunnelPeerConfiguration(publicKey: key.publicKey))
            }
            answers = 0
            let before = cpuNanoseconds()
            for initiation in initiations {
                var actions: [TunnelAction] = []
                responder.receive(
                    initiation, from: address, at: now, random: &random, into: &actions)
                answers += actions.sent.count
            }
            best = min(best, Double(cpuNanoseconds() - before) / Double(initiations.count))
        }
        print("\(answers) handshakes answered: \(Int(1e9 / best)) per second and core")
    }
}

extension [TunnelAction] {
    fileprivate var sent: [[UInt8]] {
        compactMap { if case .send(let datagram, _) = $0 { datagram } else { nil } }
    }
}
