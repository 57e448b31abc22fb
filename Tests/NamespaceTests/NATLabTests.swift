// Does the laboratory behave as it says? One site, two places outside, bare sockets:
//
//     host --- router of some kind --- core --- 45.18.201.2 near
//                                        \----- 45.18.202.2 far

import Glibc
import LinuxIO
import NetAddress
import Synchronization
import Testing

extension MeshTests {
    @Suite struct NATLabTests {
        /// What a kind of site shall look like from outside.
        struct Expected: Sendable, CustomTestStringConvertible {
            var kind: SiteKind
            /// Both outside places see the same port; `nil`: nothing arrives.
            var isEndpointIndependent: Bool?
            /// Who gets through to the mapping that a datagram to `near` made.
            var admitsOtherPort: Bool
            var admitsOtherAddress: Bool
            var testDescription: String { kind.rawValue }
        }

        static let all = [
            Expected(.open, true, true, true), Expected(.firewall, true, false, false),
            Expected(.fullCone, true, true, true),
            Expected(.addressRestricted, true, true, false),
            Expected(.portRestricted, true, false, false),
            Expected(.symmetricRandom, false, false, false),
            Expected(.symmetricSequential, false, false, false),
            Expected(.doubleNAT, true, false, false), Expected(.noUDP, nil, false, false),
            Expected(.noNetwork, nil, false, false),
        ]

        @Test(arguments: all) func aSiteMapsAndFiltersAsItsKindSays(_ expected: Expected)
            async throws
        {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let near = try await nat.site(101, .open, name: "near")
                let far = try await nat.site(102, .open, name: "far")
                let site = try await nat.site(1, expected.kind, name: "host")
                let inner = try site.machine.host.datagrams()
                let outside = [
                    try near.machine.host.datagrams(), try near.machine.host.datagrams(),
                    try far.machine.host.datagrams(),
                ]
                let targets = [
                    SocketAddress(ip: .v4(0x2D12_6502), port: outside[0].port),
                    SocketAddress(ip: .v4(0x2D12_6602), port: outside[2].port),
                ]
                inner.send([1], to: targets[0])
                guard let isIndependent = expected.isEndpointIndependent else {
                    #expect(try await outside[0].next(within: .milliseconds(500)) == nil)
                    return
                }
                let seen = try #require(try await outside[0].next(within: .seconds(5)))
                // Strangers knock at the mapping before anything was sent to them.
                outside[1].send([2], to: seen.source)
                outside[2].send([3], to: seen.source)
                outside[0].send([4], to: seen.source)
                var heard: Set<UInt8> = []
                while let datagram = try await inner.next(within: .milliseconds(500)) {
                    heard.insert(datagram.bytes[0])
                }
                #expect(heard.contains(4), "the one that was spoken to gets through")
                #expect(heard.contains(2) == expected.admitsOtherPort)
                #expect(heard.contains(3) == expected.admitsOtherAddress)
                // A socket that nobody knocked at: the knock itself would move the mapping.
                let fresh = try site.machine.host.datagrams()
                fresh.send([5], to: targets[0])
                fresh.send([6], to: targets[1])
                let first = try #require(try await outside[0].next(within: .seconds(5)))
                let second = try #require(try await outside[2].next(within: .seconds(5)))
                #expect((first.source == second.source) == isIndependent)
            }
        }
    }
}

extension MeshTests.NATLabTests.Expected {
    fileprivate init(
        _ kind: SiteKind, _ isEndpointIndependent: Bool?, _ admitsOtherPort: Bool,
        _ admitsOtherAddress: Bool
    ) {
        self.kind = kind
        self.isEndpointIndependent = isEndpointIndependent
        self.admitsOtherPort = admitsOtherPort
        self.admitsOtherAddress = admitsOtherAddress
    }
}

extension LabHost {
    /// A UDP socket inside this machine.
    func datagrams() throws -> LabDatagrams {
        let result = Mutex<LabDatagrams?>(nil)
        try onThread {
            let socket = try UDPSocket(port: 0)
            result.withLock { $0 = LabDatagrams(socket: socket) }
        }
        guard let made = result.withLock({ $0 }) else { throw LabFailure("no socket in \(name)") }
        return made
    }

    /// Runs `body` on a thread that is in this machine's namespace.
    func onThread(_ body: @escaping @Sendable () throws -> Void) throws {
        let name = namespace
        let problem = Mutex<String?>(nil)
        try WorkerThread(name: "lab") {
            do {
                try NetworkNamespace(named: name).enter()
                try body()
            } catch {
                problem.withLock { $0 = "\(error)" }
            }
        }.join()
        if let problem = problem.withLock({ $0 }) { throw LabFailure(problem) }
    }
}

/// A socket of a lab's machine.
final class LabDatagrams: Sendable {
    private let socket: UDPSocket

    init(socket: UDPSocket) {
        self.socket = socket
    }

    var port: UInt16 { socket.port }

    func send(_ bytes: [UInt8], to target: SocketAddress) {
        socket.send(bytes, to: target)
    }

    /// The next datagram; `nil` when none comes in time.
    func next(within limit: Duration) async throws -> (bytes: [UInt8], source: SocketAddress)? {
        let end = ContinuousClock.now + limit
        while true {
            if let datagram = receive() { return datagram }
            guard ContinuousClock.now < end else { return nil }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    private func receive() -> (bytes: [UInt8], source: SocketAddress)? {
        var bytes = [UInt8](repeating: 0, count: 2_048)
        var name = sockaddr_in6()
        var nameCount = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let count = withUnsafeMutablePointer(to: &name) { name in
            name.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(
                    socket.descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT), $0, &nameCount)
            }
        }
        guard count >= 0, name.sin6_family == UInt16(AF_INET6) else { return nil }
        let address = withUnsafeBytes(of: &name.sin6_addr) { IPAddress(bytes: Array($0)) }
        guard let address else { return nil }
        return (
            Array(bytes[..<count]),
            SocketAddress(ip: address.unmapped, port: UInt16(bigEndian: name.sin6_port))
        )
    }
}
