import Foundation

/// The project as files.
enum SourceTree {
    /// The directory of Package.swift.
    static let root: URL = {
        var url = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        for _ in 0..<3 { url.deleteLastPathComponent() }
        return url
    }()

    /// The files below `folder`, sorted, as paths below the root.
    static func files(in folder: String, suffixes: [String]) -> [String] {
        let base = root.appendingPathComponent(folder)
        guard let found = FileManager.default.enumerator(atPath: base.path) else { return [] }
        return found.compactMap { $0 as? String }
            .filter { path in
                suffixes.contains { path.hasSuffix($0) } && !path.contains(".build/")
            }
            .map { "\(folder)/\($0)" }
            .sorted()
    }

    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    /// The targets below Sources, sorted.
    static var targets: [String] {
        let names = try? FileManager.default.contentsOfDirectory(
            atPath: root.appendingPathComponent("Sources").path)
        return (names ?? []).filter { !$0.hasPrefix(".") }.sorted()
    }

    /// Every import below `folder`: the module's name and where it stands.
    static func imports(in folder: String) throws -> [(module: String, place: String)] {
        var result: [(String, String)] = []
        for path in files(in: folder, suffixes: [".swift"]) {
            for (number, line) in try text(path).split(
                separator: "\n", omittingEmptySubsequences: false
            ).enumerated() {
                let words = line.split(separator: " ")
                guard let keyword = words.firstIndex(of: "import"), keyword < 3,
                    words[..<keyword].allSatisfy({
                        $0.hasPrefix("@")
                            || ["internal", "package", "public", "private"].contains($0)
                    })
                else { continue }
                var rest = words[(keyword + 1)...]
                if let kind = rest.first, ["struct", "class", "enum", "func"].contains(kind) {
                    rest = rest.dropFirst()
                }
                guard let module = rest.first?.split(separator: ".").first else { continue }
                result.append((String(module), "\(path):\(number + 1)"))
            }
        }
        return result
    }

    /// The code of a file, line by line, with comments and the contents of literals blanked.
    static func code(_ path: String) throws -> [String] {
        try text(path).split(separator: "\n", omittingEmptySubsequences: false).map { line in
            var result = ""
            var isLiteral = false
            var previous: Character = " "
            for character in line {
                if character == "/", previous == "/", !isLiteral { break }
                if character == "\"", previous != "\\" { isLiteral.toggle() }
                if !isLiteral { result.append(character) }
                previous = character
            }
            return result
        }
    }

    /// Runs a program in the root directory: its exit code and everything it said.
    static func output(of arguments: [String]) throws -> (code: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.currentDirectoryURL = root
        process.arguments = arguments
        let pipe = Pipe()
        process.standardError = pipe
        process.standardOutput = pipe
        try process.run()
        let said = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: said, as: UTF8.self))
    }
}
