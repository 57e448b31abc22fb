import Foundation
import Testing

@Suite("The house is tidy")
struct TidyTests {
    private static let sources =
        SourceTree.files(in: "Sources", suffixes: [".swift", ".c", ".h"])
        + SourceTree.files(in: "Tests", suffixes: [".swift"])
        + SourceTree.files(in: "Benchmarks", suffixes: [".swift"])

    /// Spelled in halves, so that this file does not find itself.
    @Test(arguments: [
        ("TO" + "DO", "finish it or leave it out"), ("FIX" + "ME", "fix it or leave it out"),
        ("HA" + "CK", "say what it is instead"), ("not impl" + "emented", "leave it out"),
        ("@test" + "able", "tests use what other targets may use"),
        ("unowned(un" + "safe)", "a dangling reference is undefined behaviour"),
        ("-Ounch" + "ecked", "checks are part of the product"),
        ("/wo" + "rk/", "a path of one machine means nothing elsewhere"),
        ("/tmp" + "/h/", "a path of one machine means nothing elsewhere"),
        ("/ho" + "me/", "a path of one machine means nothing elsewhere"),
    ])
    func someWordsAreNotWritten(_ word: String, _ reason: String) throws {
        let documents =
            SourceTree.files(in: "docs", suffixes: [".md"]) + ["README.md", "Package.swift"]
        for path in TidyTests.sources + documents {
            let text = try SourceTree.text(path)
            guard text.range(of: word, options: .literal) != nil else { continue }
            for (number, line) in text.split(
                separator: "\n", omittingEmptySubsequences: false
            ).enumerated() {
                #expect(!line.contains(word), "\(path):\(number + 1) says \(word): \(reason)")
            }
        }
    }

    @Test func theTopLevelHoldsWhatItShould() throws {
        let allowed: Set<String> = [
            "Package.swift", "Package.resolved", "Sources", "Tests", "Benchmarks", "docs",
            "README.md", "LICENSE",
        ]
        let names = try FileManager.default.contentsOfDirectory(atPath: SourceTree.root.path)
        for name in names.sorted() where !name.hasPrefix(".") {
            #expect(allowed.contains(name), "\(name) does not belong at the top level")
        }
    }

    /// A ratchet, not a wall: a file may be long for a reason that stands here, and may not grow.
    private static let longFiles: [String: Int] = [:]

    @Test func filesStayShort() throws {
        for path in TidyTests.sources {
            let count = try SourceTree.text(path).utf8.count { $0 == UInt8(ascii: "\n") }
            let usual = path.hasPrefix("Sources/") ? 450 : 800
            let limit = TidyTests.longFiles[path] ?? usual
            #expect(
                count <= limit,
                "\(path) has \(count) lines, at most \(limit): split it as Type+Aspect.swift")
        }
    }

    /// A target without tests is a target that nobody dares to change.
    @Test func everyTargetIsTested() {
        let exempt: Set<String> = [
            // Exercised by running the program: Tests/NamespaceTests.
            "edgevpn-swift", "Runtime",
            // Run by Tests/SimulationTests.
            "Simulator", "MeshNode",
            // Vectors of the primitives: Tests/VectorTests.
            "Cryptography",
        ]
        let tests = try? FileManager.default.contentsOfDirectory(
            atPath: SourceTree.root.appendingPathComponent("Tests").path)
        for target in SourceTree.targets where !exempt.contains(target) {
            let isShim = !SourceTree.files(in: "Sources/\(target)", suffixes: [".swift"]).isEmpty
            if isShim {
                #expect(tests?.contains("\(target)Tests") == true, "\(target) has no tests")
            }
        }
    }

    @Test func theFormatterHasNothingToSay() throws {
        let (code, said) = try SourceTree.output(of: [
            "swift", "format", "lint", "--strict", "--parallel", "--recursive",
            "--configuration", ".swift-format", "Package.swift", "Sources", "Tests",
        ])
        #expect(code == 0, "swift format lint --strict says:\n\(said)")
    }
}
