import MeshBase
import Storage

/// A disk in memory that tells apart what was written and what a power cut leaves of it.
///
/// Every operation that changes something is a step. `stopAt` cuts the power in the middle of a
/// step; `failAt` makes one step fail as a broken disk does. `afterPowerCut` is the disk that the
/// next start finds, `afterKill` the one after only the process died.
final class CrashingDisk: FileSystem, @unchecked Sendable {
    enum Edit {
        case write(offset: Int, bytes: [UInt8])
        case truncate(Int)
    }

    enum NameEdit {
        case link(String, Int)
        case unlink(String)
        case rename(String, String, Int)

        var directory: String {
            switch self {
            case .link(let path, _), .unlink(let path), .rename(_, let path, _):
                String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            }
        }
    }

    struct Inode {
        var current: [UInt8] = []
        var durable: [UInt8] = []
        /// Edits that no synchronize has covered, oldest first.
        var pending: [Edit] = []
    }

    /// What a power cut makes of edits that were not synchronized.
    enum Survival {
        case none, all
        /// Any subset; a write survives by sectors of 512 bytes.
        case some(seed: UInt64)
        /// Everything but the last write, of which a beginning survives, with or without the file's
        /// new length.
        case torn(bytes: Int, length: Bool)
        /// Everything but the last write, of which those sectors survive whose bit is set.
        case sectors(mask: UInt, length: Bool)
    }

    /// What a broken disk says it did, and did not.
    enum Lie {
        /// A write that never happens.
        case lost(step: Int)
        /// A write that lands so many bytes from its place; what is before the beginning is lost.
        case misplaced(step: Int, by: Int)
        /// A write that lands in another file, at the same offset.
        case elsewhere(step: Int, path: String)
    }

    private(set) var inodes: [Inode] = []
    private(set) var names: [String: Int] = [:]
    private var durableNames: [String: Int] = [:]
    private var pendingNames: [NameEdit] = []
    var directories: [String: FileStatus] = [:]
    private var open: [Int32: Int] = [:]
    private var nextHandle: Int32 = 3
    private var locked: Set<Int> = []
    private(set) var steps = 0
    private(set) var isOff = false
    var stopAt: Int?
    var failAt: Int?
    var lie: Lie?
    /// What is read first is wrong from this byte on, once.
    var misreadsFrom: Int?
    var durable = true

    let effectiveUser: UInt32 = 0
    let processID = 4711

    init() {
        for path in ["/", "/s"] { addDirectory(path, mode: 0o700) }
    }

    func addDirectory(_ path: String, mode: UInt32 = 0o755, owner: UInt32 = 0, device: UInt64 = 1) {
        directories[path] = FileStatus(
            kind: .directory, mode: mode, owner: owner, device: device)
    }

    /// Puts a whole, durable file on the disk.
    func plant(_ path: String, _ bytes: [UInt8]) {
        inodes.append(Inode(current: bytes, durable: bytes))
        names[path] = inodes.count - 1
        durableNames[path] = inodes.count - 1
    }

    func bytes(of path: String) -> [UInt8]? { names[path].map { inodes[$0].current } }

    /// The same for two disks on which the same can happen next.
    var fingerprint: UInt64 {
        var fingerprint = Fingerprint()
        for (table, edits) in [(names, [:]), (durableNames, names)] {
            for name in table.keys.sorted() {
                fingerprint.mix(name)
                guard let inode = table[name] else { continue }
                fingerprint.mix(inodes[inode].current)
                fingerprint.mix(inodes[inode].durable)
                fingerprint.mix(inodes[inode].pending.count)
                fingerprint.mix(edits[name] == inode)
            }
        }
        return fingerprint.value
    }

    // MARK: What is left

    func afterKill() -> CrashingDisk {
        let next = CrashingDisk()
        next.inodes = inodes
        next.names = names
        next.durableNames = durableNames
        next.pendingNames = pendingNames
        next.directories = directories
        return next
    }

    /// The last write that no synchronize has covered, of the file that was made last.
    var lastPendingWrite: (offset: Int, count: Int)? {
        for inode in inodes.reversed() {
            if case .write(let offset, let bytes)? = inode.pending.last {
                return (offset, bytes.count)
            }
        }
        return nil
    }

