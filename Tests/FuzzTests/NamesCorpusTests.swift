import Foundation
import NamesFuzzing
import Testing

/// What fuzzing found worth keeping is tried at every run; a failure traps and ends the run.
@Suite struct NamesCorpusTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Corpus/names")

    @Test func theCorpusKeepsAllPromises() throws {
        let files = try FileManager.default.contentsOfDirectory(
            at: NamesCorpusTests.directory, includingPropertiesForKeys: nil)
        #expect(files.count >= 20)
        for file in files {
            let bytes = Array(try Data(contentsOf: file))
            fuzzNames(bytes)
            // And everything near to it: each length, each byte changed.
            for count in 0..<min(bytes.count, 64) { fuzzNames(Array(bytes[..<count])) }
            for index in bytes.indices.prefix(256) {
                for flip: UInt8 in [1, 0x80, 0xFF] {
                    var changed = bytes
                    changed[index] ^= flip
                    fuzzNames(changed)
                }
            }
        }
    }
}
