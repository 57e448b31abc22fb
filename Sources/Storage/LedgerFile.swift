import Cryptography
import MeshBase

/// An append-only file of records with a checksum each: the ledger's memory.
///
/// Layout, numbers big-endian: a header (kind 4, version 2, zero 2, generation 8, checksum 8),
/// then records (length 4, checksum 8, payload). A checksum is the first eight bytes of SHA-256
/// over generation, offset, length and payload, so bytes left over from elsewhere never pass.
package final class LedgerFile {
    /// What opening found.
    package struct Recovery: Hashable, Sendable {
        /// The whole records, oldest first.
        package var records: [[UInt8]]
        /// Bytes behind the last whole record, now cut off: an append that a crash interrupted.
        package var truncatedBytes: Int
    }

    package let name: String
    /// The file's length in bytes.
    package private(set) var size: Int
    private let kind: FileKind
    private let directory: StateDirectory
    private var handle: FileHandle
    private var generation: UInt64
    private var hasFailed = false

    /// The largest record, in bytes: above every ledger entry with its signature.
    package static let recordLimit = 65_536
    /// The largest file, in bytes: appends beyond it ask for a compaction. The whole state
    /// directory has a budget of 10 MB, and a compaction holds two of these for a moment.
    package static let sizeLimit = 4 << 20
    private static let headerSize = 24
    private static let recordOverhead = 12

    /// Opens the file, or makes an empty one. A torn tail is cut off, durably, before this returns.
    ///
    /// - Throws: ``StorageError/corrupt(path:detail:)`` when the header is not this file's.
    package static func open(name: String, kind: FileKind, in directory: StateDirectory)
        throws(StorageError) -> (file: LedgerFile, recovery: Recovery)
    {
        let path = directory.path(of: name)
        let fileSystem = directory.fileSystem
        let isMissing = try wrapping { () throws(FileSystemError) in
            try fileSystem.status(of: path) == nil
        }
        if isMissing {
            try directory.replace(name, with: LedgerFile.header(kind: kind, generation: 1))
        }
        let (handle, bytes) = try LedgerFile.contents(path, fileSystem)
        do throws(StorageError) {
            let generation = try LedgerFile.readHeader(bytes, kind: kind, path: path)
            let found = LedgerFile.scan(bytes, generation: generation)
            try wrapping { () throws(FileSystemError) in
                if found.end < bytes.count { try fileSystem.truncate(handle, to: found.end) }
                try fileSystem.synchronize(handle)
                try fileSystem.synchronizeDirectory(directory.path)
            }
            let file = LedgerFile(
                name: name, kind: kind, directory: directory, handle: handle,
                generation: generation, size: found.end)
            let truncated = bytes.count - found.end
            return (file, Recovery(records: found.records, truncatedBytes: truncated))
        } catch {
            fileSystem.close(handle)
            throw error
        }
    }

    private init(
        name: String, kind: FileKind, directory: StateDirectory, handle: FileHandle,
        generation: UInt64, size: Int
    ) {
        self.name = name
        self.kind = kind
        self.directory = directory
        self.handle = handle
        self.generation = generation
        self.size = size
    }

    deinit {
        directory.fileSystem.close(handle)
    }

    /// Adds records at the end. When this returns, they are on the disk.
    ///
    /// - Throws: ``StorageError/tooLarge(path:size:limit:)`` when the file would pass its bound;
    ///   nothing was written, and ``compact(_:)`` makes room. After a system error the file
    ///   refuses everything but ``compact(_:)``.
    package func append(_ records: [[UInt8]]) throws(StorageError) {
        let path = directory.path(of: name)
        guard !hasFailed else { throw .failedEarlier(path: path) }
        guard !records.isEmpty else { return }
        let bytes = try LedgerFile.encode(records, generation: generation, at: size, path: path)
        guard size + bytes.count <= LedgerFile.sizeLimit else {
            throw .tooLarge(path: path, size: size + bytes.count, limit: LedgerFile.sizeLimit)
        }
        do throws(FileSystemError) {
            try directory.fileSystem.write(bytes, to: handle, at: size)
            try directory.fileSystem.synchronize(handle)
        } catch {
            hasFailed = true
            throw .system(error)
        }
        size += bytes.count
    }

    /// Replaces the whole file by `records`: afterwards, or after a crash, it holds the old records
    /// or the new ones. It also repairs a file whose last append failed.
    package func compact(_ records: [[UInt8]]) throws(StorageError) {
        let path = directory.path(of: name)
        let next = generation + 1
        let header = LedgerFile.header(kind: kind, generation: next)
        let bytes =
            try header
            + LedgerFile.encode(records, generation: next, at: header.count, path: path)
        guard bytes.count <= LedgerFile.sizeLimit else {
            throw .tooLarge(path: path, size: bytes.count, limit: LedgerFile.sizeLimit)
        }
        // Until the new file is open, an append would go to one that may have lost its name.
        hasFailed = true
        try directory.replace(name, with: bytes)
        let opened = try wrapping { () throws(FileSystemError) in
            try directory.fileSystem.open(path, .readWrite)
        }
        directory.fileSystem.close(handle)
        handle = opened
        generation = next
        size = bytes.count
        hasFailed = false
    }
}

