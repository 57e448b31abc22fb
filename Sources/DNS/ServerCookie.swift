import MeshBase
import NetAddress

/// Server cookies (RFC 7873) in the layout of RFC 9018 section 4: version, three zero bytes, four
/// bytes of time, eight bytes of SipHash-2-4. They prove that a client receives what is sent to its
/// address.
package struct ServerCookie: Sendable {
    private let secret: [UInt8]

    /// Bytes of the client's part.
    static let clientSize = 8
    private static let size = 24
    /// RFC 9018 section 4.3: an hour old is too old, five minutes ahead is somebody else's clock.
    private static let maximumAge: Int32 = 3600
    private static let maximumLead: Int32 = 300

    /// - Parameter secret: 16 bytes.
    package init(secret: [UInt8]) {
        self.secret = secret
    }

    /// The whole option for a response: the client's part of `option` and a new server's part.
    ///
    /// - Parameter seconds: of a clock that only this server reads; it need not be the time of day.
    package func option(for option: [UInt8], of client: IPAddress, at seconds: UInt32) -> [UInt8] {
        var result = Array(option.prefix(ServerCookie.clientSize))
        result += [1, 0, 0, 0]
        for shift in [UInt32(24), 16, 8, 0] {
            result.append(UInt8(truncatingIfNeeded: seconds >> shift))
        }
        var hash = sipHash24(result + client.bytes, key: secret)
        for _ in 0..<8 {
            result.append(UInt8(truncatingIfNeeded: hash))
            hash >>= 8
        }
        return result
    }

    /// Whether `option` holds a server's part that was made here for `client` lately.
    package func isValid(_ option: [UInt8], of client: IPAddress, at seconds: UInt32) -> Bool {
        guard option.count == ServerCookie.size else { return false }
        let made = loadUInt32(option, at: 12)
        let age = Int32(bitPattern: seconds &- made)
        guard (-ServerCookie.maximumLead...ServerCookie.maximumAge).contains(age) else {
            return false
        }
        let expected = self.option(for: option, of: client, at: made)
        // Without a branch per byte, so that the time tells nothing.
        var difference: UInt8 = 0
        for index in 0..<ServerCookie.size { difference |= expected[index] ^ option[index] }
        return difference == 0
    }
}

/// The secrets of a server: a new one every day, the last one stays good while its cookies are
/// (RFC 7873 section 7.1).
struct CookieSecrets {
    private var current: ServerCookie
    private var previous: ServerCookie?
    private var changesAt: BootInstant

    private static let period: Duration = .seconds(86_400)

    init(at now: BootInstant, random: inout SeededGenerator) {
        current = ServerCookie(secret: random.bytes(16))
        changesAt = now + CookieSecrets.period
    }

    /// The option for the response to `option`, and whether that was valid.
    mutating func answer(
        _ option: [UInt8], of client: IPAddress, at now: BootInstant,
        random: inout SeededGenerator
    ) -> (option: [UInt8], isValid: Bool) {
        if changesAt <= now {
            previous = current
            current = ServerCookie(secret: random.bytes(16))
            changesAt = now + CookieSecrets.period
        }
        let seconds = UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
        let isValid =
            current.isValid(option, of: client, at: seconds)
            || previous?.isValid(option, of: client, at: seconds) ?? false
        return (current.option(for: option, of: client, at: seconds), isValid)
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of `bytes` under a key of 16 bytes.
func sipHash24(_ bytes: [UInt8], key: [UInt8]) -> UInt64 {
    func word(_ source: [UInt8], _ start: Int, _ count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(source[start + index]) << UInt64(8 * index) }
        return value
    }
    let (key0, key1) = (word(key, 0, 8), word(key, 8, 8))
    var v0 = key0 ^ 0x736F_6D65_7073_6575
    var v1 = key1 ^ 0x646F_7261_6E64_6F6D
    var v2 = key0 ^ 0x6C79_6765_6E65_7261
    var v3 = key1 ^ 0x7465_6462_7974_6573
    func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 {
        value << count | value >> (64 - count)
    }
    func round() {
        v0 &+= v1
        v1 = rotate(v1, 13) ^ v0
        v0 = rotate(v0, 32)
        v2 &+= v3
        v3 = rotate(v3, 16) ^ v2
        v0 &+= v3
        v3 = rotate(v3, 21) ^ v0
        v2 &+= v1
        v1 = rotate(v1, 17) ^ v2
        v2 = rotate(v2, 32)
    }
    func mix(_ block: UInt64) {
        v3 ^= block
        round()
        round()
        v0 ^= block
    }
    let whole = bytes.count / 8 * 8
    for start in stride(from: 0, to: whole, by: 8) { mix(word(bytes, start, 8)) }
    let rest = word(bytes, whole, bytes.count - whole)
    mix(rest | UInt64(truncatingIfNeeded: bytes.count) << 56)
    v2 ^= 0xFF
    for _ in 0..<4 { round() }
    return v0 ^ v1 ^ v2 ^ v3
}
