import Glibc

/// A system call failed: what was being done, and the kernel's error number.
package struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
    package let operation: String
    /// A positive `errno` value.
    package let code: Int32

    /// - Parameter code: An error number of either sign; shims return negative ones.
    package init(_ operation: String, code: Int32 = errno) {
        self.operation = operation
        self.code = code.magnitude > 0 ? Int32(code.magnitude) : EIO
    }

    package var description: String {
        var buffer = [CChar](repeating: 0, count: 128)
        guard strerror_r(code, &buffer, buffer.count) == 0 else {
            return "\(operation): error \(code)"
        }
        let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return "\(operation): \(String(decoding: text, as: UTF8.self))"
    }
}
