import Storage
import Testing

private let kind = FileKind(tag: "Test", version: 1)

/// More than one sector; every byte says whose it is.
private func value(_ number: Int) -> [UInt8] {
    [UInt8](repeating: UInt8(number), count: 1500 + number)
}

/// The power goes while one write is under way, and of that write any beginning or any choice of
/// sectors is on the disk, each with the file's old or new length. All of them are tried.
@Suite("Every way to tear a write")
struct TornWriteTests {
    /// The disks that one interrupted write can leave.
    static func tears(of disk: CrashingDisk) -> [CrashingDisk.Survival] {
        guard let (offset, count) = disk.lastPendingWrite else { return [] }
        let sectors = (offset + count - 1) / 512 - offset / 512 + 1
        return [true, false].flatMap { length in
            (0...count).map { .torn(bytes: $0, length: length) }
                + (0..<UInt(1) << sectors).map { .sectors(mask: $0, length: length) }
        }
    }

    /// Calls `examine` for every disk that `work` leaves when the power goes behind one of its writes.
    static func everyTear(
        of work: (CrashingDisk) -> Void, from start: () -> CrashingDisk,
        examine: (CrashingDisk, String) throws -> Void
    ) rethrows {
        let whole = start()
        work(whole)
        for stop in 0...whole.steps {
            let cut = start()
            // The step behind a write is its synchronize: nothing of it is durable yet.
            cut.stopAt = stop
            work(cut)
            for survival in tears(of: cut) {
                try examine(cut.afterPowerCut(survival), "step \(stop), \(survival)")
            }
        }
    }

    private static func openRegister(_ disk: CrashingDisk) throws(StorageError) -> RegisterFile {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try RegisterFile(name: "register", kind: kind, slotSize: 4096, in: directory)
    }

    @Test func aRegisterHoldsTheOldValueOrTheNewOne() throws {
        let known = CrashingDisk()
        try Self.openRegister(known).store(value(1))
        var disks = 0
        var acknowledged = 1
        try Self.everyTear(
            of: { disk in
                acknowledged = 1
                guard let register = try? Self.openRegister(disk) else { return }
                if (try? register.store(value(2))) != nil { acknowledged = 2 }
            },
            from: { known.afterPowerCut(.none) },
            examine: { disk, story in
                disks += 1
                let register = try Self.openRegister(disk)
                let seen = register.value.map { Int($0[0]) } ?? 0
                #expect(seen >= acknowledged && register.value == value(seen), "\(story)")
                // What was read once is what the next start reads.
                guard disks % 16 == 0 else { return }
                let again = try Self.openRegister(disk.afterPowerCut(.none))
                #expect(again.value == value(seen), "\(story)")
            })
        print("\(disks) torn registers")
        #expect(disks > 4 * 2 * (4096 + 256))
    }

    private static func openLedger(_ disk: CrashingDisk)
        throws(StorageError) -> (file: LedgerFile, recovery: LedgerFile.Recovery)
    {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try LedgerFile.open(name: "ledger", kind: kind, in: directory)
    }

    /// Records that follow each other in one write, at an offset that is no sector's beginning.
    @Test func aLedgerHoldsABeginningOfWhatWasAppended() throws {
        let known = CrashingDisk()
        let old = [value(1)]
        try Self.openLedger(known).file.append(old)
        let new = [[UInt8](repeating: 2, count: 700), [3], value(4)]
        var disks = 0
        var isDone = false
        try Self.everyTear(
            of: { disk in
                isDone = false
                guard let (ledger, _) = try? Self.openLedger(disk) else { return }
                isDone = (try? ledger.append(new)) != nil
            },
            from: { known.afterPowerCut(.none) },
            examine: { disk, story in
                disks += 1
                let (ledger, recovery) = try Self.openLedger(disk)
                let count = recovery.records.count
                #expect(count >= (isDone ? 4 : 1), "\(story)")
                #expect(recovery.records == Array((old + new).prefix(count)), "\(story)")
                guard disks % 16 == 0 else { return }
                try ledger.append([[9]])
                let again = try Self.openLedger(disk.afterPowerCut(.none)).recovery
                #expect(again.records == recovery.records + [[9]], "\(story)")
            })
        print("\(disks) torn ledgers")
        #expect(disks > 4000)
    }
}

/// A disk that lies about one operation: recovered or refused, and never an older value or
/// somebody else's bytes for an answer.
@Suite("A disk that lies once")
struct LyingDiskTests {
    private static func openRegister(_ disk: CrashingDisk) throws(StorageError) -> RegisterFile {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try RegisterFile(name: "register", kind: kind, slotSize: 4096, in: directory)
    }

