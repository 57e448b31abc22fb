import Glibc
import LinuxIO
import Testing

/// Resident pages of files, KiB (proc_pid_status(5)).
private func residentFiles() throws -> Int {
    let file = try #require(fopen("/proc/self/status", "re"))
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, Int32(line.count), file) != nil {
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)
        if text.hasPrefix("RssFile:") {
            let digits = text.filter(\.isNumber)
            return try #require(Int(digits))
        }
    }
    return 0
}

@Test("code that only the start needed is given back, and what is needed returns")
func startupMemory() throws {
    let before = try residentFiles()
    StartupMemory.release()
    let after = try residentFiles()
    #expect(after < before * 3 / 4, "\(before) KiB before, \(after) KiB after")
    // Everything still works; the library's code is read again.
    #expect((0..<1000).map(String.init).joined().count == 2890)
}
