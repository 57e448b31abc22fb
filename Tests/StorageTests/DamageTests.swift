import Cryptography
import MeshBase
import Storage
import Testing

private let kind = FileKind(tag: "Test", version: 2)

@Suite("Damaged files")
struct DamageTests {
    private func registerDisk() throws -> CrashingDisk {
        let disk = CrashingDisk()
        let directory = try StateDirectory(location, fileSystem: disk)
        let register = try RegisterFile(
            name: "register", kind: kind, slotSize: 4096, in: directory)
        try register.store([1, 2, 3])
        return disk.afterPowerCut(.none)
    }

    private func openRegister(_ disk: CrashingDisk) throws(StorageError) -> RegisterFile {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try RegisterFile(name: "register", kind: kind, slotSize: 4096, in: directory)
    }

    @Test func aRegisterOutlivesTheLossOfEitherSlot() throws {
        let bytes = try #require(try registerDisk().bytes(of: "/s/register"))
        #expect(bytes.count == 8192)
        for slot in [0, 4096] {
            for offset in 0..<55 {
                let disk = CrashingDisk()
                var damaged = bytes
                damaged[slot + offset] ^= 0x10
                disk.plant("/s/register", damaged)
                let register = try openRegister(disk)
                #expect(register.value == [1, 2, 3], "byte \(offset) of slot at \(slot)")
                #expect(disk.bytes(of: "/s/register") != damaged, "the slot is mended")
            }
        }
    }

