import CPacketCipher
import MeshBase

extension PacketEngine {
    /// Whether known answers come out and forged tags are refused, for every suite offered.
    ///
    /// A wrong build, a wrong library or a broken instruction must stop here and not on the wire.
    var passesSelfTest: Bool {
        let suites: [PacketSuite] =
            supportsAES ? [.chaCha20Poly1305, .aes256GCM] : [.chaCha20Poly1305]
        return suites.allSatisfy { suite in
            // Lengths around the block sizes of the wide implementations, and a full packet.
            [0, 1, 16, 31, 64, 65, 255, 256, 512, 1023, 1420].allSatisfy { count in
                passesRoundTrip(suite, count: count)
            } && hasKnownTag(suite)
        }
    }

    private func passesRoundTrip(_ suite: PacketSuite, count: Int) -> Bool {
        let plaintext = SelfTest.pattern(count)
        let key = PacketKey(SecretBytes(copying: SelfTest.pattern(32)), suite: suite)
        let counter: UInt64 = 0x0102_0304_0506_0708
        var sealed = seal(plaintext, suite: suite, key: key, counter: counter)
        guard open(sealed, suite: suite, key: key, counter: counter) == plaintext,
            open(sealed, suite: suite, key: key, counter: counter + 1) == nil
        else { return false }
        sealed[count / 2] ^= 0x20
        return open(sealed, suite: suite, key: key, counter: counter) == nil
    }

    private func hasKnownTag(_ suite: PacketSuite) -> Bool {
        let key = PacketKey(SecretBytes(copying: SelfTest.pattern(32)), suite: suite)
        let sealed = seal(SelfTest.pattern(1420), suite: suite, key: key, counter: 1 << 40 | 7)
        let tag = Array(sealed.suffix(PacketEngine.tagCount))
        return tag == SelfTest.tag(suite)
    }
}

extension PacketEngine {
    package static let tagCount = Int(PACKET_TAG_BYTES)

    /// Ciphertext and tag of one packet; for control code and tests.
    package func seal(
        _ plaintext: [UInt8], suite: PacketSuite, key: PacketKey, counter: UInt64
    ) -> [UInt8] {
        let count = plaintext.count
        return [UInt8](unsafeUninitializedCapacity: count + PacketEngine.tagCount) {
            buffer, filled in
            guard let output = buffer.baseAddress else { return }
            plaintext.withUnsafeBufferPointer { input in
                PacketCipher(self).seal(
                    isAES: suite == .aes256GCM, key: key.storage, counter: counter,
                    input.baseAddress ?? UnsafePointer(output), count: count, to: output)
            }
            filled = count + PacketEngine.tagCount
        }
    }

    /// The plaintext, or `nil` when the packet is not authentic.
    package func open(
        _ sealed: some Collection<UInt8>, suite: PacketSuite, key: PacketKey, counter: UInt64
    ) -> [UInt8]? {
        guard sealed.count >= PacketEngine.tagCount else { return nil }
        let input = Array(sealed)
        let count = input.count - PacketEngine.tagCount
        var isAuthentic = false
        let plaintext = [UInt8](unsafeUninitializedCapacity: max(count, 1)) { buffer, filled in
            guard let output = buffer.baseAddress else { return }
            input.withUnsafeBufferPointer { source in
                guard let start = source.baseAddress else { return }
                isAuthentic = PacketCipher(self).open(
                    isAES: suite == .aes256GCM, key: key.storage, counter: counter, start,
                    count: input.count, to: output)
            }
            filled = isAuthentic ? count : 0
        }
        return isAuthentic ? plaintext : nil
    }
}

private enum SelfTest {
    static func pattern(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
    }

    /// Computed with another implementation (OpenSSL, through Python's `cryptography`).
    static func tag(_ suite: PacketSuite) -> [UInt8] {
        switch suite {
        case .chaCha20Poly1305:
            [
                0x0b, 0x4f, 0xd3, 0xa1, 0xd8, 0x88, 0x61, 0xa2,
                0x9b, 0x30, 0xf4, 0xb3, 0xd2, 0x95, 0x45, 0xde,
            ]
        case .aes256GCM:
            [
                0x37, 0x44, 0x1f, 0x64, 0xeb, 0x53, 0xcf, 0x57,
                0x9f, 0xf9, 0xc8, 0x5a, 0x84, 0xef, 0xe6, 0x88,
            ]
        }
    }
}
