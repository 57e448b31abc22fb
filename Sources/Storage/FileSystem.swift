/// An open file of a ``FileSystem``.
package struct FileHandle: Hashable, Sendable {
    package let rawValue: Int32

    package init(rawValue: Int32) {
        self.rawValue = rawValue
    }
}

/// How a file is opened. Files are made for their owner only (mode 0600).
package enum FileAccess: Sendable {
    case read
    case readWrite
    /// Makes the file if it is missing.
    case readWriteCreating
    /// Makes the file, or empties the one that is there.
    case replacing
}

/// What a path leads to.
package struct FileStatus: Hashable, Sendable {
    package enum Kind: Hashable, Sendable { case file, directory, other }

    package var kind: Kind
    /// The permission bits, 0...0o7777.
    package var mode: UInt32
    /// The numeric user who owns it.
    package var owner: UInt32
    /// The device it is on: a directory whose device is not its parent's is a mount point.
    package var device: UInt64

    package init(kind: Kind, mode: UInt32, owner: UInt32, device: UInt64) {
        self.kind = kind
        self.mode = mode
        self.owner = owner
        self.device = device
    }
}

/// The file operations that durable state needs, one system call each, so that a test can stop
/// the machine between any two of them.
///
/// Nothing written counts as durable before `synchronize`, no name before
/// `synchronizeDirectory`.
package protocol FileSystem: Sendable {
    /// `nil` when nothing is there.
    func status(of path: String) throws(FileSystemError) -> FileStatus?
    /// Makes one directory with exactly these permission bits.
    func makeDirectory(_ path: String, mode: UInt32) throws(FileSystemError)
    /// The names in a directory, sorted, without `.` and `..`.
    func names(in path: String) throws(FileSystemError) -> [String]
    func open(_ path: String, _ access: FileAccess) throws(FileSystemError) -> FileHandle
    func close(_ handle: FileHandle)
    /// The file's length in bytes.
    func size(of handle: FileHandle) throws(FileSystemError) -> Int
    /// Up to `count` bytes from `offset`; fewer only at the end of the file.
    func read(_ handle: FileHandle, at offset: Int, count: Int) throws(FileSystemError) -> [UInt8]
    /// Writes all of `bytes`; after an error any part of them may have been written.
    func write(_ bytes: [UInt8], to handle: FileHandle, at offset: Int) throws(FileSystemError)
    func truncate(_ handle: FileHandle, to count: Int) throws(FileSystemError)
    /// Returns when the file's bytes and length are on the disk (fdatasync(2)).
    func synchronize(_ handle: FileHandle) throws(FileSystemError)
    /// Puts `source` in the place of `destination` in one step.
    func rename(_ source: String, to destination: String) throws(FileSystemError)
    func remove(_ path: String) throws(FileSystemError)
    /// Returns when the directory's names are on the disk.
    func synchronizeDirectory(_ path: String) throws(FileSystemError)
    /// Takes the exclusive advisory lock (flock(2)) without waiting; `false` if another has it.
    func tryLock(_ handle: FileHandle) throws(FileSystemError) -> Bool
    /// Whether what is stored at `path` outlives a restart of the machine.
    func isDurable(at path: String) throws(FileSystemError) -> Bool
    /// The user that this process acts as.
    var effectiveUser: UInt32 { get }
    var processID: Int { get }
}

/// A file operation that the system refused.
package struct FileSystemError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Operation: String, Sendable {
        case status, makeDirectory = "make directory", list, open, read, write, truncate
        case synchronize, rename, remove, lock
    }

    package let operation: Operation
    package let path: String
    /// The errno value.
    package let code: Int32
    /// What the system calls that errno.
    package let reason: String

    package init(_ operation: Operation, path: String, code: Int32, reason: String) {
        self.operation = operation
        self.path = path
        self.code = code
        self.reason = reason
    }

    package var description: String { "cannot \(operation.rawValue) \(path): \(reason)" }
}
