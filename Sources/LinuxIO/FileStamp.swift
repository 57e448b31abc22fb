import CLinux
import Glibc

/// What tells two states of a file apart without reading it.
package struct FileStamp: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let size: Int64
    private let seconds: Int
    private let nanoseconds: Int

    /// Of the file behind all symbolic links; `nil` when there is none.
    package init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        seconds = status.st_mtim.tv_sec
        nanoseconds = status.st_mtim.tv_nsec
    }
}

/// Small text files of the system, and files that lie over others for a while.
package enum SystemFile {
    /// The first 64 KiB; `nil` when it cannot be read.
    package static func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var filled = 0
        while filled < bytes.count {
            let count = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress.map { $0 + filled }, $0.count - filled)
            }
            guard count > 0 else { break }
            filled += count
        }
        return String(decoding: bytes[..<filled], as: UTF8.self)
    }

    /// Replaces the file at `path`, readable by everybody.
    package static func write(_ text: String, to path: String) throws(SystemCallError) {
        let operation = "write \(path)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw SystemCallError(operation) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
            throw SystemCallError(operation)
        }
    }

    /// The path behind all symbolic links; `nil` when it leads nowhere.
    package static func realPath(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }

    /// Where a symbolic link points, unresolved; for the links of /proc.
    package static func linkTarget(_ path: String) -> String? {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Makes a directory unless it is there.
    package static func makeDirectory(_ path: String) throws(SystemCallError) {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
            throw SystemCallError("make \(path)")
        }
    }

    /// Lays `file` over `path` until ``uncover(_:)`` or the next start of the machine: what lies
    /// below is not touched (mount(2), MS_BIND).
    package static func cover(_ path: String, with file: String) throws(SystemCallError) {
        let result = clinux_bind_mount(file, path)
        guard result == 0 else { throw SystemCallError("lay \(file) over \(path)", code: result) }
    }

    /// Takes the uppermost file off `path`.
    package static func uncover(_ path: String) throws(SystemCallError) {
        let result = clinux_unmount(path)
        guard result == 0 else { throw SystemCallError("uncover \(path)", code: result) }
    }
}
