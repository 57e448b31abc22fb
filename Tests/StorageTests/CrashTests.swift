import Cryptography
import MeshBase
import Storage
import Testing

let location = StateLocation(path: "/s")
let survivals: [CrashingDisk.Survival] =
    [.none, .all] + (1...12).map { .some(seed: $0) }

/// One try: the power goes in the middle of one step of `work`, or that step fails, and
/// `examine` looks at each disk that the next start may find.
func everyCrash(
    of work: (CrashingDisk) -> Void, from start: () -> CrashingDisk = CrashingDisk.init,
    survivals: [CrashingDisk.Survival] = survivals,
    examine: (CrashingDisk, String) throws -> Void
) rethrows {
    let whole = start()
    work(whole)
    for stop in 0...whole.steps {
        let cut = start()
        cut.stopAt = stop
        work(cut)
        for survival in survivals {
            try examine(cut.afterPowerCut(survival), "power cut at step \(stop), \(survival)")
        }
        try examine(cut.afterKill(), "killed at step \(stop)")

        let broken = start()
        broken.failAt = stop
        work(broken)
        for survival in survivals {
            try examine(broken.afterPowerCut(survival), "step \(stop) failed, \(survival)")
        }
        try examine(broken.afterKill(), "step \(stop) failed, killed")
    }
}

private func value(_ number: Int) -> [UInt8] {
    // More than one sector, so that a write can tear.
    [UInt8](repeating: UInt8(number), count: 1500 + number)
}

@Suite("A crash at every step")
struct CrashTests {
    static let registerKind = FileKind(tag: "Test", version: 1)

    private static func openRegister(_ disk: CrashingDisk) throws(StorageError) -> RegisterFile {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try RegisterFile(
            name: "register", kind: registerKind, slotSize: 4096, in: directory)
    }

    /// The number of the value that a register holds, 0 for none.
    private static func number(in register: RegisterFile) -> Int {
        register.value.map { Int($0[0]) } ?? 0
    }

    /// What happened to a register in one run, kept apart from the disk.
    private final class Log {
        var attempted = 0
        var acknowledged = 0
        func note(_ seen: Int) { acknowledged = max(acknowledged, seen) }
    }

    private static func storeThree(_ disk: CrashingDisk, _ log: Log) {
        guard let register = try? openRegister(disk) else { return }
        log.note(number(in: register))
        let first = number(in: register) + 1
        for next in first..<first + 3 {
            log.attempted = next
            guard (try? register.store(value(next))) != nil else { return }
            log.acknowledged = next
        }
    }

    @Test func aRegisterNeverForgetsWhatItAcknowledged() throws {
        var log = Log()
        try everyCrash(
            of: { disk in
                log = Log()
                Self.storeThree(disk, log)
            },
            examine: { disk, story in
                let register = try Self.openRegister(disk)
                let seen = Self.number(in: register)
                #expect(seen >= log.acknowledged && seen <= log.attempted, "\(story)")
                if seen > 0 { #expect(register.value == value(seen), "\(story)") }
            })
    }

    /// The start after a crash crashes as well, after the application may have acted on what it
    /// read: what an opened register said once it says for ever.
    @Test func aRegisterSurvivesACrashOfItsRecovery() throws {
        var disks: [(CrashingDisk, Int, String)] = []
        var known: Set<[UInt64]> = []
        var log = Log()
        everyCrash(
            of: { disk in
                log = Log()
                Self.storeThree(disk, log)
            },
            examine: { disk, story in
                guard known.insert([disk.fingerprint, UInt64(log.acknowledged)]).inserted else {
                    return
                }
                disks.append((disk, log.acknowledged, story))
            })
        for (disk, acknowledged, first) in disks {
            let second = Log()
            try everyCrash(
                of: { disk in
                    second.acknowledged = acknowledged
                    if let register = try? Self.openRegister(disk) {
                        second.note(Self.number(in: register))
                    }
                },
                from: { disk.afterKill() },
                survivals: [.none, .all, .some(seed: 1), .some(seed: 2)],
                examine: { disk, story in
                    let seen = Self.number(in: try Self.openRegister(disk))
                    #expect(seen >= second.acknowledged, "\(first), then \(story)")
                })
        }
    }

    @Test func aRegisterThatFailedRefusesUntilItIsReopened() throws {
        let disk = CrashingDisk()
        let register = try Self.openRegister(disk)
        try register.store(value(1))
        disk.failAt = disk.steps + 1
        #expect(throws: StorageError.self) { try register.store(value(2)) }
        #expect(throws: StorageError.failedEarlier(path: "/s/register")) {
            try register.store(value(3))
        }
        #expect(register.value == value(1))
    }

    // MARK: Ledger

    private static func openLedger(_ disk: CrashingDisk)
        throws(StorageError) -> (file: LedgerFile, recovery: LedgerFile.Recovery)
    {
        let directory = try StateDirectory(location, fileSystem: disk)
        return try LedgerFile.open(name: "ledger", kind: registerKind, in: directory)
    }

