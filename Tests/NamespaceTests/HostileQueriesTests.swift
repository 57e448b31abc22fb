// One machine with nothing but loopback, and a whole node that answers at 127.0.0.1:5300.

import DNS
import Foundation
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Testing

extension MeshTests {
    @Suite struct HostileQueriesTests {
        /// Each message by UDP and by TCP: the right code, or silence, and the process lives on.
        @Test func everyHostileMessageGetsItsCodeOrSilence() async throws {
            try await withNameServer { node in
                for message in hostileMessages() {
                    let codes = try node.inside { server in
                        try [false, true].map { isStream -> UInt16? in
                            let bytes = message.bytes
                            let reply =
                                isStream
                                ? try DNSExchange.tcp(bytes, to: server, patience: 400)
                                : try DNSExchange.udp(bytes, to: server, patience: 400)
                            return try reply.map { try responseCode($0, to: bytes) }
                        }
                    }
                    #expect(codes[0] == message.code, "\(message.name) by UDP")
                    #expect(codes[1] == message.code, "\(message.name) by TCP")
                }
                #expect(try node.answers())
                let counters = try await node.machine.ask(["dns", "counters", "--json"]).output
                #expect(!counters.contains("\"rejected\" : 0"), "\(counters)")
            }
        }

        /// The largest messages that TCP carries: one that is a query, one that is not.
        @Test func streamsOfTheLargestMessagesAreAnswered() async throws {
            try await withNameServer { node in
                let codes = try node.inside { server in
                    var query = goodQuery()
                    let room = 65_535 - query.encoded().count - 4
                    query.edns?.padding = room
                    let largest = query.encoded()
                    guard largest.count == 65_535 else { return [UInt16]() }
                    let broken =
                        Array(goodQuery().encoded().prefix(12)) + largest.dropFirst(12).map { ~$0 }
                    var codes: [UInt16] = []
                    for _ in 0..<50 {
                        for bytes in [largest, broken] {
                            let reply = try DNSExchange.tcp(bytes, to: server)
                            codes.append(try reply.map { try responseCode($0, to: bytes) } ?? 999)
                        }
                    }
                    return codes
                }
                #expect(codes == (0..<50).flatMap { _ in [UInt16(0), 1] })
                #expect(try node.answers())
            }
        }

        /// Sixty clients send a byte now and then; others are served at once meanwhile, and the slow
        /// ones lose their connection in the end.
        @Test func slowConnectionsHoldNobodyUp() async throws {
            try await withNameServer { node in
                let (answered, ended) = try node.inside { server -> (Int, Int) in
                    var slow = try (0..<60).map { _ in try StreamSocket(connectingTo: server) }
                    let query = goodQuery().encoded()
                    var answered = 0
                    var ended = 0
                    for _ in 0..<200 where !slow.isEmpty {
                        slow.removeAll { socket in
                            _ = socket.send([0])
                            var input: [UInt8] = []
                            switch socket.receive(into: &input, limit: 16) {
                            case .ended, .failed:
                                ended += 1
                                return true
                            case .moved, .wouldBlock: return false
                            }
                        }
                        if try DNSExchange.udp(query, to: server) != nil,
                            try DNSExchange.tcp(query, to: server) != nil
                        {
                            answered += 1
                        }
                        usleep(100_000)
                    }
                    return (answered, ended)
                }
                #expect(answered > 50)
                #expect(ended == 60)
            }
        }

        /// A hundred thousand damaged queries: what the process holds does not grow.
        @Test func memoryStaysFlat() async throws {
            try await withNameServer { node in
                try node.flood(40_000, seed: 1)
                let before = node.residentKiB
                try node.flood(100_000, seed: 2)
                let growth = node.residentKiB - before
                print("measured: 100,000 damaged queries let the process grow by \(growth) KiB")
                // The cache may fill, with 8 MB at most; a kilobyte kept of every message would be 100 MB.
                #expect(growth < 16_384)
                #expect(try node.answers())
            }
        }
    }
}

// MARK: - Messages

private struct HostileMessage: Sendable {
    var name: String
    /// `nil` for silence.
    var code: UInt16?
    var bytes: [UInt8]
}

private func goodQuery() -> DNSMessage {
    var query = DNSMessage(id: 0x1234, flags: .recursionDesired)
    query.questions = [DNSQuestion(DNSName("alpha.lab.internal") ?? .root, .a)]
    query.edns = EDNS()
    return query
}

