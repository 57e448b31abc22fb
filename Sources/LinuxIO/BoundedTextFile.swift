import Glibc

/// A file of its owner's that grows by whole texts up to a bound. What an earlier process left
/// under the name is kept once, with `.1` behind it.
package final class BoundedTextFile {
    package let path: String
    private let descriptor: Int32
    private var room: Int

    /// - Parameter limit: bytes; the last text that fits is the last one.
    package init(_ path: String, limit: Int) throws(SystemCallError) {
        self.path = path
        guard rename(path, "\(path).1") == 0 || errno == ENOENT else {
            throw SystemCallError("rename \(path)")
        }
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemCallError("make \(path)") }
        room = limit
    }

    deinit { close(descriptor) }

    /// Whether `text` was within the bound.
    package func append(_ text: String) throws(SystemCallError) -> Bool {
        var bytes = Array(text.utf8)[...]
        guard bytes.count <= room else { return false }
        room -= bytes.count
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw SystemCallError("write \(path)") }
            bytes = bytes.dropFirst(count)
        }
        return true
    }
}
