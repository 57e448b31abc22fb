import CProcess
import Glibc
import NetAddress

func errnoText(_ code: Int32) -> String {
    String(cString: strerror(code))
}

/// Replaces `path` by a file that only the owner reads, durable before the call returns.
func writeFile(_ path: String, _ bytes: [UInt8]) throws(HostFailure) {
    let draft = path + ".new"
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw HostFailure("open \(draft): \(errnoText(errno))") }
    defer { close(descriptor) }
    fchmod(descriptor, 0o600)
    var offset = 0
    while offset < bytes.count {
        let count = bytes.withUnsafeBytes { buffer in
            write(descriptor, buffer.baseAddress.map { $0 + offset }, bytes.count - offset)
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw HostFailure("write \(draft): \(errnoText(errno))") }
        offset += count
    }
    guard fsync(descriptor) == 0, rename(draft, path) == 0 else {
        throw HostFailure("write \(path): \(errnoText(errno))")
    }
    try syncDirectory(parentDirectory(path))
}

/// The bytes of a small file; refuses more than `limit`.
func readFile(_ path: String, limit: Int = 1 << 16) throws(HostFailure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw HostFailure("open \(path): \(errnoText(errno))") }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: limit + 1)
    var filled = 0
    while filled <= limit {
        let count = bytes.withUnsafeMutableBytes { buffer in
            read(descriptor, buffer.baseAddress.map { $0 + filled }, buffer.count - filled)
        }
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw HostFailure("read \(path): \(errnoText(errno))") }
        if count == 0 { return Array(bytes.prefix(filled)) }
        filled += count
    }
    throw HostFailure("read \(path): larger than \(limit) bytes")
}

func readText(_ path: String) throws(HostFailure) -> String {
    String(decoding: try readFile(path), as: UTF8.self)
}

func fileExists(_ path: String) -> Bool {
    access(path, F_OK) == 0
}

/// Makes a directory that only the owner enters; an existing one is tightened.
func makeDirectory(_ path: String) throws(HostFailure) {
    if mkdir(path, 0o700) != 0, errno != EEXIST {
        throw HostFailure("mkdir \(path): \(errnoText(errno))")
    }
    guard chmod(path, 0o700) == 0 else {
        throw HostFailure("chmod \(path): \(errnoText(errno))")
    }
}

/// Removes a file if it is there.
func removeFile(_ path: String) {
    unlink(path)
}

/// Makes a directory and those above it, 0755 unless they exist.
func makeDirectories(_ path: String) throws(HostFailure) {
    var current = ""
    for part in path.split(separator: "/") {
        current += "/" + part
        if mkdir(current, 0o755) != 0, errno != EEXIST {
            throw HostFailure("mkdir \(current): \(errnoText(errno))")
        }
    }
}

/// The names in a directory, sorted; none when it cannot be read.
func directoryEntries(_ path: String) -> [String] {
    guard let handle = opendir(path) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Whether something at `address` takes a TCP connection within a second.
func answers(_ address: IPAddress, port: UInt16) -> Bool {
    guard address.isIPv4 else { return false }
    let descriptor = socket(
        AF_INET,
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    target.sin_addr.s_addr = address.bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    let status = withUnsafePointer(to: &target) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    if status == 0 { return true }
    guard errno == EINPROGRESS else { return false }
    var set = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    guard poll(&set, 1, 1000) > 0 else { return false }
    var problem: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &size)
    return problem == 0
}

/// Renames `path` out of the way; `suffix` gets a number when the name is taken.
func moveAside(_ path: String, suffix: String) throws(HostFailure) {
    guard fileExists(path) else { return }
    var target = path + suffix
    var number = 2
    while fileExists(target) {
        target = path + suffix + "-\(number)"
        number += 1
    }
    guard rename(path, target) == 0 else {
        throw HostFailure("rename \(path): \(errnoText(errno))")
    }
    try syncDirectory(parentDirectory(path))
}

private func parentDirectory(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

private func syncDirectory(_ path: String) throws(HostFailure) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw HostFailure("open \(path): \(errnoText(errno))") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw HostFailure("fsync \(path): \(errnoText(errno))") }
}

/// Starts a detached thread with a name of at most 15 bytes.
func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Body {
        let run: @Sendable () -> Void
        let name: String
        init(_ name: String, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }
    let box = Unmanaged.passRetained(Body(name, body))
    var thread = pthread_t()
    let status = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
            cprocess_name_thread(body.name)
            body.run()
            return nil
        }, box.toOpaque())
    precondition(status == 0, "a thread cannot be started")
    pthread_detach(thread)
}
