/// Why durable state cannot be used. Nothing on the disk was changed by the refusal.
package enum StorageError: Error, Hashable, Sendable {
    case system(FileSystemError)
    /// The file exists and is not what was written; the path and what is wrong with it.
    case corrupt(path: String, detail: String)
    /// The file was written by a newer release.
    case newerVersion(path: String, found: UInt16, known: UInt16)
    /// The path's permission bits let others in.
    case tooOpen(path: String, mode: UInt32, wanted: UInt32)
    case foreignOwner(path: String, owner: UInt32, expected: UInt32)
    case notADirectory(path: String)
    /// Another process uses the directory; its process id where it is known.
    case locked(path: String, holder: Int?)
    /// The disk that holds the directory has not come up: the marker promises it.
    case notMountedYet(path: String, marker: String)
    /// What was to be stored exceeds the file's bound, in bytes.
    case tooLarge(path: String, size: Int, limit: Int)
    /// An earlier write failed, so what is on the disk is unknown until the file is reopened.
    case failedEarlier(path: String)
    /// The file is already there and is never overwritten.
    case alreadyExists(path: String)
}

extension StorageError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .corrupt(let path, let detail): "\(path) is damaged: \(detail)"
        case .newerVersion(let path, let found, let known):
            "\(path) has format version \(found); this release reads up to \(known)"
        case .tooOpen(let path, let mode, let wanted):
            "\(path) has mode \(octal(mode)); others must not reach it, \(octal(wanted)) is required"
        case .foreignOwner(let path, let owner, let expected):
            "\(path) belongs to user \(owner), not to user \(expected)"
        case .notADirectory(let path): "\(path) is not a directory"
        case .locked(let path, let holder?): "process \(holder) already uses \(path)"
        case .locked(let path, nil): "another process already uses \(path)"
        case .notMountedYet(let path, let marker):
            "\(marker) says that the state is in \(path), which is not there yet"
        case .tooLarge(let path, let size, let limit):
            "\(path) would need \(size) bytes and holds \(limit)"
        case .failedEarlier(let path): "an earlier write to \(path) failed; it must be reopened"
        case .alreadyExists(let path): "\(path) already exists"
        }
    }

    /// What the user can do about it.
    package var fix: String {
        switch self {
        case .system(let error) where error.code == 30:
            "choose a writable place with --state-dir"
        case .system: "look at the disk and the permissions of that path"
        case .corrupt:
            "restore the file from a backup, or move the state directory away to start "
                + "as a new machine"
        case .newerVersion: "run the newer release that wrote it"
        case .tooOpen(let path, _, let wanted): "chmod \(octal(wanted)) \(path)"
        case .foreignOwner(let path, _, let expected): "chown \(expected) \(path)"
        case .notADirectory: "name a directory with --state-dir"
        case .locked: "stop that process, or name another directory with --state-dir"
        case .notMountedYet(let path, let marker):
            "wait for the disk, or remove \(marker) if \(path) is gone for good"
        case .tooLarge, .failedEarlier: "free space on the disk and start again"
        case .alreadyExists(let path): "move \(path) away first"
        }
    }
}

private func octal(_ mode: UInt32) -> String {
    "0" + String(mode, radix: 8)
}

/// Runs file operations and wraps their refusal.
func wrapping<Result>(_ body: () throws(FileSystemError) -> Result) throws(StorageError) -> Result {
    do {
        return try body()
    } catch {
        throw .system(error)
    }
}
