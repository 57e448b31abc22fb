import CLinux
import Glibc
import MeshBase

/// Random bytes from the kernel (getrandom(2)), the only source of secrets.
package enum SystemRandom {
    package static func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let got = clinux_random(buffer.baseAddress.map { $0 + filled }, count - filled)
                // A signal may interrupt the wait for a booting machine's first entropy.
                precondition(got >= 0 || got == -EINTR, "the kernel has no random numbers")
                filled += Int(max(got, 0))
            }
        }
    }

    package static func bytes32() -> Bytes32 {
        guard let value = Bytes32(bytes(32)) else { preconditionFailure("32 bytes are 32") }
        return value
    }

    /// A generator for one core, seeded from the kernel.
    package static func generator() -> SeededGenerator {
        SeededGenerator(seed: bytes32())
    }
}
