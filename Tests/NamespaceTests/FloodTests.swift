// Random datagrams at a node's port while a real stream goes through its tunnel:
//
//     anna 192.168.60.1 ===tunnel, iperf3=== bert 192.168.60.2
//       ^
//       +------ carl 192.168.60.3, no node: FLOOD_DATAGRAMS datagrams, 200,000 unless set

import Foundation
import LinuxIO
import MeshBase
import NetAddress
import Testing

extension MeshTests {
    @Suite struct FloodTests {
        @Test func randomDatagramsGetNoAnswerAndCostNoMemory() async throws {
            try await withMesh { mesh in
                for tool in ["iperf3", "tcpdump"] { try Lab.requireTool(tool, package: tool) }
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                let (anna, bert, carl) = (machines[0], machines[1], machines[2])
                let node = try await anna.up(["--listen", "7001"])
                _ = try await bert.up()
                try await bert.reaches(anna)
                let inner = try #require(try await anna.status().node.ipv4)
                let server = try anna.host.start(["iperf3", "-s", "-B", inner, "--forceflush"])
                try await server.prints("Server listening")
                _ = try bert.host.start(["iperf3", "-c", inner, "-t", "3600"])
                let capture = try anna.host.start([
                    "tcpdump", "-n", "-l", "-i", "lan0", "udp", "and", "src", "host",
                    "192.168.60.1", "and", "dst", "host", "192.168.60.3",
                ])
                try await capture.prints("listening on")
                try await Task.sleep(for: .seconds(2))

                let memory = try residentKiB(node)
                let streamed = try await anna.received(from: bert)
                let arrived = try await anna.datagramsIn()
                let count = setting("FLOOD_DATAGRAMS", default: 200_000)
                let begin = ContinuousClock.now
                let answers = try await carl.floods("192.168.60.1:7001", count: count)
                let duration = ContinuousClock.now - begin
                let hit = try await anna.datagramsIn() - arrived
                let growth = try residentKiB(node) - memory
                let stream = try await anna.received(from: bert) - streamed
                print(
                    "measured: flood of \(count) datagrams in \(duration), \(hit) received by the "
                        + "machine meanwhile; the stream carried \(stream) bytes; memory "
                        + "\(memory) KiB, then \(growth) KiB more")

                #expect(node.exitCode == nil, "\(node.output)")
                #expect(answers == 0)
                #expect(!capture.output.contains("192.168.60.1.7001 >"), "\(capture.output)")
                #expect(hit > 1_000, "the flood did not arrive")
                #expect(stream > 1_000_000, "the stream stood still")
                // Buffers of a busy node come and go; a leak of one small datagram's worth of
                // memory per datagram would be far more.
                #expect(growth < max(8_192, count / 32))
                try await bert.reaches(anna)
                #expect(try await anna.state(of: "bert") == "alive")
                #expect(try await anna.status().peers.count == 1)
            }
        }
    }
}

/// What the process holds in memory.
func residentKiB(_ process: LabProcess) throws -> Int {
    let status = try #require(Lab.contents(of: "/proc/\(process.identifier)/status"))
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
    return try #require(
        line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) })
}

extension MeshMachine {
    /// Bytes that came through the tunnel with `peer`.
    fileprivate func received(from peer: MeshMachine) async throws -> Int {
        let peer = try await status().peers.first { $0.hostname == peer.name }
        return try #require(peer?.rxBytes)
    }

    /// UDP datagrams that reached a socket of this machine, or found its buffer full
    /// (proc_net(5), snmp).
    fileprivate func datagramsIn() async throws -> Int {
        let table = try await host.run(["cat", "/proc/net/snmp"]).split(separator: "\n")
            .filter { $0.hasPrefix("Udp:") }.map { $0.split(separator: " ") }
        guard table.count == 2 else { throw LabFailure("no counters of UDP") }
        let wanted = ["InDatagrams", "RcvbufErrors"]
        return zip(table[0], table[1]).filter { wanted.contains(String($0.0)) }
            .compactMap { Int($0.1) }.reduce(0, +)
    }

    /// Sends random datagrams of 0 to 2,048 bytes; the number of answers.
    fileprivate func floods(_ target: String, count: Int) async throws -> Int {
        let target = try #require(SocketAddress(target))
        let namespace = host.namespace
        return try await withCheckedThrowingContinuation { done in
            do {
                try WorkerThread(name: "flood") {
                    done.resume(
                        with: Result {
                            try NetworkNamespace(named: namespace).enter()
                            return try sendFlood(to: target, count: count)
                        })
                }.detach()
            } catch {
                done.resume(throwing: error)
            }
        }
    }
}

/// The beginnings that a node tells apart: WireGuard's types and the envelope's kinds.
private let beginnings: [[UInt8]] =
    (1...6).map { [UInt8($0), 0, 0, 0] } + (1...4).map { [0xEB, 0x56, 1, UInt8($0)] }

/// Every second datagram looks right in its first bytes, and every fourth has a length at which
/// more of it is read.
private func sendFlood(to target: SocketAddress, count: Int) throws -> Int {
    var random = SeededGenerator(seed: 7)
    let noise = random.bytes(1 << 20)
    let lengths = [32, 60, 64, 92, 148, 44, 812, 1_232]
    let socket = try DatagramSocket(boundTo: SocketAddress(ip: .v4(0), port: 0))
    try socket.connect(to: target)
    var answers = 0
    for number in 0..<count {
        let dice = Int(truncatingIfNeeded: random.next() >> 1)
        let length = number % 4 == 1 ? lengths[dice % lengths.count] : number / 2 % 2_049
        let start = dice % (noise.count - 2_048)
        var datagram = Array(noise[start..<start + length])
        if number % 2 == 1 {
            let beginning = beginnings[dice % beginnings.count].prefix(length)
            datagram.replaceSubrange(..<beginning.count, with: beginning)
        }
        socket.send(datagram, to: nil)
        guard number % 64 == 63 else { continue }
        answers += takeAnswers(socket)
    }
    usleep(1_000_000)
    return answers + takeAnswers(socket)
}

private func takeAnswers(_ socket: DatagramSocket) -> Int {
    var count = 0
    while case .datagram = socket.receive() { count += 1 }
    return count
}