    @Test func aRegisterWithoutAWholeSlotIsCorruptAndStaysAsItIs() throws {
        let bytes = try #require(try registerDisk().bytes(of: "/s/register"))
        var both = bytes
        both[30] ^= 1
        both[4096 + 53] ^= 1
        let shorter = (0..<32).map { Array(bytes.prefix(bytes.count * $0 / 32)) }
        for damaged in [both, bytes + [0]] + shorter {
            let disk = CrashingDisk()
            disk.plant("/s/register", damaged)
            let error = #expect(throws: StorageError.self, "\(damaged.count) bytes") {
                try openRegister(disk)
            }
            guard case .corrupt = error else {
                Issue.record("\(damaged.count) bytes: \(String(describing: error))")
                continue
            }
            #expect(disk.bytes(of: "/s/register") == damaged)
        }
    }

    @Test func aMissingRegisterIsFreshAndAStoredEmptyValueIsNot() throws {
        let disk = CrashingDisk()
        let register = try openRegister(disk)
        #expect(register.value == nil)
        try register.store([])
        #expect(try openRegister(disk.afterPowerCut(.none)).value == [])
        #expect(throws: StorageError.self) {
            try register.store([UInt8](repeating: 0, count: register.limit + 1))
        }
        try register.store([UInt8](repeating: 7, count: register.limit))
        #expect(try openRegister(disk.afterPowerCut(.none)).value?.count == register.limit)
    }

    @Test func aLostRegisterIsNotTakenForAFreshOne() throws {
        let disk = CrashingDisk()
        let directory = try StateDirectory(location, fileSystem: disk)
        let open = { () throws(StorageError) in
            try RegisterFile(
                name: "register", kind: kind, slotSize: 4096, mayCreate: false, in: directory)
        }
        let missing = StorageError.corrupt(path: "/s/register", detail: "it is missing")
        #expect(throws: missing) { try open() }
        #expect(disk.bytes(of: "/s/register") == nil)
        _ = try RegisterFile(name: "register", kind: kind, slotSize: 4096, in: directory)
        _ = try open()
    }

    @Test func aNewerReleasesFileIsRefusedByName() throws {
        let disk = CrashingDisk()
        let newer = FileKind(tag: "Test", version: 3)
        let directory = try StateDirectory(location, fileSystem: disk)
        try AtomicFile(name: "peers", kind: newer, limit: 100, in: directory).store([1])
        let older = AtomicFile(name: "peers", kind: kind, limit: 100, in: directory)
        #expect(throws: StorageError.newerVersion(path: "/s/peers", found: 3, known: 2)) {
            try older.load()
        }
        let predecessor = FileKind(tag: "Test", version: 1)
        try AtomicFile(name: "old", kind: predecessor, limit: 100, in: directory).store([9])
        let loaded = try AtomicFile(name: "old", kind: kind, limit: 100, in: directory).load()
        #expect(loaded?.payload == [9])
        #expect(loaded?.version == 1)
    }

    @Test func everyDamageToAnIdentityIsRefusedAndChangesNothing() throws {
        let whole = CrashingDisk()
        let secrets = IdentitySecrets(
            signingSeed: SecretBytes(Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)),
            tunnelSecret: SecretBytes(Bytes32(word0: 5, word1: 6, word2: 7, word3: 8)))
        try IdentityFile.create(
            secrets, in: try StateDirectory(location, fileSystem: whole))
        let bytes = try #require(whole.bytes(of: "/s/identity"))
        var variants = (0..<bytes.count).map { Array(bytes.prefix($0)) } + [bytes + [0]]
        for offset in bytes.indices {
            var flipped = bytes
            flipped[offset] ^= 0x40
            variants.append(flipped)
        }
        for damaged in variants {
            let disk = CrashingDisk()
            disk.plant("/s/identity", damaged)
            let directory = try StateDirectory(location, fileSystem: disk)
            let error = #expect(throws: StorageError.self) {
                try IdentityFile.load(in: directory)
            }
            #expect(error?.description.contains("/s/identity is damaged") == true)
            #expect(throws: StorageError.alreadyExists(path: "/s/identity")) {
                try IdentityFile.create(secrets, in: directory)
            }
            #expect(disk.bytes(of: "/s/identity") == damaged)
        }
    }

    @Test func aLedgerKeepsTheRecordsBeforeTheDamage() throws {
        let disk = CrashingDisk()
        let directory = try StateDirectory(location, fileSystem: disk)
        let ledger = try LedgerFile.open(name: "ledger", kind: kind, in: directory).file
        let records: [[UInt8]] = [[1], [2, 2], [3, 3, 3]]
        try ledger.append(records)
        let bytes = try #require(disk.bytes(of: "/s/ledger"))
        #expect(ledger.size == bytes.count)
        // Header 24, then 12 + length for each record.
        let starts = [24, 37, 51, 66]
        for offset in 24..<bytes.count {
            var damaged = bytes
            damaged[offset] ^= 0x80
            let disk = CrashingDisk()
            disk.plant("/s/ledger", damaged)
            let directory = try StateDirectory(location, fileSystem: disk)
            let recovery = try LedgerFile.open(name: "ledger", kind: kind, in: directory).recovery
            let whole = starts.lastIndex { $0 <= offset } ?? 0
            #expect(recovery.records == Array(records.prefix(whole)), "byte \(offset)")
            #expect(disk.bytes(of: "/s/ledger")?.count == starts[whole])
            #expect(recovery.truncatedBytes == bytes.count - starts[whole])
        }
        for offset in 0..<24 {
            var damaged = bytes
            damaged[offset] ^= 0x80
            let disk = CrashingDisk()
            disk.plant("/s/ledger", damaged)
            let directory = try StateDirectory(location, fileSystem: disk)
            #expect(throws: StorageError.self, "header byte \(offset)") {
                try LedgerFile.open(name: "ledger", kind: kind, in: directory)
            }
            #expect(disk.bytes(of: "/s/ledger") == damaged)
        }
    }

    @Test func aLedgerHasABound() throws {
        let disk = CrashingDisk()
        let directory = try StateDirectory(location, fileSystem: disk)
        let ledger = try LedgerFile.open(name: "ledger", kind: kind, in: directory).file
        let record = [UInt8](repeating: 1, count: LedgerFile.recordLimit)
        #expect(throws: StorageError.self) { try ledger.append([record + [1]]) }
        #expect(throws: StorageError.self) { try ledger.append([[]]) }
        var count = 0
        while (try? ledger.append([record])) != nil { count += 1 }
        #expect(count == (LedgerFile.sizeLimit - 24) / (LedgerFile.recordLimit + 12))
        try ledger.compact([[1]])
        try ledger.append([[2]])
    }
}
