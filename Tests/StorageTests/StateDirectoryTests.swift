import Cryptography
import Glibc
import MeshBase
import Storage
import Testing

@Suite("Where the state is and who reaches it")
struct StateDirectoryTests {
    private func find(_ disk: CrashingDisk, chosen: String? = nil) throws -> StateLocation {
        try StateLocation.find(chosen: chosen, fileSystem: disk)
    }

    @Test func theDirectoryIsTheFirstOfChoiceMarkerMountAndUsualPlace() throws {
        let plain = CrashingDisk()
        plain.addDirectory("/usr")
        plain.addDirectory("/usr/local")
        #expect(try find(plain) == StateLocation(path: "/var/lib/edgevpn"))
        #expect(try find(plain, chosen: "/data/mesh/") == StateLocation(path: "/data/mesh"))

        let mounted = CrashingDisk()
        mounted.addDirectory("/usr")
        mounted.addDirectory("/usr/local", device: 2)
        #expect(try find(mounted) == StateLocation(path: "/usr/local/.edgevpn"))

        for marker in StateLocation.markers {
            let enrolled = CrashingDisk()
            enrolled.plant(marker, [])
            let expected = StateLocation(path: "/usr/local/.edgevpn", marker: marker)
            #expect(try find(enrolled) == expected)
            enrolled.plant(marker, Array("/data/edgevpn/\nmore\n".utf8))
            #expect(try find(enrolled) == StateLocation(path: "/data/edgevpn", marker: marker))
            #expect(try find(enrolled, chosen: "/elsewhere") == StateLocation(path: "/elsewhere"))
            let guarded = StateLocation(path: "/data/edgevpn", marker: marker)
            #expect(try find(enrolled, chosen: "/data/edgevpn") == guarded)
        }
    }

    @Test func aPromisedDirectoryIsWaitedForAndNeverMade() throws {
        let disk = CrashingDisk()
        disk.plant("/etc/edgevpn/enrolled", [])
        let location = try find(disk)
        let missing = StorageError.notMountedYet(
            path: "/usr/local/.edgevpn", marker: "/etc/edgevpn/enrolled")
        for _ in 0..<3 {
            #expect(throws: missing) { try StateDirectory(location, fileSystem: disk) }
        }
        #expect(disk.steps == 0, "waiting changes nothing on the disk")
        disk.addDirectory("/usr/local/.edgevpn", mode: 0o700)
        _ = try StateDirectory(location, fileSystem: disk)
    }

    @Test func aDirectoryThatOthersReachIsRefused() throws {
        for mode: UInt32 in [0o701, 0o710, 0o750, 0o755, 0o777] {
            let disk = CrashingDisk()
            disk.addDirectory("/s", mode: mode)
            let refusal = StorageError.tooOpen(path: "/s", mode: mode, wanted: 0o700)
            #expect(throws: refusal) {
                try StateDirectory(StateLocation(path: "/s"), fileSystem: disk)
            }
            #expect(refusal.fix == "chmod 0700 /s")
            #expect(disk.steps == 0)
        }
        let foreign = CrashingDisk()
        foreign.addDirectory("/s", mode: 0o700, owner: 1000)
        #expect(throws: StorageError.foreignOwner(path: "/s", owner: 1000, expected: 0)) {
            try StateDirectory(StateLocation(path: "/s"), fileSystem: foreign)
        }
        let file = CrashingDisk()
        file.plant("/f", [])
        #expect(throws: StorageError.notADirectory(path: "/f")) {
            try StateDirectory(StateLocation(path: "/f"), fileSystem: file)
        }
    }

    @Test func memoryIsNotDurable() throws {
        let disk = CrashingDisk()
        disk.durable = false
        let directory = try StateDirectory(StateLocation(path: "/s"), fileSystem: disk)
        #expect(!directory.isDurable)
        let system = LinuxFileSystem()
        #expect(try !system.isDurable(at: "/dev/shm"))
    }

    @Test func leftoversOfAnInterruptedWriteGo() throws {
        let disk = CrashingDisk()
        disk.plant("/s/peers.tmp", [1, 2, 3])
        disk.plant("/s/peers", [4])
        _ = try StateDirectory(StateLocation(path: "/s"), fileSystem: disk)
        #expect(disk.bytes(of: "/s/peers.tmp") == nil)
        #expect(disk.bytes(of: "/s/peers") == [4])
    }
}

