import Foundation
import Testing

/// The floors of docs/architecture.md. A new target gets its line here and there.
private let floors: [String: Int] = [
    "MeshBase": 0, "CSodium": 0, "CLinux": 0, "CNetlink": 0, "CPacketCipher": 0,
    "CFileSystem": 0, "CProcess": 0, "COpenSSL": 0, "CChecksum": 0,
    "Cryptography": 1, "NetAddress": 1,
    "WireGuard": 2, "Kademlia": 2, "PathDiscovery": 2, "DNS": 2, "Membership": 2, "Ledger": 2,
    "Consensus": 2, "ClusterPlan": 2,
    "MeshNode": 3, "LinuxIO": 3,
    "DataPlane": 4, "Storage": 4, "Configuration": 4, "Transport": 4,
    "Runtime": 5, "Simulator": 5,
    "HTTPAPI": 6, "ClusterHost": 6,
    "edgevpn-swift": 7,
]

/// Targets whose outcome depends on their inputs alone.
private let cores = floors.filter { $0.value <= 3 && $0.key != "LinuxIO" }.keys
    .filter { !$0.hasPrefix("C") || ["Cryptography", "Consensus", "ClusterPlan"].contains($0) }
    .sorted()

private struct Rule: CustomStringConvertible, Sendable {
    let targets: [String]
    let modules: Set<String>
    let reason: String

    var description: String {
        "\(targets.joined(separator: ", ")) never import "
            + "\(modules.sorted().joined(separator: ", ")): \(reason)"
    }
}

private let rules = [
    Rule(
        targets: cores,
        modules: [
            "LinuxIO", "Runtime", "NIO", "NIOCore", "NIOPosix", "NIOHTTP1", "Dispatch", "Logging",
            "Foundation", "FoundationEssentials", "Glibc", "Musl", "Crypto", "Observation",
        ],
        reason: "determinism: a core that can log can block, and one with Foundation can ask "
            + "the clock"),
    Rule(
        targets: ["DataPlane"], modules: ["MeshNode", "Ledger", "Consensus", "Kademlia"],
        reason: "the packet path must not be able to ask a question"),
    Rule(
        targets: ["MeshNode"], modules: ["DataPlane", "Storage"],
        reason: "the simulator would need them"),
    Rule(
        targets: ["HTTPAPI", "ClusterHost"], modules: ["Runtime"],
        reason: "they declare the protocol they need; the command wires them"),
    Rule(
        targets: ["Simulator"], modules: ["Runtime", "LinuxIO"],
        reason: "one node, two interpreters"),
    Rule(
        targets: floors.keys.sorted(), modules: ["Foundation", "NIOFoundationCompat"],
        reason: "all of Foundation weighs 45 MB in a static program; FoundationEssentials has "
            + "what floors 6 and 7 need"),
]

