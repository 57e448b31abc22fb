import Cryptography
import MeshBase
import NetAddress

/// Both authenticators at the end of a handshake message ("WireGuard", section 5.4.4).
struct MessageAuthenticator: Sendable {
    static let count = 16

    /// Keys that depend only on the public key of the message's receiver. Anybody who knows that
    /// public key knows them: mac1 keeps strangers out, it does not authenticate a member.
    private let mac1Key: [UInt8]
    let cookieKey: SecretBytes

    init(receiver: StaticPublicKey) {
        let bytes = receiver.bytes.bytes
        mac1Key = BLAKE2s.hash(Array(WireGuardSpecification.labelMAC1.utf8), bytes)
        let label = Array(WireGuardSpecification.labelCookie.utf8)
        cookieKey = SecretBytes(copying: BLAKE2s.hash(label, bytes))
    }

    func mac1(over body: [UInt8]) -> [UInt8] {
        BLAKE2s.hash(body, outputCount: MessageAuthenticator.count, key: mac1Key)
    }

    /// Whether the mac1 of a complete message is right.
    func hasValidMAC1(_ datagram: [UInt8]) -> Bool {
        let end = datagram.count - 2 * MessageAuthenticator.count
        guard end > 0 else { return false }
        let claimed = Array(datagram[end..<end + MessageAuthenticator.count])
        return constantTimeEquals(mac1(over: Array(datagram[..<end])), claimed)
    }

    /// A message with mac1 and, with a fresh cookie, mac2; zeros otherwise.
    func complete(_ body: [UInt8], cookie: [UInt8]?) -> (datagram: [UInt8], mac1: [UInt8]) {
        let first = mac1(over: body)
        let covered = body + first
        let second =
            cookie.map { mac2(over: covered, cookie: $0) }
            ?? [UInt8](repeating: 0, count: MessageAuthenticator.count)
        return (covered + second, first)
    }
}

private func mac2(over covered: [UInt8], cookie: [UInt8]) -> [UInt8] {
    BLAKE2s.hash(covered, outputCount: MessageAuthenticator.count, key: cookie)
}

/// The responder's side of cookies: proves that a source address receives what is sent to it
/// before any Diffie-Hellman is spent on it. Keeps no state per source.
struct CookieChecker: Sendable {
    private var secret: SecretBytes?
    private var secretMadeAt: BootInstant = .zero

    /// Whether the message carries a mac2 made with a cookie of ours for this very source.
    func hasValidMAC2(_ datagram: [UInt8], from source: SocketAddress, at now: BootInstant) -> Bool
    {
        guard let secret, isFresh(at: now) else { return false }
        let end = datagram.count - MessageAuthenticator.count
        guard end > 0 else { return false }
        let expected = mac2(
            over: Array(datagram[..<end]), cookie: cookie(for: source, secret: secret))
        return constantTimeEquals(expected, Array(datagram[end...]))
    }

    /// The answer to a message without a valid mac2, sealed to that message's mac1.
    mutating func reply(
        to datagram: [UInt8], sender: UInt32, from source: SocketAddress, key: SecretBytes,
        at now: BootInstant, random: inout SeededGenerator
    ) -> [UInt8] {
        let current: SecretBytes
        if let secret, isFresh(at: now) {
            current = secret
        } else {
            current = SecretBytes(random.bytes32())
            secret = current
            secretMadeAt = now
        }
        let end = datagram.count - 2 * MessageAuthenticator.count
        let mac1 = Array(datagram[end..<end + MessageAuthenticator.count])
        let nonce = random.bytes(XChaCha20Poly1305.nonceCount)
        let sealed = XChaCha20Poly1305.seal(
            cookie(for: source, secret: current), key: key, nonce: nonce, associatedData: mac1)
        return CookieReplyMessage(receiver: sender, nonce: nonce, sealedCookie: sealed).encode()
    }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(secret == nil ? nil : secretMadeAt)
    }

    private func isFresh(at now: BootInstant) -> Bool {
        now - secretMadeAt < WireGuardSpecification.cookieRefreshTime
    }

    private func cookie(for source: SocketAddress, secret: SecretBytes) -> [UInt8] {
        var key = secret.exposedCopy()
        defer { zeroize(&key) }
        let port = [UInt8(source.port >> 8), UInt8(truncatingIfNeeded: source.port)]
        return BLAKE2s.hash(
            source.ip.bytes, port, outputCount: MessageAuthenticator.count, key: key)
    }
}

/// The initiator's side: the last mac1 sent to a peer and the cookie it answered with.
struct CookieJar: Sendable {
    private var lastMAC1: [UInt8]?
    private var cookie: [UInt8]?
    private var receivedAt: BootInstant = .zero

    /// The cookie for the next message, while it is fresh.
    func cookie(at now: BootInstant) -> [UInt8]? {
        guard now - receivedAt < WireGuardSpecification.cookieRefreshTime else { return nil }
        return cookie
    }

    mutating func sent(mac1: [UInt8]) {
        lastMAC1 = mac1
    }

    /// Takes a cookie reply; `false` when it does not answer the last message.
    mutating func accept(_ reply: CookieReplyMessage, key: SecretBytes, at now: BootInstant)
        -> Bool
    {
        guard let mac1 = lastMAC1,
            let opened = XChaCha20Poly1305.open(
                reply.sealedCookie, key: key, nonce: reply.nonce, associatedData: mac1)
        else { return false }
        cookie = opened
        receivedAt = now
        lastMAC1 = nil
        return true
    }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(lastMAC1 ?? [])
        hash.mix(cookie == nil ? nil : receivedAt)
    }
}