    func afterPowerCut(_ survival: Survival) -> CrashingDisk {
        var random = CoinFlips(state: 0)
        if case .some(let seed) = survival { random = CoinFlips(state: seed) }
        func survives() -> Bool {
            switch survival {
            case .none: false
            case .all, .torn, .sectors: true
            case .some: random.next()
            }
        }
        let next = CrashingDisk()
        next.directories = directories
        next.durableNames = durableNames
        for edit in pendingNames where survives() { next.apply(edit, to: &next.durableNames) }
        next.names = next.durableNames
        for inode in inodes {
            var bytes = inode.durable
            for (index, edit) in inode.pending.enumerated() {
                guard case .write(let offset, let data) = edit else {
                    if survives() { CrashingDisk.apply(edit, to: &bytes) }
                    continue
                }
                let isLast = index == inode.pending.count - 1
                let pieces = CrashingDisk.pieces(of: data, at: offset)
                switch survival {
                case .torn(bytes: let count, length: let keepsLength) where isLast:
                    let end = keepsLength ? offset + data.count : offset + min(count, data.count)
                    CrashingDisk.apply(
                        .write(offset: offset, bytes: Array(data.prefix(count))), to: &bytes)
                    CrashingDisk.apply(.write(offset: end, bytes: []), to: &bytes)
                case .sectors(mask: let mask, length: let keepsLength) where isLast:
                    for (number, piece) in pieces.enumerated() where mask >> number & 1 == 1 {
                        CrashingDisk.apply(piece, to: &bytes)
                    }
                    let end = keepsLength ? offset + data.count : 0
                    CrashingDisk.apply(.write(offset: end, bytes: []), to: &bytes)
                case .some:
                    for piece in pieces where survives() { CrashingDisk.apply(piece, to: &bytes) }
                case .none, .all, .torn, .sectors:
                    if survives() { CrashingDisk.apply(edit, to: &bytes) }
                }
            }
            next.inodes.append(Inode(current: bytes, durable: bytes))
        }
        return next
    }

    /// The sectors of the disk that a write touches.
    private static func pieces(of data: [UInt8], at offset: Int) -> [Edit] {
        var pieces: [Edit] = []
        var start = 0
        while start < data.count {
            let end = min(data.count, start + 512 - (offset + start) % 512)
            pieces.append(.write(offset: offset + start, bytes: Array(data[start..<end])))
            start = end
        }
        return pieces
    }

    // MARK: Steps

    private enum Fate { case done, cut, failed }

    private func step() -> Fate {
        defer { steps += 1 }
        if steps == stopAt {
            isOff = true
            return .cut
        }
        return steps == failAt ? .failed : .done
    }

    private func error(_ operation: FileSystemError.Operation, code: Int32 = 5) -> FileSystemError {
        FileSystemError(operation, path: "/s", code: code, reason: "broken")
    }

    private func inode(_ handle: FileHandle) -> Int { open[handle.rawValue] ?? 0 }

    private static func apply(_ edit: Edit, to bytes: inout [UInt8]) {
        switch edit {
        case .truncate(let count):
            if count < bytes.count { bytes.removeLast(bytes.count - count) }
        case .write(let offset, let data):
            let end = offset + data.count
            if bytes.count < end {
                bytes.append(contentsOf: repeatElement(0, count: end - bytes.count))
            }
            bytes.replaceSubrange(offset..<end, with: data)
        }
    }

    private func apply(_ edit: NameEdit, to names: inout [String: Int]) {
        switch edit {
        case .link(let path, let inode): names[path] = inode
        case .unlink(let path): names[path] = nil
        case .rename(let source, let target, let inode):
            if names[source] == inode { names[source] = nil }
            names[target] = inode
        }
    }

    private func change(_ inode: Int, _ edit: Edit) {
        CrashingDisk.apply(edit, to: &inodes[inode].current)
        inodes[inode].pending.append(edit)
    }

    private func change(_ edit: NameEdit) {
        apply(edit, to: &names)
        pendingNames.append(edit)
    }
}

// MARK: - FileSystem

extension CrashingDisk {
    func status(of path: String) throws(FileSystemError) -> FileStatus? {
        guard !isOff else { throw error(.status) }
        if names[path] != nil { return FileStatus(kind: .file, mode: 0o600, owner: 0, device: 1) }
        return directories[path]
    }

    func makeDirectory(_ path: String, mode: UInt32) throws(FileSystemError) {
        guard !isOff, step() == .done else { throw error(.makeDirectory) }
        addDirectory(path, mode: mode)
    }

    func names(in path: String) throws(FileSystemError) -> [String] {
        guard !isOff else { throw error(.list) }
        return names.keys.filter { $0.hasPrefix(path + "/") }
            .map { String($0.dropFirst(path.count + 1)) }.sorted()
    }

