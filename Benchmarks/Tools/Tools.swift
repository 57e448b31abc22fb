import Glibc
import LinuxIO
import NetAddress

/// What the comparison needs beside the programs that it compares. Those that count print JSON.
///
///     benchmark-tools tunnel CIPHER INTERFACE PORT PEER:PORT OWN PEER   # OWN, PEER: inner IPv4
///     benchmark-tools sink PORT
///     benchmark-tools send ADDRESS:PORT PER-SECOND SECONDS
///     benchmark-tools discard PORT
///     benchmark-tools initiations ADDRESS:PORT PER-SECOND SECONDS PUBLIC-KEY
///
/// They live in Benchmarks/ alone; nothing in Sources/ knows them.
@main
enum Tools {
    static func main() {
        do {
            try run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            let line = Array("error: \(error)\n".utf8)
            _ = write(STDERR_FILENO, line, line.count)
            exit(1)
        }
    }

    private static func run(_ words: [String]) throws {
        switch (words.first, words.count) {
        case ("tunnel", 7): try EngineTunnel.run(words)
        case ("sink", 2): try DatagramSink.run(port: number(words[1]))
        case ("discard", 2): try discard(port: number(words[1]))
        case ("send", 4):
            try DatagramSource.run(
                to: address(words[1]), perSecond: number(words[2]), seconds: number(words[3]))
        case ("initiations", 5):
            try InitiationFlood.run(
                to: address(words[1]), perSecond: number(words[2]), seconds: number(words[3]),
                key: words[4])
        default: throw Misuse(description: "see the first lines of Tools.swift")
        }
    }

    /// Keeps a port open that nobody reads, as small as the kernel lets it be.
    private static func discard(port: Int) throws {
        let socket = try UDPSocket(port: UInt16(port), bufferBytes: 1)
        withExtendedLifetime(socket) { _ = pause() }
    }

    private static func number(_ word: String) throws -> Int {
        guard let value = Int(word), value > 0 else {
            throw Misuse(description: "\(word) is not a positive number")
        }
        return value
    }

    private static func address(_ word: String) throws -> SocketAddress {
        guard let address = SocketAddress(word) else {
            throw Misuse(description: "\(word) is not an address and a port")
        }
        return address
    }
}

struct Misuse: Error, CustomStringConvertible {
    let description: String
}
