/// A small file that is replaced as a whole: after a crash it holds the old value or the new one.
package struct AtomicFile: Sendable {
    package let name: String
    package let kind: FileKind
    /// The largest payload, in bytes.
    package let limit: Int
    private let directory: StateDirectory

    package init(name: String, kind: FileKind, limit: Int, in directory: StateDirectory) {
        self.name = name
        self.kind = kind
        self.limit = limit
        self.directory = directory
    }

    private var path: String { directory.path(of: name) }

    /// The stored payload and the format version it was written with; `nil` if the file is missing.
    package func load() throws(StorageError) -> (payload: [UInt8], version: UInt16)? {
        let (path, limit) = (path, limit)
        let fileSystem = directory.fileSystem
        let bytes: [UInt8]? = try wrapping { () throws(FileSystemError) in
            guard try fileSystem.status(of: path) != nil else { return nil }
            let handle = try fileSystem.open(path, .read)
            defer { fileSystem.close(handle) }
            // A byte more than the largest file shows that it is too long.
            return try fileSystem.read(handle, at: 0, count: limit + Frame.overhead + 1)
        }
        guard let bytes else { return nil }
        do throws(Frame.Failure) {
            let frame = try Frame.decode(bytes, kind: kind, isPadded: false)
            return (frame.payload, frame.version)
        } catch {
            throw error.asStorageError(path: path, kind: kind)
        }
    }

    /// Replaces the file. When this returns, the payload is on the disk.
    package func store(_ payload: [UInt8]) throws(StorageError) {
        guard payload.count <= limit else {
            throw .tooLarge(path: path, size: payload.count, limit: limit)
        }
        try directory.replace(name, with: Frame.encode(payload, kind: kind, sequence: 0))
    }
}

extension StateDirectory {
    /// Writes `bytes` beside the file, makes them durable, and only then puts them in its place.
    func replace(_ name: String, with bytes: [UInt8]) throws(StorageError) {
        let target = path(of: name)
        let temporary = target + StateDirectory.temporarySuffix
        try wrapping { () throws(FileSystemError) in
            let handle = try fileSystem.open(temporary, .replacing)
            do throws(FileSystemError) {
                try fileSystem.write(bytes, to: handle, at: 0)
                try fileSystem.synchronize(handle)
            } catch {
                fileSystem.close(handle)
                try? fileSystem.remove(temporary)
                throw error
            }
            fileSystem.close(handle)
            try fileSystem.rename(temporary, to: target)
            try fileSystem.synchronizeDirectory(path)
        }
    }
}
