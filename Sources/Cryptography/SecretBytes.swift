import CSodium
import MeshBase
import Synchronization

/// Thirty-two secret bytes that exist once, in memory that libsodium locks against swapping and
/// core dumps, and that are zeroed when the last owner lets go.
///
/// A class, so that copying a value that owns a key copies a reference and never the key. It has
/// no description: printing one prints its type.
public final class SecretBytes: @unchecked Sendable, CustomStringConvertible,
    CustomReflectable
{
    private let storage: UnsafeMutableRawPointer
    package static let count = 32

    /// Takes a copy of exactly 32 bytes. The caller zeroes its own.
    package init(copying bytes: some Collection<UInt8>) {
        precondition(bytes.count == SecretBytes.count, "a secret has 32 bytes")
        storage = SecretArena.shared.take()
        storage.withMemoryRebound(to: UInt8.self, capacity: SecretBytes.count) { target in
            let target = UnsafeMutableBufferPointer(start: target, count: SecretBytes.count)
            _ = target.update(fromContentsOf: bytes)
        }
    }

    package convenience init(_ bytes: Bytes32) {
        self.init(copying: bytes.bytes)
    }

    deinit {
        SecretArena.shared.giveBack(storage)
    }

    /// Lends the bytes; the pointer must not outlive the call.
    public func withBytes<Result>(_ body: (UnsafePointer<UInt8>) -> Result) -> Result {
        storage.withMemoryRebound(to: UInt8.self, capacity: SecretBytes.count) { body($0) }
    }

    /// A copy for the few places that must write the secret to a 0600 file.
    package func exposedCopy() -> [UInt8] {
        withBytes { Array(UnsafeBufferPointer(start: $0, count: SecretBytes.count)) }
    }

    public var description: String { "SecretBytes(redacted)" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Lets libsodium choose its fastest code. Without it every primitive runs the portable version.
package func startSodium() {
    _ = sodiumStarted
}

private let sodiumStarted: Void = {
    precondition(sodium_init() >= 0, "libsodium cannot start")
}()

/// Overwrites `bytes` in a way that the optimiser may not remove.
package func zeroize(_ bytes: inout [UInt8]) {
    bytes.withUnsafeMutableBytes { sodium_memzero($0.baseAddress, $0.count) }
}

/// Compares in time that depends on the length only; unequal lengths are unequal.
package func constantTimeEquals(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    guard first.count == second.count else { return false }
    return sodium_memcmp(first, second, first.count) == 0
}

/// Hands out 32-byte slots of locked memory.
///
/// A `sodium_malloc` of its own for every key costs four system calls (29 us measured) and four
/// memory mappings; with a thousand live sessions that is the kernel's limit of mappings, and more
/// than the usual limit of locked memory. Shared regions keep the lock and the guard pages around
/// the region and give up the pages between keys.
private final class SecretArena: Sendable {
    static let shared = SecretArena()
    /// Slots of one region: 16 KiB.
    private static let slots = 512

    private struct FreeSlots: @unchecked Sendable {
        var pointers: [UnsafeMutableRawPointer] = []
    }

    private let free = Mutex(FreeSlots())

    func take() -> UnsafeMutableRawPointer {
        free.withLock { list in
            if let pointer = list.pointers.popLast() { return pointer }
            startSodium()
            guard let region = sodium_malloc(SecretArena.slots * SecretBytes.count) else {
                preconditionFailure("no locked memory for keys")
            }
            for index in 1..<SecretArena.slots {
                list.pointers.append(region + index * SecretBytes.count)
            }
            return region
        }
    }

    func giveBack(_ pointer: UnsafeMutableRawPointer) {
        sodium_memzero(pointer, SecretBytes.count)
        free.withLock { $0.pointers.append(pointer) }
    }
}
