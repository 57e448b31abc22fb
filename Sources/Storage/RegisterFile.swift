import MeshBase

/// The file under a write-once register or a vote: what `store` acknowledged is never forgotten
/// and never read back as an older value.
///
/// Two slots hold the same value when nothing is under way. A store writes and synchronizes the
/// first, then the second, and returns after both. A crash leaves one whole slot at any moment,
/// and a slot that rots later has a twin. A missing file means a fresh register; two bad slots
/// mean that memory was lost, and such a node must never vote.
package final class RegisterFile {
    package let name: String
    private let kind: FileKind
    private let directory: StateDirectory
    private let handle: FileHandle
    private let slotSize: Int
    private var sequence: UInt64
    private var hasFailed = false
    /// The value that is on the disk; `nil` until the first store.
    package private(set) var value: [UInt8]?

    /// Bytes of a slot: room for the acceptor state of a few generations.
    package static let usualSlotSize = 16_384
    private static let blockSize = 4096

    /// Opens the register, or makes a fresh one if the file is missing.
    ///
    /// A machine that had a register and lost it must not take a fresh one for its memory: the
    /// caller that knows better, because something made later is there, says `mayCreate: false`,
    /// and a missing file is ``StorageError/corrupt(path:detail:)``.
    ///
    /// Opening writes the newest slot again, byte for byte, and then copies it over its twin: bytes
    /// that a killed process left unsynchronized are durable before anybody acts on them and
    /// before the twin is touched, and a damaged twin is replaced. Writing the same bytes cannot
    /// tear what is durable already.
    package init(
        name: String, kind: FileKind, slotSize: Int = usualSlotSize, mayCreate: Bool = true,
        in directory: StateDirectory
    ) throws(StorageError) {
        precondition(slotSize >= RegisterFile.blockSize && slotSize % RegisterFile.blockSize == 0)
        let path = directory.path(of: name)
        let fileSystem = directory.fileSystem
        let isMissing = try wrapping { () throws(FileSystemError) in
            try fileSystem.status(of: path) == nil
        }
        if isMissing {
            guard mayCreate else { throw .corrupt(path: path, detail: "it is missing") }
            let empty = RegisterFile.slot(nil, kind: kind, sequence: 1, size: slotSize)
            try directory.replace(name, with: empty + empty)
        }
        let (handle, bytes) = try wrapping { () throws(FileSystemError) in
            let handle = try fileSystem.open(path, .readWrite)
            do throws(FileSystemError) {
                try fileSystem.synchronizeDirectory(directory.path)
                // 2 MiB is the largest register anybody can have made.
                return (handle, try fileSystem.read(handle, at: 0, count: 2 * (1 << 20) + 1))
            } catch {
                fileSystem.close(handle)
                throw error
            }
        }
        let newest: (value: [UInt8]?, sequence: UInt64, offset: Int)
        let size = bytes.count / 2
        do throws(StorageError) {
            newest = try RegisterFile.newest(bytes, kind: kind, path: path)
            let slot = Array(bytes[newest.offset..<newest.offset + size])
            try RegisterFile.write(
                slot, at: [newest.offset, size - newest.offset], of: handle, fileSystem)
        } catch {
            fileSystem.close(handle)
            throw error
        }
        self.name = name
        self.kind = kind
        self.directory = directory
        self.handle = handle
        self.slotSize = size
        value = newest.value
        sequence = newest.sequence
    }

    deinit {
        directory.fileSystem.close(handle)
    }

    /// The largest value, in bytes.
    package var limit: Int { slotSize - Frame.overhead - 1 }

    /// Replaces the value. When this returns, the new value survives a crash and the loss of
    /// either slot. When it throws, nobody knows which value is stored, and the register refuses
    /// everything until it is opened again.
    package func store(_ newValue: [UInt8]) throws(StorageError) {
        let path = directory.path(of: name)
        guard !hasFailed else { throw .failedEarlier(path: path) }
        guard newValue.count <= limit else {
            throw .tooLarge(path: path, size: newValue.count, limit: limit)
        }
        let slot = RegisterFile.slot(newValue, kind: kind, sequence: sequence + 1, size: slotSize)
        do throws(StorageError) {
            try RegisterFile.write(slot, at: [0, slotSize], of: handle, directory.fileSystem)
        } catch {
            hasFailed = true
            throw error
        }
        value = newValue
        sequence += 1
    }

    private static func write(
        _ slot: [UInt8], at offsets: [Int], of handle: FileHandle, _ fileSystem: any FileSystem
    ) throws(StorageError) {
        try wrapping { () throws(FileSystemError) in
            for offset in offsets {
                try fileSystem.write(slot, to: handle, at: offset)
                try fileSystem.synchronize(handle)
            }
        }
    }

    /// One byte in front of the value tells "no value" from "an empty value".
    private static func slot(_ value: [UInt8]?, kind: FileKind, sequence: UInt64, size: Int)
        -> [UInt8]
    {
        let payload = value.map { [1] + $0 } ?? [0]
        var bytes = Frame.encode(payload, kind: kind, sequence: sequence)
        bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
        return bytes
    }

    private static func newest(_ bytes: [UInt8], kind: FileKind, path: String)
        throws(StorageError) -> (value: [UInt8]?, sequence: UInt64, offset: Int)
    {
        let size = bytes.count / 2
        guard size >= blockSize, size % blockSize == 0, bytes.count == 2 * size else {
            throw .corrupt(path: path, detail: "its length of \(bytes.count) bytes is wrong")
        }
        var best: (frame: Frame, offset: Int)?
        var details: [String] = []
        for offset in [0, size] {
            do throws(Frame.Failure) {
                let slot = Array(bytes[offset..<offset + size])
                let frame = try Frame.decode(slot, kind: kind, isPadded: true)
                if frame.sequence > best?.frame.sequence ?? 0 { best = (frame, offset) }
            } catch {
                guard case .damaged(let detail) = error else {
                    throw error.asStorageError(path: path, kind: kind)
                }
                details.append(detail)
            }
        }
        guard let (frame, offset) = best, let flag = frame.payload.first, flag <= 1 else {
            let detail = "neither slot is whole (" + details.joined(separator: "; ") + ")"
            throw .corrupt(path: path, detail: detail)
        }
        return (flag == 1 ? Array(frame.payload.dropFirst()) : nil, frame.sequence, offset)
    }
}
