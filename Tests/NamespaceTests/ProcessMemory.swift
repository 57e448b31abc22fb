import Foundation
import Testing

/// Everything that a core file of a process would hold.
struct ProcessMemory {
    private var regions: [Data] = []

    /// The file that the process runs.
    static func program(of process: Int32) -> String? {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/exe")
    }

    /// Reads all memory that the process can write or that is of no file.
    init(of process: Int32) throws {
        guard let maps = Lab.contents(of: "/proc/\(process)/maps") else {
            throw LabFailure("process \(process) is gone")
        }
        let descriptor = open("/proc/\(process)/mem", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LabFailure("the memory of \(process) is closed") }
        defer { close(descriptor) }
        for line in maps.split(separator: "\n") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            // Addresses, rights, offset, device and inode, and mostly a name.
            guard words.count >= 5, words[1].hasPrefix("rw") || words[4] == "0",
                words[1].hasPrefix("r"), words.count < 6 || !words[5].hasPrefix("[v")
            else { continue }
            let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            guard ends.count == 2 else { continue }
            regions.append(ProcessMemory.read(descriptor, from: ends[0], to: ends[1]))
        }
    }

    /// Pages that cannot be read are left out.
    private static func read(_ descriptor: Int32, from start: UInt64, to end: UInt64) -> Data {
        var bytes = Data()
        var place = start
        var block = [UInt8](repeating: 0, count: 1 << 20)
        while place < end {
            let wanted = min(block.count, Int(end - place))
            let count = pread(descriptor, &block, wanted, off_t(place))
            if count > 0 { bytes.append(contentsOf: block[..<count]) }
            place += UInt64(count > 0 ? count : 4096)
        }
        return bytes
    }

    var size: Int { regions.reduce(0) { $0 + $1.count } }

    func names(of patterns: [(name: String, bytes: Data)]) -> [String] {
        patterns.filter { pattern in
            regions.contains { ProcessMemory.find(pattern.bytes, in: $0) }
        }.map(\.name)
    }

    /// Jumps from one occurrence of a byte of the needle to the next; memory is full of zeros, so
    /// that byte is none.
    private static func find(_ needle: Data, in region: Data) -> Bool {
        let bytes = Array(needle)
        guard let place = bytes.firstIndex(where: { $0 != 0 }) else { return false }
        return region.withUnsafeBytes { hay in
            guard let start = hay.baseAddress, hay.count >= bytes.count else { return false }
            var offset = place
            while offset + bytes.count - place <= hay.count,
                let hit = memchr(start + offset, Int32(bytes[place]), hay.count - offset)
            {
                offset = start.distance(to: UnsafeRawPointer(hit))
                let first = offset - place
                if first + bytes.count <= hay.count, memcmp(start + first, bytes, bytes.count) == 0
                {
                    return true
                }
                offset += 1
            }
            return false
        }
    }
}