@Suite("The machine's own files")
struct LinuxFileSystemTests {
    /// A new directory under /tmp, removed with everything in it when `body` returns.
    private func inTemporaryDirectory(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/edgevpn-storage-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) } != nil
        }
        try #require(made)
        let path = String(decoding: template.dropLast().map { UInt8($0) }, as: UTF8.self)
        defer { removeAll(path) }
        try body(path)
    }

    private func removeAll(_ path: String) {
        let system = LinuxFileSystem()
        for name in (try? system.names(in: path)) ?? [] {
            let inner = "\(path)/\(name)"
            if (try? system.status(of: inner))?.kind == .directory {
                removeAll(inner)
            } else {
                try? system.remove(inner)
            }
        }
        rmdir(path)
    }

    /// Files of /proc have no length of their own, and this one takes more than a page.
    @Test func aFileThatDoesNotKnowItsLengthIsReadWhole() throws {
        let system = LinuxFileSystem()
        let path = "/proc/kallsyms"
        let handle = try system.open(path, .read)
        defer { system.close(handle) }
        #expect(try system.size(of: handle) == 0)
        let some = try system.read(handle, at: 0, count: 100_000)
        #expect(some.count == 100_000)
        #expect(try system.read(handle, at: 0, count: 5_000) == Array(some[..<5_000]))
    }

    @Test func aSecondProcessLearnsWhoHoldsTheDirectory() throws {
        try inTemporaryDirectory { root in
            let location = StateLocation(path: "\(root)/a/b/state")
            var first: StateDirectory? = try StateDirectory(location)
            let refusal = StorageError.locked(path: location.path, holder: Int(getpid()))
            #expect(throws: refusal) { try StateDirectory(location) }
            #expect(refusal.description.contains("process \(getpid()) already uses"))
            #expect(first != nil)
            first = nil
            _ = try StateDirectory(location)
        }
    }

    @Test func everythingIsForTheOwnerOnly() throws {
        try inTemporaryDirectory { root in
            let location = StateLocation(path: "\(root)/state")
            let directory = try StateDirectory(location)
            let secrets = IdentitySecrets(
                signingSeed: SecretBytes(.zero), tunnelSecret: SecretBytes(.zero))
            try IdentityFile.create(secrets, in: directory)
            let kind = FileKind(tag: "Test", version: 1)
            let ledger = try LedgerFile.open(name: "ledger", kind: kind, in: directory).file
            try ledger.append([[1, 2, 3]])
            let register = try RegisterFile(name: "register", kind: kind, in: directory)
            try register.store([4, 5])

            let system = LinuxFileSystem()
            #expect(try system.status(of: location.path)?.mode == 0o700)
            let names = try system.names(in: location.path)
            #expect(names == ["identity", "ledger", "lock", "register"])
            for name in names {
                #expect(try system.status(of: directory.path(of: name))?.mode == 0o600, "\(name)")
            }
            let found = try IdentityFile.load(in: directory)
            #expect(found?.signingSeed.exposedCopy() == Bytes32.zero.bytes)
            #expect(try RegisterFile(name: "register", kind: kind, in: directory).value == [4, 5])
            let recovery = try LedgerFile.open(name: "ledger", kind: kind, in: directory).recovery
            #expect(recovery.records == [[1, 2, 3]])

            chmod(directory.path(of: "identity"), 0o640)
            let refusal = StorageError.tooOpen(
                path: directory.path(of: "identity"), mode: 0o640, wanted: 0o600)
            #expect(throws: refusal) { try IdentityFile.load(in: directory) }
        }
    }

    @Test func aSymbolicLinkIsNotFollowed() throws {
        try inTemporaryDirectory { root in
            let target = "\(root)/target"
            try #require(symlink(target, "\(root)/peers") == 0)
            let system = LinuxFileSystem()
            let error = #expect(throws: FileSystemError.self) {
                try system.open("\(root)/peers", .replacing)
            }
            #expect(error?.code == ELOOP)
            #expect(error?.description.contains("\(root)/peers") == true)
            #expect(try system.status(of: target) == nil)
        }
    }
}
