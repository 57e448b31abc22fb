import Configuration
import Glibc
import Storage

/// The bearer token of a node's TCP port: `api-token` in its state directory, made once, 0600.
enum APIToken {
    private static let fileName = "api-token"
    /// 32 random bytes in hexadecimal digits.
    private static let length = 64

    /// The node's own; made when it is missing or damaged.
    static func ofNode(stateDirectory: String) throws(CommandFailure) -> String {
        let path = "\(stateDirectory)/\(fileName)"
        if let known = read(path) { return known }
        var generator = SystemRandomNumberGenerator()
        let digits = (0..<length).map { _ in
            String(UInt8.random(in: 0..<16, using: &generator), radix: 16)
        }
        let token = digits.joined()
        // One that is cut short by a crash is damaged, and made anew.
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { if descriptor >= 0 { close(descriptor) } }
        let bytes = Array((token + "\n").utf8)
        guard descriptor >= 0, fchmod(descriptor, 0o600) == 0,
            Glibc.write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0
        else {
            throw .operating(
                "\(path) cannot be written: \(String(cString: strerror(errno)))",
                fix: "make room there, or use --api unix:PATH")
        }
        return token
    }

    /// What a command sends to `address`; `nil` for a socket, or when nothing is known.
    static func forClient(of address: APIAddress) throws(CommandFailure) -> String? {
        guard case .tcp = address else { return nil }
        let environment = ProcessInput.current.environment
        if let token = environment["EDGEVPN_API_TOKEN"], !token.isEmpty { return token }
        if let path = environment["EDGEVPN_API_TOKEN_FILE"], !path.isEmpty {
            guard let token = read(path) else {
                throw .mistake(
                    "EDGEVPN_API_TOKEN_FILE", "\(path) holds no token of an API",
                    fix: "name the node's \(fileName)")
            }
            return token
        }
        guard let location = try? StateLocation.find(chosen: nil) else { return nil }
        return read("\(location.path)/\(fileName)")
    }

    private static func read(_ path: String) -> String? {
        guard let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: length + 1)
        let count = fread(&bytes, 1, length, file)
        let isToken = bytes.prefix(count).allSatisfy { byte in
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
        }
        return count == length && isToken
            ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
}
