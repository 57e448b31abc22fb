import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress
import Synchronization
import Testing

/// The directory that holds this test executable and the probe.
let buildDirectory: String = {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { bytes in
        let target = bytes.assumingMemoryBound(to: CChar.self)
        return target.baseAddress.map { readlink("/proc/self/exe", $0, target.count) } ?? 0
    }
    let path = String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return String(path[..<slash])
}()

let probeProgram = buildDirectory + "/ClusterHostProbe"

/// An address on loopback that no other test process uses: 127.A.B.host from the process id.
func testAddress(_ host: Int) -> IPAddress {
    let process = UInt32(getpid())
    let first = 64 + process % 128
    let second = (process / 128) % 256
    return .v4(127 << 24 | first << 16 | second << 8 | UInt32(host))
}

/// A directory that goes when the test ends.
final class ScratchDirectory {
    let path: String

    init() {
        var template = Array("/tmp/cluster-host-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { preconditionFailure("mkdtemp failed") }
        path = text(template)
    }

    deinit { run(["/bin/rm", "-rf", path]) }
}

func write(_ path: String, _ text: String) {
    guard let file = fopen(path, "w") else { return }
    fputs(text, file)
    fclose(file)
}

/// Runs a program and returns its exit code and what it printed.
@discardableResult
func run(_ arguments: [String]) -> (status: Int32, output: String) {
    let words = arguments.map { "'" + $0 + "'" }.joined(separator: " ")
    guard let pipe = popen(words + " 2>&1", "r") else { return (-1, "popen failed") }
    var text = [UInt8]()
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, pipe), count > 0 {
        text += buffer.prefix(count)
    }
    let status = pclose(pipe)
    return (status >> 8, String(decoding: text, as: UTF8.self))
}

func bootTime() -> BootInstant {
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    return BootInstant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
}

/// Waits for a condition; the limit only ends a test that has already failed.
func eventually(within seconds: Int = 90, _ condition: () -> Bool) -> Bool {
    let end = bootTime() + .seconds(seconds)
    while bootTime() < end {
        if condition() { return true }
        usleep(50_000)
    }
    return condition()
}

func isAlive(_ process: pid_t) -> Bool {
    guard let file = fopen("/proc/\(process)/stat", "r") else { return false }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 512)
    guard fgets(&buffer, 512, file) != nil else { return false }
    let line = text(buffer)
    guard let end = line.lastIndex(of: ")") else { return false }
    return !line[line.index(end, offsetBy: 2)...].hasPrefix("Z")
}

/// The text before the terminating zero.
private func text(_ buffer: [CChar]) -> String {
    String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// The etcd process whose configuration file lies in `directory`.
func etcdProcess(in directory: String) -> pid_t? {
    let found = run(["/usr/bin/pgrep", "-f", "^/usr/bin/etcd --config-file \(directory)/"])
    return found.output.split(separator: "\n").first.flatMap { pid_t($0) }
}

/// The permission bits of a file.
func mode(of path: String) -> UInt32 {
    var facts = stat()
    guard stat(path, &facts) == 0 else { return .max }
    return facts.st_mode & 0o777
}

/// Reports of one executor, waited for by the test.
final class ReportBox: Sendable {
    private let reports = Mutex<[HostReport]>([])

    func put(_ report: HostReport) { reports.withLock { $0.append(report) } }

    func takeAll() -> [HostReport] {
        reports.withLock { list in
            defer { list = [] }
            return list
        }
    }

    /// The next report, or `nil` when none comes.
    func next(within seconds: Int = 90) -> HostReport? {
        var found: HostReport?
        _ = eventually(within: seconds) {
            found = reports.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            return found != nil
        }
        return found
    }
}

func settings(_ directory: String, key: UInt64) -> ClusterExecutor.Settings {
    ClusterExecutor.Settings(
        directory: directory, privateKey: testKey(key), clusterToken: "test",
        supervisor: [probeProgram, supervisorArgument])
}

func testKey(_ number: UInt64) -> StaticPrivateKey {
    StaticPrivateKey(SecretBytes(Bytes32(word0: number, word1: 1, word2: 2, word3: 3)))
}

func testNode(_ number: UInt64) -> NodeID {
    NodeID(Bytes32(word0: number << 56 | 0xABCD, word1: 0, word2: 0, word3: number))
}