    @Test func aLedgerHoldsAPrefixWithEverythingAcknowledged() throws {
        let all = (1...9).map(value)
        var acknowledged = 0
        try everyCrash(
            of: { disk in
                acknowledged = 0
                guard let (ledger, _) = try? Self.openLedger(disk) else { return }
                for start in stride(from: 0, to: 9, by: 3) {
                    let batch = Array(all[start..<start + 3])
                    guard (try? ledger.append(batch)) != nil else { return }
                    acknowledged = start + 3
                }
            },
            examine: { disk, story in
                let (ledger, recovery) = try Self.openLedger(disk)
                let count = recovery.records.count
                #expect(count >= acknowledged, "\(story)")
                #expect(recovery.records == Array(all.prefix(count)), "\(story)")
                // What was read once is acted on, so it stays.
                let reread = try Self.openLedger(disk.afterPowerCut(.none)).recovery
                #expect(reread.records == recovery.records, "\(story)")
                try ledger.append([value(100)])
                let again = try Self.openLedger(disk.afterPowerCut(.none)).recovery
                #expect(again.records == recovery.records + [value(100)], "\(story)")
                #expect(again.truncatedBytes == 0)
            })
    }

    @Test func aCompactionLeavesTheOldRecordsOrTheNewOnes() throws {
        let old = (1...4).map(value)
        let new = [value(8), value(9)]
        var isDone = false
        try everyCrash(
            of: { disk in
                isDone = false
                guard let (ledger, _) = try? Self.openLedger(disk) else { return }
                guard (try? ledger.compact(new)) != nil else { return }
                isDone = true
            },
            from: {
                let disk = CrashingDisk()
                try? Self.openLedger(disk).file.append(old)
                return disk.afterPowerCut(.none)
            },
            examine: { disk, story in
                let found = try Self.openLedger(disk).recovery.records
                #expect(found == new || (found == old && !isDone), "\(story)")
            })
    }

    @Test func aCompactionMendsALedgerWhoseAppendFailed() throws {
        let disk = CrashingDisk()
        let (ledger, _) = try Self.openLedger(disk)
        try ledger.append([value(1)])
        disk.failAt = disk.steps + 1
        #expect(throws: StorageError.self) { try ledger.append([value(2)]) }
        #expect(throws: StorageError.failedEarlier(path: "/s/ledger")) {
            try ledger.append([value(3)])
        }
        try ledger.compact([value(1), value(4)])
        try ledger.append([value(5)])
        let found = try Self.openLedger(disk.afterPowerCut(.none)).recovery.records
        #expect(found == [value(1), value(4), value(5)])
    }

    // MARK: Whole files

    @Test func anAtomicFileHoldsTheOldValueOrTheNewOne() throws {
        func file(_ disk: CrashingDisk) throws(StorageError) -> AtomicFile {
            let directory = try StateDirectory(location, fileSystem: disk)
            return AtomicFile(
                name: "peers", kind: Self.registerKind, limit: 10_000, in: directory)
        }
        var acknowledged = 0
        var attempted = 0
        try everyCrash(
            of: { disk in
                (acknowledged, attempted) = (0, 0)
                guard let file = try? file(disk) else { return }
                for next in 1...3 {
                    attempted = next
                    guard (try? file.store(value(next))) != nil else { return }
                    acknowledged = next
                }
            },
            examine: { disk, story in
                let found = try file(disk).load().map { Int($0.payload[0]) } ?? 0
                #expect(found >= acknowledged && found <= attempted, "\(story)")
            })
    }

    @Test func anIdentityIsThereWholeOrNotAtAll() throws {
        let seed = Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)
        let tunnel = Bytes32(word0: 5, word1: 6, word2: 7, word3: 8)
        var isMade = false
        try everyCrash(
            of: { disk in
                isMade = false
                guard let directory = try? StateDirectory(location, fileSystem: disk) else {
                    return
                }
                let secrets = IdentitySecrets(
                    signingSeed: SecretBytes(seed), tunnelSecret: SecretBytes(tunnel))
                isMade = (try? IdentityFile.create(secrets, in: directory)) != nil
            },
            examine: { disk, story in
                let directory = try StateDirectory(location, fileSystem: disk)
                let found = try IdentityFile.load(in: directory)
                #expect(found != nil || !isMade, "\(story)")
                if let found {
                    #expect(found.signingSeed.exposedCopy() == seed.bytes, "\(story)")
                    #expect(found.tunnelSecret.exposedCopy() == tunnel.bytes, "\(story)")
                    // A machine that has shown its identity keeps it.
                    let next = try StateDirectory(
                        location, fileSystem: disk.afterPowerCut(.none))
                    #expect(try IdentityFile.load(in: next) != nil, "\(story)")
                }
            })
    }
}
