import CLinux
import Cryptography
import Glibc
import LinuxIO
import MeshBase
import NetAddress

/// Bogus handshake initiations of somebody who knows the public key: type and mac1 are right, so
/// that only the cookie or the decryption tells them from a member's.
enum InitiationFlood {
    static func run(to destination: SocketAddress, perSecond: Int, seconds: Int, key: String) throws
    {
        guard let bytes = decodeBase64(key), bytes.count == 32 else {
            throw Misuse(description: "\(key) is not a public key")
        }
        let socket = try UDPSocket(port: 0)
        let mac1Key = BLAKE2s.hash(Array("mac1----".utf8), bytes)
        // A thousand different ones: the authenticator is too dear to make 50,000 times a second.
        var random = SystemRandomNumberGenerator()
        let count = 1000
        let size = 148
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: count * size)
        memory.initialize(repeating: 0, count: count * size)
        for index in 0..<count {
            var body: [UInt8] = [1, 0, 0, 0]
            body += (4..<116).map { _ in UInt8.random(in: 0...255, using: &random) }
            let mac1 = BLAKE2s.hash(body, outputCount: 16, key: mac1Key)
            for (offset, byte) in (body + mac1).enumerated() {
                memory[index * size + offset] = byte
            }
        }
        var template = clinux_outgoing()
        template.count = UInt32(size)
        template.to = clinux_address(destination)
        var next = 0
        let sent = DatagramSource.pace(perSecond: perSecond, seconds: seconds) { burst in
            let messages = (0..<burst).map { index in
                var message = template
                message.bytes = UnsafePointer(memory + (next + index) % count * size)
                return message
            }
            next += burst
            return messages.withUnsafeBufferPointer { buffer in
                guard let start = buffer.baseAddress else { return 0 }
                return max(0, socket.endpoint.send(start, count: burst))
            }
        }
        print("{\"sent\": \(sent), \"seconds\": \(seconds)}")
    }

    private static func decodeBase64(_ text: String) -> [UInt8]? {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var bytes: [UInt8] = []
        var bits = 0
        var held: UInt32 = 0
        for letter in text.utf8 where letter != UInt8(ascii: "=") {
            guard let value = alphabet.firstIndex(of: letter) else { return nil }
            held = held << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: held >> UInt32(bits)))
            }
        }
        return bytes
    }
}
