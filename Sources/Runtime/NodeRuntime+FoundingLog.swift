import LinuxIO
import MeshNode

/// The file that a founding log goes to (docs/protocols/founding-log.md).
///
/// It belongs to one life of the node, since a replay needs the beginning. A full disk or a full
/// log ends it and nothing else.
struct FoundingLogFile {
    private var file: BoundedTextFile?

    /// Bytes. A site of five needs 2 MB until it stands, and each server some 4 MB a day afterwards.
    static let limit = 64 << 20
    private static let lastLine = "full\n"

    init() {}

    init(_ path: String) throws(SystemCallError) {
        file = try BoundedTextFile(path, limit: FoundingLogFile.limit)
    }

    /// - Returns: why nothing more is written, when that is so from now on.
    mutating func append(_ lines: String) -> String? {
        guard let open = file else { return nil }
        do throws(SystemCallError) {
            if try open.append(lines) { return nil }
            _ = try open.append(FoundingLogFile.lastLine)
            file = nil
            return "\(open.path) is full"
        } catch {
            file = nil
            return "\(error)"
        }
    }
}