@Suite("The house stands as it is drawn")
struct LayeringTests {
    @Test func everyTargetHasItsFloor() {
        for target in SourceTree.targets {
            #expect(
                floors[target] != nil,
                "Sources/\(target) is on no floor: add it to docs/architecture.md and to this test")
        }
    }

    @Test func arrowsGoDownOnly() throws {
        for target in SourceTree.targets {
            guard let floor = floors[target] else { continue }
            for (module, place) in try SourceTree.imports(in: "Sources/\(target)") {
                guard let other = floors[module] else { continue }
                #expect(
                    other < floor,
                    "\(place): \(target) (floor \(floor)) imports \(module) (floor \(other))")
                if target == "LinuxIO" {
                    #expect(other <= 1, "\(place): LinuxIO imports floors 0 and 1 only")
                }
            }
        }
    }

    @Test(arguments: rules)
    fileprivate func neverMeansNever(_ rule: Rule) throws {
        for target in rule.targets {
            for (module, place) in try SourceTree.imports(in: "Sources/\(target)") {
                #expect(!rule.modules.contains(module), "\(place) imports \(module). \(rule)")
            }
        }
    }

    /// Locks that decide nothing. TransportSession is shared with packet threads and holds the
    /// lock of its replay window; SecretBytes hands out slots of locked memory.
    private static let locks = ["/TransportSession", "/SecretBytes.swift"]

    @Test(arguments: [
        "Task", "await", "async", "actor", "Mutex", "NSLock", "ContinuousClock",
        "SuspendingClock", "SystemRandomNumberGenerator", "DispatchQueue", "Date()", "print(",
        ".randomElement()", ".shuffled()", "UUID()", "getenv", "clock_gettime", "pthread_create",
        "Hasher()", "hashValue",
    ])
    func coresDecideFromTheirInputsAlone(_ word: String) throws {
        for target in cores {
            for path in SourceTree.files(in: "Sources/\(target)", suffixes: [".swift"]) {
                if word == "Mutex", LayeringTests.locks.contains(where: path.contains) { continue }
                guard try SourceTree.text(path).range(of: word, options: .literal) != nil else {
                    continue
                }
                for (number, line) in try SourceTree.code(path).enumerated() {
                    #expect(
                        !contains(line, word: word),
                        """
                        \(path):\(number + 1) says \(word): the simulator replays a seed only \
                        if time, keys and randomness are arguments
                        """)
                }
            }
        }
    }

    @Test func randomNumbersInCoresComeFromAGenerator() throws {
        for target in cores {
            for path in SourceTree.files(in: "Sources/\(target)", suffixes: [".swift"]) {
                let code = try SourceTree.code(path).joined(separator: "\n")
                for call in code.components(separatedBy: ".random(in:").dropFirst() {
                    #expect(
                        argumentList(call).contains("using:"),
                        "\(path) draws a random number without `using:`")
                }
            }
        }
    }

    /// A dependency in the manifest that no file imports yet is an invitation.
    @Test func theManifestObeysTheSameRules() throws {
        for (target, dependencies) in try manifestDependencies() {
            guard let floor = floors[target] else { continue }
            for dependency in dependencies.sorted() {
                if let other = floors[dependency] {
                    // A shim may stand on the system library that it wraps.
                    let isShim = floor == 0 && other == 0 && target.hasPrefix("C")
                    #expect(
                        other < floor || isShim,
                        "Package.swift: \(target) (\(floor)) depends on \(dependency) (\(other))")
                }
                for rule in rules where rule.targets.contains(target) {
                    #expect(
                        !rule.modules.contains(dependency),
                        "Package.swift: \(target) depends on \(dependency). \(rule)")
                }
            }
        }
    }

    @Test func theManifestNamesWhatIsImported() throws {
        let manifest = try manifestDependencies()
        for target in SourceTree.targets {
            let dependencies = try #require(
                manifest[target], "Sources/\(target) is no target of Package.swift")
            for (module, place) in try SourceTree.imports(in: "Sources/\(target)")
            where floors[module] != nil {
                #expect(
                    dependencies.contains(module),
                    "\(place): \(target) imports \(module); Package.swift does not say so")
            }
        }
    }

    private struct Manifest: Decodable {
        struct Target: Decodable {
            var name: String
            var dependencies: [[String: [Name]]]
        }

        /// A target's dependency is a list of names, conditions and absent things.
        struct Name: Decodable {
            var text: String?

            init(from decoder: any Decoder) throws {
                text = try? decoder.singleValueContainer().decode(String.self)
            }
        }

        var targets: [Target]
    }

    /// The targets and products that each target may import, as SwiftPM understands the manifest.
    private func manifestDependencies() throws -> [String: Set<String>] {
        let scratch = FileManager.default.temporaryDirectory
            .appendingPathComponent("layering-\(ProcessInfo.processInfo.processIdentifier)")
        defer { try? FileManager.default.removeItem(at: scratch) }
        let text = try SourceTree.output(of: [
            "swift", "package", "--scratch-path", scratch.path, "dump-package",
        ]).text
        let manifest = try JSONDecoder().decode(
            Manifest.self, from: Data(text[(text.firstIndex(of: "{") ?? text.startIndex)...].utf8))
        let pairs = manifest.targets.map { target in
            let names = target.dependencies.compactMap { $0.values.first?.first?.text }
            return (target.name, Set(names))
        }
        return Dictionary(pairs) { first, _ in first }
    }
}

/// Whether `line` holds `word` and no longer word around it.
func contains(_ line: String, word: String) -> Bool {
    var rest = line[...]
    while let found = rest.range(of: word) {
        let before =
            found.lowerBound == line.startIndex
            ? " " : line[line.index(before: found.lowerBound)]
        let after = found.upperBound == line.endIndex ? " " : line[found.upperBound]
        let joins = { (character: Character) in
            character.isLetter || character.isNumber || character == "_"
        }
        let startsInside = joins(word.first ?? " ") && joins(before)
        let endsInside = joins(word.last ?? " ") && joins(after)
        if !startsInside, !endsInside { return true }
        rest = rest[found.upperBound...]
    }
    return false
}

/// The text up to the parenthesis that closes a call whose opening one came just before.
func argumentList(_ text: String) -> String {
    var depth = 1
    var result = ""
    for character in text {
        if character == "(" { depth += 1 }
        if character == ")" { depth -= 1 }
        if depth == 0 { break }
        result.append(character)
    }
    return result
}
