import Foundation
import PathsFuzzing
import Testing

/// What fuzzing found worth keeping is tried at every run; a failure traps and ends the run.
@Suite struct PathsCorpusTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Corpus/paths")

    @Test func theCorpusKeepsAllPromises() throws {
        let files = try FileManager.default.contentsOfDirectory(
            at: PathsCorpusTests.directory, includingPropertiesForKeys: nil)
        #expect(files.count >= 15)
        for file in files {
            let bytes = Array(try Data(contentsOf: file))
            // Every part takes every input.
            for choice: UInt8 in 0..<5 { fuzzPaths([choice] + bytes.dropFirst()) }
            // And everything near to it: each length, each byte changed.
            for count in 0..<min(bytes.count, 64) { fuzzPaths(Array(bytes[..<count])) }
            for index in bytes.indices.prefix(128) {
                for flip: UInt8 in [1, 0x80, 0xFF] {
                    var changed = bytes
                    changed[index] ^= flip
                    fuzzPaths(changed)
                }
            }
        }
    }
}
