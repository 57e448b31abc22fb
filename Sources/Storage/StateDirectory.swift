import MeshBase

/// The directory that holds everything a node remembers, locked for one process.
///
/// The lock goes when the last reference goes or when the process dies, however it dies.
package final class StateDirectory: Sendable {
    package let path: String
    package let fileSystem: any FileSystem
    /// Whether the directory outlives a restart of the machine. On tmpfs, ramfs or overlay it
    /// does not, and a node that forgets must not vote.
    package let isDurable: Bool
    private let lock: FileHandle

    /// Makes the directory where that is allowed, checks who can reach it, and locks it.
    ///
    /// - Throws: ``StorageError/notMountedYet(path:marker:)`` when a marker promises a directory
    ///   that is not there: the caller waits and asks again, nothing has been made.
    package init(_ location: StateLocation, fileSystem: any FileSystem = LinuxFileSystem())
        throws(StorageError)
    {
        let path = location.path
        self.path = path
        self.fileSystem = fileSystem
        try StateDirectory.prepare(location, fileSystem)
        isDurable = try wrapping { () throws(FileSystemError) in
            try fileSystem.isDurable(at: path)
        }
        lock = try StateDirectory.takeLock(in: path, fileSystem)
        do {
            try settle()
        } catch {
            fileSystem.close(lock)
            throw error
        }
    }

    deinit {
        fileSystem.close(lock)
    }

    /// The path of a file in the directory.
    package func path(of name: String) -> String { "\(path)/\(name)" }

    /// Suffix of a file that is being written and has not taken its place yet.
    static let temporarySuffix = ".tmp"

    /// Removes half-written files of an earlier life, which nothing ever reads, and makes the names
    /// durable that a killed process left in the kernel's memory: what is read from here on must
    /// still be there after a power cut.
    private func settle() throws(StorageError) {
        try wrapping { () throws(FileSystemError) in
            for name in try fileSystem.names(in: path)
            where name.hasSuffix(StateDirectory.temporarySuffix) {
                try fileSystem.remove(self.path(of: name))
            }
            try fileSystem.synchronizeDirectory(path)
        }
    }

    private static func prepare(_ location: StateLocation, _ fileSystem: any FileSystem)
        throws(StorageError)
    {
        let path = location.path
        let found = try wrapping { () throws(FileSystemError) in
            try fileSystem.status(of: path)
        }
        if let found {
            guard found.kind == .directory else { throw .notADirectory(path: path) }
            guard found.owner == fileSystem.effectiveUser else {
                throw .foreignOwner(
                    path: path, owner: found.owner, expected: fileSystem.effectiveUser)
            }
            guard found.mode & 0o077 == 0 else {
                throw .tooOpen(path: path, mode: found.mode, wanted: 0o700)
            }
            return
        }
        if let marker = location.marker { throw .notMountedYet(path: path, marker: marker) }
        try wrapping { () throws(FileSystemError) in
            try makeParents(of: path, fileSystem)
            try fileSystem.makeDirectory(path, mode: 0o700)
            try fileSystem.synchronizeDirectory(parent(of: path))
        }
    }

    private static func makeParents(of path: String, _ fileSystem: any FileSystem)
        throws(FileSystemError)
    {
        let above = parent(of: path)
        guard above != path, try fileSystem.status(of: above) == nil else { return }
        try makeParents(of: above, fileSystem)
        try fileSystem.makeDirectory(above, mode: 0o755)
        try fileSystem.synchronizeDirectory(parent(of: above))
    }

    private static func takeLock(in path: String, _ fileSystem: any FileSystem)
        throws(StorageError) -> FileHandle
    {
        let handle = try wrapping { () throws(FileSystemError) in
            try fileSystem.open("\(path)/lock", .readWriteCreating)
        }
        do throws(FileSystemError) {
            if try fileSystem.tryLock(handle) {
                // The process id is for the error message of whoever comes second.
                try fileSystem.truncate(handle, to: 0)
                try fileSystem.write(Array("\(fileSystem.processID)\n".utf8), to: handle, at: 0)
                return handle
            }
        } catch {
            fileSystem.close(handle)
            throw .system(error)
        }
        let holder = try? fileSystem.read(handle, at: 0, count: 20)
        fileSystem.close(handle)
        let digits = String(decoding: (holder ?? []).prefix { $0 != 10 }, as: UTF8.self)
        throw .locked(path: path, holder: Int(digits))
    }
}