private func hostileMessages() -> [HostileMessage] {
    let good = goodQuery().encoded()
    var plain = goodQuery()
    plain.edns = nil
    let bare = plain.encoded()
    let options = Array(good[bare.count...])
    func changed(_ bytes: [UInt8], _ places: [Int: UInt8]) -> [UInt8] {
        var bytes = bytes
        for (place, value) in places { bytes[place] = value }
        return bytes
    }
    func asking(_ name: [UInt8]) -> [UInt8] { Array(bare.prefix(12)) + name + [0, 1, 0, 1] }
    func opcode(_ value: UInt8) -> [UInt8] { changed(good, [2: value << 3 | 1]) }
    let long = [UInt8](repeating: 63, count: 1) + [UInt8](repeating: 97, count: 63)
    let formatError: UInt16 = 1
    var messages = [
        HostileMessage(name: "a good query", code: 0, bytes: good),
        HostileMessage(name: "a name that points to itself", code: 1, bytes: asking([0xC0, 12])),
        HostileMessage(
            name: "two names that point to each other", code: formatError,
            bytes: asking([1, 97, 0xC0, 17, 0, 1, 0xC0, 12])),
        HostileMessage(
            name: "a pointer ahead", code: formatError, bytes: asking([0xC0, 14, 1, 97, 0])),
        HostileMessage(name: "a pointer into the header", code: 1, bytes: asking([0xC0, 0])),
        HostileMessage(name: "a pointer cut in two", code: 1, bytes: Array(bare[..<12]) + [0xC0]),
        HostileMessage(name: "a label of an unknown type", code: 1, bytes: asking([0x41, 97, 0])),
        HostileMessage(
            name: "a name of 320 bytes", code: formatError,
            bytes: asking((0..<5).flatMap { _ in long } + [0])),
        HostileMessage(
            name: "a label that ends behind the end", code: 1, bytes: Array(good[..<20])),
        HostileMessage(name: "a question cut off", code: 1, bytes: Array(bare.dropLast())),
        HostileMessage(name: "an OPT record cut off", code: 1, bytes: Array(good.dropLast())),
        HostileMessage(name: "bytes behind the end", code: 1, bytes: good + [0]),
        HostileMessage(name: "no question", code: 1, bytes: changed(good, [5: 0])),
        HostileMessage(
            name: "a header alone", code: 1, bytes: changed(Array(bare[..<12]), [5: 0])),
        HostileMessage(
            name: "two questions", code: 1,
            bytes: changed(Array(bare[..<12]), [5: 2]) + bare[12...] + bare[12...]),
        HostileMessage(name: "65,535 questions", code: 1, bytes: changed(good, [4: 255, 5: 255])),
        HostileMessage(name: "an answer in a query", code: 1, bytes: changed(good, [7: 1])),
        HostileMessage(
            name: "65,535 additional records", code: 1, bytes: changed(good, [10: 255, 11: 255])),
        HostileMessage(
            name: "two OPT records", code: 1, bytes: changed(good, [11: 2]) + options),
        HostileMessage(
            name: "an OPT record with a name", code: 1,
            bytes: changed(bare, [11: 1]) + [1, 97] + options),
        HostileMessage(
            name: "EDNS of a version to come", code: 16,
            bytes: changed(good, [bare.count + 6: 1])),
        HostileMessage(
            name: "an option longer than its record", code: 1,
            bytes: changed(good, [good.count - 1: 4]) + [0, 10, 0, 8]),
        HostileMessage(name: "another class", code: 5, bytes: changed(bare, [bare.count - 1: 3])),
        HostileMessage(
            name: "a zone transfer", code: 5,
            bytes: changed(bare, [bare.count - 3: 252])),
        HostileMessage(name: "a response", code: nil, bytes: changed(good, [2: 0x81])),
        HostileMessage(name: "half a header", code: nil, bytes: Array(good[..<11])),
        HostileMessage(name: "one byte", code: nil, bytes: [0]),
    ]
    for code in 1...15 {
        messages.append(
            HostileMessage(name: "opcode \(code)", code: 4, bytes: opcode(UInt8(code))))
    }
    return messages
}

/// The code of a response, EDNS bits included; throws for what is no response to `query`.
private func responseCode(_ reply: [UInt8], to query: [UInt8]) throws -> UInt16 {
    let message = try DNSMessage(decoding: reply)
    guard message.isResponse, Array(reply[..<2]) == Array(query[..<2]) else {
        throw LabFailure("no response to the query: \(reply)")
    }
    return message.code.rawValue
}

// MARK: - The node

/// A whole node without a device, and a way into its namespace.
private struct NameServerNode: Sendable {
    let machine: MeshMachine
    let process: LabProcess

    static let place = SocketAddress(ip: .v4(0x7F00_0001), port: 5300)

    func inside<Value: Sendable>(
        _ body: @escaping @Sendable (SocketAddress) throws -> Value
    ) throws -> Value {
        try inNamespace(machine.host.namespace) { try body(NameServerNode.place) }
    }

    /// Whether a good query has its answer, and the process never ended.
    func answers() throws -> Bool {
        guard process.exitCode == nil else { return false }
        return try inside { server in
            let query = goodQuery().encoded()
            // Right behind a flood the kernel may have no room for it.
            for _ in 0..<5 {
                if let reply = try DNSExchange.udp(query, to: server, patience: 1_000) {
                    return try responseCode(reply, to: query) == 0
                }
            }
            return false
        }
    }

    /// Sends queries with damaged bytes, and reads what comes back.
    func flood(_ count: Int, seed: UInt8) throws {
        try inside { server in
            var random = SeededGenerator(
                seed: Bytes32(Array(repeating: seed, count: 32)) ?? .zero)
            let good = goodQuery().encoded()
            let socket = try DatagramSocket(boundTo: SocketAddress(ip: .v4(0), port: 0))
            try socket.connect(to: server)
            for number in 0..<count {
                var bytes = good
                for _ in 0...number % 4 {
                    bytes[Int(random.next() % UInt64(bytes.count))] ^= UInt8(
                        truncatingIfNeeded: random.next())
                }
                if number % 7 == 0 { bytes.removeLast(Int(random.next() % 20)) }
                socket.send(bytes, to: nil)
                while case .datagram = socket.receive() {}
            }
        }
    }

    var residentKiB: Int {
        // `ip netns exec` becomes the node's process.
        let text = SystemFile.text("/proc/\(process.identifier)/statm") ?? ""
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4 : 0
    }
}

private func withNameServer(_ body: (NameServerNode) async throws -> Void) async throws {
    try await withMesh { mesh in
        let machine = try await mesh.machine("alpha")
        let process = try await machine.up([
            "--interface", "none", "--no-mdns", "--role", "none", "--dns", "127.0.0.1:5300",
        ])
        try await body(NameServerNode(machine: machine, process: process))
    }
}