    /// A register that holds value 1, beside a ledger.
    private static func start() throws -> CrashingDisk {
        let disk = CrashingDisk()
        let directory = try StateDirectory(location, fileSystem: disk)
        let register = try RegisterFile(name: "register", kind: kind, slotSize: 4096, in: directory)
        try register.store(value(1))
        let ledger = try LedgerFile.open(name: "ledger", kind: kind, in: directory).file
        try ledger.append([value(7), value(8)])
        return disk.afterPowerCut(.none)
    }

    /// Stores two more values; which one was acknowledged last.
    private static func storeTwo(_ disk: CrashingDisk) -> Int {
        guard let register = try? openRegister(disk) else { return 1 }
        for next in [2, 3] {
            guard (try? register.store(value(next))) != nil else { return next - 1 }
        }
        return 3
    }

    private enum Found: Equatable { case value(Int), refused }

    private static func found(_ disk: CrashingDisk) throws -> Found {
        do throws(StorageError) {
            let register = try openRegister(disk)
            let seen = register.value.map { Int($0[0]) } ?? 0
            #expect(register.value == value(seen))
            return .value(seen)
        } catch {
            guard case .corrupt = error else { throw error }
            return .refused
        }
    }

    private static func steps() throws -> Range<Int> {
        let disk = try start()
        _ = storeTwo(disk)
        return 0..<disk.steps
    }

    @Test func aRegisterSurvivesOneWriteThatNeverHappened() throws {
        for step in try Self.steps() {
            let disk = try Self.start()
            disk.lie = .lost(step: step)
            let acknowledged = Self.storeTwo(disk)
            #expect(acknowledged == 3)
            #expect(try Self.found(disk.afterPowerCut(.none)) == .value(3), "step \(step)")
        }
    }

    @Test func aWriteInTheWrongPlaceIsRepairedOrRefused() throws {
        var refused = 0
        let distances = [-8192, -4096, -1024, -512, -1, 1, 512, 1024, 4096, 8192]
        for step in try Self.steps() {
            for distance in distances {
                let disk = try Self.start()
                disk.lie = .misplaced(step: step, by: distance)
                _ = Self.storeTwo(disk)
                let found = try Self.found(disk.afterPowerCut(.none))
                #expect([.value(3), .refused].contains(found), "step \(step) by \(distance)")
                if found == .refused { refused += 1 }
            }
        }
        // Refusals are the exception: a whole twin is left unless both are hit.
        let tries = try Self.steps().count * distances.count
        print("\(refused) of \(tries) refused")
        #expect(refused < tries / 4)
    }

    @Test func aWriteInTheWrongFileIsRepairedOrRefused() throws {
        for step in try Self.steps() {
            let disk = try Self.start()
            disk.lie = .elsewhere(step: step, path: "/s/ledger")
            #expect(Self.storeTwo(disk) == 3)
            let after = disk.afterPowerCut(.none)
            #expect(try Self.found(after) == .value(3), "step \(step)")
            // The ledger lost what was overwritten, and takes nothing else for a record of its own.
            try Self.expectOwnRecordsOrRefusal(in: after.afterKill())
        }
        // A record of the ledger lands in the register.
        let disk = try Self.start()
        let directory = try StateDirectory(location, fileSystem: disk)
        let ledger = try LedgerFile.open(name: "ledger", kind: kind, in: directory).file
        disk.lie = .elsewhere(step: disk.steps, path: "/s/register")
        try ledger.append([value(9)])
        #expect(try Self.found(disk.afterPowerCut(.none)) == .value(1))
    }

    /// Whatever is read wrongly, from whichever byte on: what was acknowledged, or a refusal, also
    /// at the next start.
    @Test func aReadThatGivesWrongBytesIsNoticed() throws {
        for first in stride(from: 0, to: 8192, by: 7) {
            let disk = try Self.start()
            // The first read of the register is that of its slots.
            disk.misreadsFrom = first
            let found = try Self.found(disk)
            #expect([.value(1), .refused].contains(found), "byte \(first)")
            #expect(try Self.found(disk.afterPowerCut(.none)) == .value(1), "byte \(first)")
        }
        let whole = try #require(try Self.start().bytes(of: "/s/ledger"))
        for first in 0..<whole.count {
            let disk = try Self.start()
            disk.misreadsFrom = first
            try Self.expectOwnRecordsOrRefusal(in: disk)
        }
    }

    /// The ledger's first records as they were written, or a refusal.
    private static func expectOwnRecordsOrRefusal(in disk: CrashingDisk) throws {
        let directory = try StateDirectory(location, fileSystem: disk)
        do throws(StorageError) {
            let records = try LedgerFile.open(name: "ledger", kind: kind, in: directory)
                .recovery.records
            #expect(records == Array([value(7), value(8)].prefix(records.count)))
        } catch {
            guard case .corrupt = error else { throw error }
        }
    }
}
