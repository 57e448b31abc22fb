import Glibc

/// A client of the system's message bus: calls methods and waits for their answers (the D-Bus
/// specification, "Message Protocol" and "Authentication Protocol"). It blocks for at most two
/// seconds a call.
package final class SystemBus {
    private let descriptor: Int32
    private var serial: UInt32 = 0
    private var input: [UInt8] = []

    /// Why a call has no answer.
    package enum Failure: Error, Hashable, Sendable {
        case system(SystemCallError)
        /// The other side is no bus, or speaks otherwise.
        case protocolViolation
        /// The name and text of the error that came back.
        case refused(String, String)
    }

    private static let patience = 2
    /// Answers that this program wants are short.
    private static let maximumMessage = 1 << 20

    /// Connects to the bus at `path` as the process's user.
    package init(_ path: String = "/run/dbus/system_bus_socket") throws(Failure) {
        let opened = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard opened >= 0 else { throw .system(SystemCallError("open a socket")) }
        descriptor = opened
        var limit = timeval(tv_sec: SystemBus.patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(
                opened, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < 108 else { throw .protocolViolation }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(opened, $0, length)
            }
        }
        guard status == 0 else { throw .system(SystemCallError("connect to \(path)")) }
        try authenticate()
        _ = try call("org.freedesktop.DBus", "/org/freedesktop/DBus", member: "Hello")
    }

    deinit {
        close(descriptor)
    }

    private func authenticate() throws(Failure) {
        let user = Array("\(geteuid())".utf8).map { String($0, radix: 16) }.joined()
        try send([0] + Array("AUTH EXTERNAL \(user)\r\n".utf8))
        var line: [UInt8] = []
        while !line.hasSuffix([13, 10]) {
            guard line.count < 1024 else { throw .protocolViolation }
            line += try take(1)
        }
        guard line.starts(with: Array("OK ".utf8)) else { throw .protocolViolation }
        try send(Array("BEGIN\r\n".utf8))
    }

    /// Calls a method and gives the body of its answer.
    package func call(
        _ destination: String, _ path: String, interface: String? = nil, member: String,
        signature: String = "", body: BusBody = BusBody()
    ) throws(Failure) -> [UInt8] {
        serial += 1
        var message = BusBody()
        // Little endian, a method call, no flags, version 1.
        for byte: UInt8 in [UInt8(ascii: "l"), 1, 0, 1] { message.append(byte) }
        message.append(UInt32(body.bytes.count))
        message.append(serial)
        var fields: [(UInt8, String, String)] = [
            (1, "o", path), (2, "s", interface ?? destination), (3, "s", member),
            (6, "s", destination),
        ]
        if !signature.isEmpty { fields.append((8, "g", signature)) }
        message.appendArray(alignment: 8) { message in
            for (code, type, value) in fields {
                message.align(8)
                message.append(code)
                message.append(signature: type)
                if type == "g" { message.append(signature: value) } else { message.append(value) }
            }
        }
        message.align(8)
        try send(message.bytes + body.bytes)
        while true {
            let answer = try receive()
            if answer.replySerial == serial, answer.type == 2 { return answer.body }
            if answer.replySerial == serial, answer.type == 3 {
                throw .refused(answer.errorName, answer.text)
            }
        }
    }

    private struct Answer {
        var type: UInt8
        var replySerial: UInt32 = 0
        var errorName = ""
        var body: [UInt8] = []

        /// The first string of an error's body.
        var text: String {
            guard body.count >= 5 else { return "" }
            return String(decoding: body.dropFirst(4).prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    private func receive() throws(Failure) -> Answer {
        let head = try take(16)
        guard head[0] == UInt8(ascii: "l") else { throw .protocolViolation }
        let bodySize = Int(head.littleEndian(at: 4))
        let fieldSize = Int(head.littleEndian(at: 12))
        guard bodySize + fieldSize < SystemBus.maximumMessage else { throw .protocolViolation }
        let fields = try take((fieldSize + 7) / 8 * 8)
        var answer = Answer(type: head[1])
        answer.body = try take(bodySize)
        // Each field: code, the variant's signature, padding, the value. Only those are read whose
        // types are known; they are the ones in front of anything else that buses send.
        var offset = 0
        while offset + 8 <= fieldSize {
            let (code, type) = (fields[offset], fields[offset + 2])
            offset += 4
            switch type {
            case UInt8(ascii: "u"):
                if code == 5 { answer.replySerial = fields.littleEndian(at: offset) }
                offset += 4
            case UInt8(ascii: "s"), UInt8(ascii: "o"):
                let count = Int(fields.littleEndian(at: offset))
                guard offset + 4 + count < fields.count else { throw .protocolViolation }
                let text = fields[(offset + 4)..<(offset + 4 + count)]
                if code == 4 { answer.errorName = String(decoding: text, as: UTF8.self) }
                offset += 4 + count + 1
            case UInt8(ascii: "g"): offset += 1 + Int(fields[offset]) + 1
            default: return answer
            }
            offset = (offset + 7) / 8 * 8
        }
        return answer
    }

    private func send(_ bytes: [UInt8]) throws(Failure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw .system(SystemCallError("write to the bus")) }
            rest = rest.dropFirst(count)
        }
    }

    private func take(_ wanted: Int) throws(Failure) -> [UInt8] {
        while input.count < wanted {
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = recv(descriptor, &chunk, chunk.count, 0)
            guard count > 0 else { throw .system(SystemCallError("read from the bus")) }
            input += chunk[..<count]
        }
        defer { input.removeFirst(wanted) }
        return Array(input[..<wanted])
    }
}

/// Values in the bus's marshalling: little endian, each aligned to its size.
package struct BusBody: Sendable {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package mutating func align(_ alignment: Int) {
        while !bytes.count.isMultiple(of: alignment) { bytes.append(0) }
    }

    package mutating func append(_ value: UInt8) { bytes.append(value) }

    package mutating func append(_ value: UInt32) {
        align(4)
        for shift in stride(from: UInt32(0), to: 32, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    package mutating func append(_ value: Int32) { append(UInt32(bitPattern: value)) }
    package mutating func append(_ value: Bool) { append(UInt32(value ? 1 : 0)) }

    package mutating func append(_ text: String) {
        append(UInt32(text.utf8.count))
        bytes += Array(text.utf8) + [0]
    }

    mutating func append(signature: String) {
        bytes += [UInt8(signature.utf8.count)] + Array(signature.utf8) + [0]
    }

    package mutating func append(bytes value: [UInt8]) {
        append(UInt32(value.count))
        bytes += value
    }

    /// An array whose elements begin at multiples of `alignment`: 8 for structs.
    package mutating func appendArray(
        alignment: Int, _ elements: (inout BusBody) -> Void
    ) {
        append(UInt32(0))
        let lengthOffset = bytes.count - 4
        align(alignment)
        let start = bytes.count
        elements(&self)
        let length = UInt32(bytes.count - start)
        for index in 0..<4 {
            bytes[lengthOffset + index] = UInt8(truncatingIfNeeded: length >> UInt32(8 * index))
        }
    }
}

extension [UInt8] {
    fileprivate func littleEndian(at offset: Int) -> UInt32 {
        guard offset + 4 <= count else { return 0 }
        return (0..<4).reduce(0) { $0 | UInt32(self[offset + $1]) << UInt32(8 * $1) }
    }

    fileprivate func hasSuffix(_ suffix: [UInt8]) -> Bool {
        count >= suffix.count && Array(self[(count - suffix.count)...]) == suffix
    }
}
