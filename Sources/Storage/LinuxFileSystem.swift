import CFileSystem
import Glibc

/// The machine's files.
package struct LinuxFileSystem: FileSystem {
    package init() {}

    package var effectiveUser: UInt32 { geteuid() }
    package var processID: Int { Int(getpid()) }

    package func status(of path: String) throws(FileSystemError) -> FileStatus? {
        var raw = stat()
        guard stat(path, &raw) == 0 else {
            let code = errno
            if code == ENOENT || code == ENOTDIR { return nil }
            throw failure(.status, path, code)
        }
        let kind: FileStatus.Kind =
            switch raw.st_mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .directory
            default: .other
            }
        return FileStatus(
            kind: kind, mode: raw.st_mode & 0o7777, owner: raw.st_uid, device: UInt64(raw.st_dev))
    }

    package func makeDirectory(_ path: String, mode: UInt32) throws(FileSystemError) {
        guard mkdir(path, mode) == 0, chmod(path, mode) == 0 else {
            throw failure(.makeDirectory, path, errno)
        }
    }

    package func names(in path: String) throws(FileSystemError) -> [String] {
        guard let stream = opendir(path) else { throw failure(.list, path, errno) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw failure(.list, path, errno) }
                break
            }
            let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 0
            let raw = UnsafeRawPointer(entry).advanced(by: offset)
            let name = String(cString: raw.assumingMemoryBound(to: CChar.self))
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    package func open(_ path: String, _ access: FileAccess) throws(FileSystemError) -> FileHandle {
        let flags: Int32 =
            switch access {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .readWriteCreating: O_RDWR | O_CREAT
            case .replacing: O_RDWR | O_CREAT | O_TRUNC
            }
        // No symbolic link is followed: another user's link must not redirect a secret.
        let descriptor = Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure(.open, path, errno) }
        return FileHandle(rawValue: descriptor)
    }

    package func close(_ handle: FileHandle) {
        _ = Glibc.close(handle.rawValue)
    }

    package func size(of handle: FileHandle) throws(FileSystemError) -> Int {
        var raw = stat()
        guard fstat(handle.rawValue, &raw) == 0 else { throw failure(.status, handle, errno) }
        return Int(raw.st_size)
    }

    package func read(_ handle: FileHandle, at offset: Int, count: Int) throws(FileSystemError)
        -> [UInt8]
    {
        // Callers would take megabytes; most files are small, and those of /proc do not say.
        let rest = try size(of: handle) - offset
        var bytes = [UInt8](repeating: 0, count: min(count, max(rest + 1, 4096)))
        var done = 0
        while done < count {
            if done == bytes.count {
                bytes.append(contentsOf: repeatElement(0, count: min(done, count - done)))
            }
            let position = done
            let result = bytes.withUnsafeMutableBytes { buffer in
                pread(
                    handle.rawValue, buffer.baseAddress?.advanced(by: position),
                    buffer.count - position, off_t(offset + position))
            }
            if result < 0 {
                if errno == EINTR { continue }
                throw failure(.read, handle, errno)
            }
            if result == 0 { break }
            done += result
        }
        bytes.removeLast(bytes.count - done)
        return bytes
    }

    package func write(_ bytes: [UInt8], to handle: FileHandle, at offset: Int)
        throws(FileSystemError)
    {
        var done = 0
        while done < bytes.count {
            let position = done
            let result = bytes.withUnsafeBytes { buffer in
                pwrite(
                    handle.rawValue, buffer.baseAddress?.advanced(by: position),
                    buffer.count - position, off_t(offset + position))
            }
            if result < 0 {
                if errno == EINTR { continue }
                throw failure(.write, handle, errno)
            }
            done += result
        }
    }

    package func truncate(_ handle: FileHandle, to count: Int) throws(FileSystemError) {
        guard ftruncate(handle.rawValue, off_t(count)) == 0 else {
            throw failure(.truncate, handle, errno)
        }
    }

    package func synchronize(_ handle: FileHandle) throws(FileSystemError) {
        guard fdatasync(handle.rawValue) == 0 else { throw failure(.synchronize, handle, errno) }
    }

    package func rename(_ source: String, to destination: String) throws(FileSystemError) {
        guard Glibc.rename(source, destination) == 0 else {
            throw failure(.rename, destination, errno)
        }
    }

    package func remove(_ path: String) throws(FileSystemError) {
        guard unlink(path) == 0 else { throw failure(.remove, path, errno) }
    }

    package func synchronizeDirectory(_ path: String) throws(FileSystemError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(.open, path, errno) }
        defer { _ = Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure(.synchronize, path, errno) }
    }

    package func tryLock(_ handle: FileHandle) throws(FileSystemError) -> Bool {
        guard flock(handle.rawValue, LOCK_EX | LOCK_NB) == 0 else {
            if errno == EWOULDBLOCK { return false }
            throw failure(.lock, handle, errno)
        }
        return true
    }

    package func isDurable(at path: String) throws(FileSystemError) -> Bool {
        var raw = statfs()
        guard statfs(path, &raw) == 0 else { throw failure(.status, path, errno) }
        return !LinuxFileSystem.fleetingTypes.contains(UInt32(truncatingIfNeeded: raw.f_type))
    }

    /// statfs(2)'s magic numbers of tmpfs, ramfs and overlayfs: memory, or a layer that a live
    /// system throws away.
    private static let fleetingTypes: [UInt32] = [0x0102_1994, 0x8584_58F6, 0x794C_7630]

    private func failure(
        _ operation: FileSystemError.Operation, _ handle: FileHandle, _ code: Int32
    ) -> FileSystemError {
        let link = "/proc/self/fd/\(handle.rawValue)"
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(link, &buffer, buffer.count)
        let target = buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }
        let path = target.isEmpty ? link : String(decoding: target, as: UTF8.self)
        return failure(operation, path, code)
    }

    private func failure(
        _ operation: FileSystemError.Operation, _ path: String, _ code: Int32
    ) -> FileSystemError {
        FileSystemError(operation, path: path, code: code, reason: String(cString: strerror(code)))
    }
}
