import CPacketCipher
import CSodium

/// The packet encryption of a session, agreed in its handshake.
package enum PacketSuite: UInt8, Hashable, Sendable, CaseIterable {
    case chaCha20Poly1305 = 0
    case aes256GCM = 1
}

extension PacketSuite {
    /// Whether this machine runs the suite in constant time; AES needs instructions made for it.
    package var isAvailable: Bool {
        switch self {
        case .chaCha20Poly1305: true
        case .aes256GCM: PacketEngine.shared.supportsAES
        }
    }
}

/// One direction's packet key in every form that an implementation wants, zeroed when the key
/// goes.
///
/// It lives three minutes at most, and a node has six for each of thousands of peers: in
/// libsodium's guarded pages they would exceed the kernel's number of mappings (65,530), so
/// they are on the heap, as other implementations hold them.
public final class PacketKey: @unchecked Sendable {
    @usableFromInline package let storage: UnsafeMutableRawPointer
    private let count: Int

    package init(_ secret: SecretBytes, suite: PacketSuite) {
        let isAES = suite == .aes256GCM
        count = isAES ? Int(PACKET_KEY_BYTES) : Int(PACKET_KEY_RAW_BYTES)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
        storage = memory
        secret.withBytes { packet_key_prepare(memory, $0, isAES ? 1 : 0) }
    }

    deinit {
        sodium_memzero(storage, count)
        storage.deallocate()
    }
}

/// A library that implements the packet suites.
package enum PacketImplementation: Hashable, Sendable, CaseIterable {
    /// Portable; on x86-64 about a third of the speed of the other.
    case sodium
    /// Intel's Multi-Buffer library, opened at run time where it exists.
    case ipsecMB
}

/// The packet suites behind four C function pointers that are chosen once.
///
/// An engine may hold scratch memory of its library, so each thread starts its own; only
/// ``shared`` may be used by several.
public final class PacketEngine: @unchecked Sendable {
    @usableFromInline package let table: UnsafeMutablePointer<packet_engine>

    /// `nil` when this machine lacks the implementation or its self-test fails.
    package init?(_ implementation: PacketImplementation) {
        let table = UnsafeMutablePointer<packet_engine>.allocate(capacity: 1)
        let kind = implementation == .sodium ? PACKET_SODIUM : PACKET_IPSEC_MB
        guard packet_engine_start(table, kind) == 0 else {
            table.deallocate()
            return nil
        }
        self.table = table
        if !passesSelfTest { return nil }
    }

    deinit {
        packet_engine_stop(table)
        table.deallocate()
    }

    /// The fastest implementation of this machine that passes its self-test.
    package static func fastest() -> PacketEngine {
        PacketEngine(.ipsecMB) ?? shared
    }

    /// libsodium, which keeps no state between calls.
    package static let shared: PacketEngine = {
        guard let engine = PacketEngine(.sodium) else {
            preconditionFailure("libsodium fails its self-test")
        }
        return engine
    }()

    package var implementation: PacketImplementation {
        table.pointee.implementation == PACKET_IPSEC_MB ? .ipsecMB : .sodium
    }

    package var supportsAES: Bool { table.pointee.seal_aes != nil }
}

/// Lends an engine's function pointers to a packet loop. The loop's owner keeps the engine alive.
@frozen public struct PacketCipher {
    @usableFromInline let table: UnsafeMutablePointer<packet_engine>

    package init(_ engine: PacketEngine) {
        table = engine.table
    }

    /// Writes `count` bytes of ciphertext and a 16-byte tag to `output`.
    ///
    /// - Parameters:
    ///   - isAES: AES-256-GCM instead of ChaCha20-Poly1305; the key must be made for it.
    ///   - key: ``PacketKey/storage`` of the sending direction.
    ///   - counter: Never used before under this key.
    ///   - output: `count + 16` bytes that do not overlap `input`.
    @inlinable @inline(__always)
    public func seal(
        isAES: Bool, key: UnsafeRawPointer, counter: UInt64, _ input: UnsafePointer<UInt8>,
        count: Int, to output: UnsafeMutablePointer<UInt8>
    ) {
        let seal = isAES ? table.pointee.seal_aes : table.pointee.seal_chacha
        seal.unsafelyUnwrapped(table, key, counter, input, count, output)
    }

    /// Checks the tag at the end of `count` bytes and writes `count - 16` bytes of plaintext.
    /// `output` may be `input`.
    ///
    /// - Returns: Whether the packet is authentic. If not, `output` holds garbage.
    @inlinable @inline(__always)
    public func open(
        isAES: Bool, key: UnsafeRawPointer, counter: UInt64, _ input: UnsafePointer<UInt8>,
        count: Int, to output: UnsafeMutablePointer<UInt8>
    ) -> Bool {
        let open = isAES ? table.pointee.open_aes : table.pointee.open_chacha
        return open.unsafelyUnwrapped(table, key, counter, input, count, output) == 0
    }
}
