import Glibc
import Synchronization

/// Numbers the labs of this process, and clears away those of dead ones before the first.
enum LabNumbers {
    private static let counter = Atomic<Int>(0)
    private static let sweep: Void = Lab.removeStale()

    static func next() -> Int {
        _ = sweep
        return counter.add(1, ordering: .relaxed).newValue
    }
}

extension Lab {
    /// Ends what runs in the lab's namespaces and removes them.
    func remove() async {
        Lab.removeNamespaces { Lab.owner(of: $0)?.lab == Lab.owner(of: path)?.lab }
        Lab.removeDirectory(directory)
    }

    private var path: String { String(directory.dropFirst("/tmp/".count)) }

    /// Removes the labs of processes that no longer run.
    static func removeStale() {
        let isStale = { (name: String) in
            guard let owner = owner(of: name) else { return false }
            return startTime(of: owner.process) != owner.start
        }
        removeNamespaces(where: isStale)
        for name in names(in: "/tmp") where isStale(name) { removeDirectory("/tmp/\(name)") }
        for name in names(in: wireguardDirectory) where isStaleSocket(name) {
            unlink("\(wireguardDirectory)/\(name)")
        }
    }

    /// Where wireguard-go puts its control sockets; no namespace holds them.
    static let wireguardDirectory = "/var/run/wireguard"

    /// Reads the interface name that ``unique(_:)`` made: `evlPIDxNUMBER.sock`.
    private static func isStaleSocket(_ name: String) -> Bool {
        guard name.hasPrefix("ev"), name.hasSuffix(".sock") else { return false }
        let parts = name.dropFirst(3).dropLast(5).split(separator: "x")
        guard parts.count == 2, let process = Int32(parts[0]), Int(parts[1]) != nil else {
            return false
        }
        return startTime(of: process) == nil
    }

    private struct Owner {
        var process: Int32
        var start: UInt64
        /// Everything up to and with the lab's number.
        var lab: String
    }

    /// Reads `evlab-PID-START-NUMBER...`.
    private static func owner(of name: String) -> Owner? {
        let parts = name.split(separator: "-")
        guard parts.count >= 4, parts[0] == "evlab", let process = Int32(parts[1]),
            let start = UInt64(parts[2]), Int(parts[3]) != nil
        else { return nil }
        return Owner(
            process: process, start: start, lab: parts[..<4].joined(separator: "-"))
    }

    /// When the process started, in clock ticks since boot; `nil` if there is none. With the
    /// process id it names a process for good.
    static func startTime(of process: Int32) -> UInt64? {
        guard let stat = contents(of: "/proc/\(process)/stat") else { return nil }
        // The name in parentheses may hold anything; the start is the 20th field behind it.
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }

    private static func removeNamespaces(where isOurs: (String) -> Bool) {
        for name in names(in: namespaceDirectory) where isOurs(name) {
            let path = "\(namespaceDirectory)/\(name)"
            for process in processes(in: path) { kill(process, SIGKILL) }
            // The name goes now; the namespace and its interfaces when the last process is gone.
            umount2(path, 2)
            unlink(path)
        }
    }

    /// The processes whose network namespace is the one mounted at `path`.
    private static func processes(in path: String) -> [Int32] {
        var wanted = stat()
        guard stat(path, &wanted) == 0 else { return [] }
        return names(in: "/proc").compactMap { Int32($0) }.filter { process in
            var found = stat()
            return stat("/proc/\(process)/ns/net", &found) == 0 && found.st_ino == wanted.st_ino
                && found.st_dev == wanted.st_dev
        }
    }

    /// With everything in it; a symbolic link goes, not what it points at.
    private static func removeDirectory(_ path: String) {
        for name in names(in: path) where unlink("\(path)/\(name)") != 0 {
            removeDirectory("\(path)/\(name)")
        }
        rmdir(path)
    }

    private static func names(in path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 0
            let raw = UnsafeRawPointer(entry).advanced(by: offset)
            names.append(String(cString: raw.assumingMemoryBound(to: CChar.self)))
        }
        return names.filter { $0 != "." && $0 != ".." }.sorted()
    }

    static func contents(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = read(descriptor, &buffer, buffer.count), count > 0 {
            text += buffer[..<count]
        }
        return String(decoding: text, as: UTF8.self)
    }
}