// MARK: - Bytes

extension LedgerFile {
    private static func header(kind: FileKind, generation: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(raw: kind.tag)
        writer.write(kind.version)
        writer.write(UInt16(0))
        writer.write(generation)
        writer.write(sha256(writer.bytes).prefix64)
        return writer.bytes
    }

    private static func readHeader(_ bytes: [UInt8], kind: FileKind, path: String)
        throws(StorageError) -> UInt64
    {
        let version: UInt16
        let generation: UInt64
        do throws(DecodingFailure) {
            var reader = ByteReader(Array(bytes.prefix(headerSize)))
            guard try reader.readBytes(4) == kind.tag else { throw .field("kind") }
            version = try reader.readUInt16()
            guard try reader.readUInt16() == 0 else { throw .field("header") }
            generation = try reader.readUInt64()
            guard try reader.readUInt64() == sha256(Array(bytes.prefix(16))).prefix64 else {
                throw .field("checksum")
            }
        } catch {
            throw .corrupt(path: path, detail: "its header is not whole")
        }
        guard version <= kind.version else {
            throw .newerVersion(path: path, found: version, known: kind.version)
        }
        return generation
    }

    private static func contents(_ path: String, _ fileSystem: any FileSystem)
        throws(StorageError) -> (FileHandle, [UInt8])
    {
        try wrapping { () throws(FileSystemError) in
            let handle = try fileSystem.open(path, .readWrite)
            do throws(FileSystemError) {
                // An append never passes the bound, so what lies beyond it is not a record.
                return (handle, try fileSystem.read(handle, at: 0, count: sizeLimit + 1))
            } catch {
                fileSystem.close(handle)
                throw error
            }
        }
    }

    private static func encode(
        _ records: [[UInt8]], generation: UInt64, at start: Int, path: String
    ) throws(StorageError) -> [UInt8] {
        var writer = ByteWriter(capacity: 4096)
        for record in records {
            guard !record.isEmpty, record.count <= recordLimit else {
                throw .tooLarge(path: path, size: record.count, limit: recordLimit)
            }
            let offset = start + writer.count
            writer.write(UInt32(record.count))
            writer.write(checksum(record, generation: generation, at: offset))
            writer.write(raw: record)
        }
        return writer.bytes
    }

    /// The whole records from the front, and the offset behind the last of them.
    private static func scan(_ bytes: [UInt8], generation: UInt64)
        -> (records: [[UInt8]], end: Int)
    {
        var records: [[UInt8]] = []
        var end = headerSize
        while true {
            var reader = ByteReader(Array(bytes[end..<min(end + recordOverhead, bytes.count)]))
            guard let count = try? reader.readUInt32(), let stored = try? reader.readUInt64(),
                count > 0, count <= UInt32(recordLimit)
            else { break }
            let start = end + recordOverhead
            guard start + Int(count) <= bytes.count else { break }
            let record = Array(bytes[start..<start + Int(count)])
            guard checksum(record, generation: generation, at: end) == stored else { break }
            records.append(record)
            end = start + Int(count)
        }
        return (records, end)
    }

    private static func checksum(_ record: [UInt8], generation: UInt64, at offset: Int) -> UInt64 {
        var writer = ByteWriter(capacity: record.count + 20)
        writer.write(generation)
        writer.write(UInt64(offset))
        writer.write(UInt32(record.count))
        writer.write(raw: record)
        return sha256(writer.bytes).prefix64
    }
}
