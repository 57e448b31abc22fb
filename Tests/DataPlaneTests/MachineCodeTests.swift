import Foundation
import Testing

/// Reads the release build of the command: what the source promises about the packet path, the
/// compiler must have kept. Built by `swift build -c release`; another place is named by
/// EDGEVPN_BINARY. Needs objdump (binutils) and symbols.
@Suite("The machine code of the packet path")
struct MachineCodeTests {
    /// What runs for every packet or batch: on the direct way, on a smaller path, and relayed.
    static let loops = [
        "drainDevice", "transmitSegments", "flushOutgoing", "receive", "beginRun", "join",
        "writeFlow", "writeFlows", "writeAlone",
        "transmitLarge", "transmitPieces", "tellTooLarge", "deliverOther", "deliverJoined",
        "carryOn", "unwrap",
    ]

    /// What they may call: each other, their system calls, memory copies, and the ways out to
    /// what is not per packet. Nothing that counts references, allocates, locks or asks for
    /// exclusive access. Calls through pointers are the cipher's.
    static let allowed = [
        "9DataPlane12PacketWorkerV", "9DataPlane12SegmentationV", "9DataPlane11WaitingPoolV",
        "9DataPlane9FlowTableV6remove", "9DataPlane10PieceTableV4take",
        "9DataPlane14TooLargeAnswerO", "9DataPlane14RelayAllowanceV5spend",
        "9WireGuard12ReplayWindowV6accept", "7LinuxIO8TunQueueV", "7LinuxIO11UDPEndpointV",
        "checksum_add_words", "memcpy", "memset", "memmove", "__stack_chk_fail",
    ]

    @Test("calls nothing but what is listed")
    func calls() throws {
        let path =
            ProcessInfo.processInfo.environment["EDGEVPN_BINARY"] ?? ".build/release/edgevpn-swift"
        try #require(
            FileManager.default.fileExists(atPath: path),
            "\(path) is missing; build it with: swift build -c release")
        let functions = try callsByFunction(path)
        for loop in MachineCodeTests.loops {
            // A mangled name counts its letters.
            let prefix = "$s9DataPlane12PacketWorkerV\(loop.utf8.count)\(loop)"
            let found = functions.filter { name, _ in
                name.hasPrefix(prefix) && !(name.dropFirst(prefix.count).first?.isLetter ?? true)
                    || name.hasPrefix(prefix + "y") || name.hasPrefix(prefix + "S")
            }
            #expect(!found.isEmpty, "\(loop) is not in \(path); is it stripped?")
            for (name, calls) in found {
                for call in calls {
                    let isAllowed = MachineCodeTests.allowed.contains { call.contains($0) }
                    #expect(isAllowed, "\(name) calls \(call)")
                }
            }
        }
    }

    /// The direct calls of every function of the packet worker.
    func callsByFunction(_ path: String) throws -> [String: Set<String>] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["objdump", "-d", "--no-show-raw-insn", path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "objdump (binutils) is needed")
        var functions: [String: Set<String>] = [:]
        var current: String?
        for line in data.split(separator: UInt8(ascii: "\n")) {
            if line.last == UInt8(ascii: ":"), line.first != UInt8(ascii: " ") {
                let name = symbol(line)
                current = name.contains("9DataPlane12PacketWorkerV") ? name : nil
                if let current { functions[current] = [] }
            } else if let current {
                let text = String(decoding: line, as: UTF8.self)
                // "call" on x86-64, "bl" on arm64; a jump out of the function is a call as well.
                let words = text.split(whereSeparator: { $0 == " " || $0 == "\t" })
                guard words.contains(where: { ["call", "bl", "jmp", "b"].contains($0) }),
                    text.contains("<")
                else { continue }
                let target = symbol(line)
                if target != current { functions[current]?.insert(target) }
            }
        }
        return functions
    }

    /// What stands between < and >, without an offset.
    func symbol(_ line: some Sequence<UInt8>) -> String {
        let text = String(decoding: Array(line), as: UTF8.self)
        guard let start = text.firstIndex(of: "<"), let end = text.lastIndex(of: ">") else {
            return ""
        }
        return String(text[text.index(after: start)..<end].prefix { $0 != "+" })
    }
}