    func open(_ path: String, _ access: FileAccess) throws(FileSystemError) -> FileHandle {
        guard !isOff else { throw error(.open) }
        let existing = names[path]
        switch (access, existing) {
        case (.read, nil), (.readWrite, nil): throw error(.open, code: 2)
        case (.read, _?), (.readWrite, _?), (.readWriteCreating, _?): break
        case (.readWriteCreating, nil), (.replacing, _):
            guard step() == .done else { throw error(.open) }
            if let existing {
                change(existing, .truncate(0))
            } else {
                inodes.append(Inode())
                change(.link(path, inodes.count - 1))
            }
        }
        nextHandle += 1
        open[nextHandle] = names[path]
        return FileHandle(rawValue: nextHandle)
    }

    func close(_ handle: FileHandle) {
        locked.remove(inode(handle))
        open[handle.rawValue] = nil
    }

    func size(of handle: FileHandle) throws(FileSystemError) -> Int {
        guard !isOff else { throw error(.status) }
        return inodes[inode(handle)].current.count
    }

    func read(_ handle: FileHandle, at offset: Int, count: Int) throws(FileSystemError) -> [UInt8] {
        guard !isOff else { throw error(.read) }
        var bytes = Array(inodes[inode(handle)].current.dropFirst(offset).prefix(count))
        if let first = misreadsFrom, bytes.count > first {
            for index in first..<bytes.count { bytes[index] ^= 0x5A }
            misreadsFrom = nil
        }
        return bytes
    }

    func write(_ bytes: [UInt8], to handle: FileHandle, at offset: Int) throws(FileSystemError) {
        guard !isOff else { throw error(.write) }
        let number = steps
        switch step() {
        case .done: place(bytes, in: inode(handle), at: offset, step: number)
        case .cut, .failed:
            // An interrupted write has written a part.
            let part = Array(bytes.prefix(bytes.count / 2))
            change(inode(handle), .write(offset: offset, bytes: part))
            throw error(.write, code: 28)
        }
    }

    /// Where the write goes that is this step.
    private func place(_ bytes: [UInt8], in inode: Int, at offset: Int, step: Int) {
        switch lie {
        case .lost(step: step): break
        case .misplaced(step: step, by: let distance):
            let lost = max(0, -(offset + distance))
            change(
                inode,
                .write(offset: max(0, offset + distance), bytes: Array(bytes.dropFirst(lost))))
        case .elsewhere(step: step, path: let path):
            if let other = names[path] { change(other, .write(offset: offset, bytes: bytes)) }
        case .lost, .misplaced, .elsewhere, nil:
            change(inode, .write(offset: offset, bytes: bytes))
        }
    }

    func truncate(_ handle: FileHandle, to count: Int) throws(FileSystemError) {
        guard !isOff, step() == .done else { throw error(.truncate) }
        change(inode(handle), .truncate(count))
    }

    func synchronize(_ handle: FileHandle) throws(FileSystemError) {
        guard !isOff else { throw error(.synchronize) }
        let index = inode(handle)
        switch step() {
        case .done:
            inodes[index].durable = inodes[index].current
            inodes[index].pending = []
        case .cut: throw error(.synchronize)
        case .failed:
            // Linux forgets the dirty pages that it could not write: a later synchronize
            // succeeds without them.
            inodes[index].pending = []
            throw error(.synchronize)
        }
    }

    func rename(_ source: String, to destination: String) throws(FileSystemError) {
        guard !isOff, step() == .done else { throw error(.rename) }
        guard let inode = names[source] else { throw error(.rename, code: 2) }
        change(.rename(source, destination, inode))
    }

    func remove(_ path: String) throws(FileSystemError) {
        guard !isOff, step() == .done else { throw error(.remove) }
        change(.unlink(path))
    }

    func synchronizeDirectory(_ path: String) throws(FileSystemError) {
        guard !isOff, step() == .done else { throw error(.synchronize) }
        for edit in pendingNames where edit.directory == path { apply(edit, to: &durableNames) }
        pendingNames.removeAll { $0.directory == path }
    }

    func tryLock(_ handle: FileHandle) throws(FileSystemError) -> Bool {
        guard !isOff else { throw error(.lock) }
        return locked.insert(inode(handle)).inserted
    }

    func isDurable(at path: String) throws(FileSystemError) -> Bool { durable }
}

/// A cheap source of coin flips (SplitMix64): a test asks for millions.
private struct CoinFlips {
    var state: UInt64

    mutating func next() -> Bool {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return (mixed ^ mixed >> 31) & 1 == 1
    }
}
