import Foundation
import MembersFuzzing
import Testing

/// What fuzzing found worth keeping is tried at every run; a failure traps and ends the run.
@Suite struct MembersCorpusTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Corpus/members")

    @Test func theCorpusKeepsAllPromises() throws {
        let files = try FileManager.default.contentsOfDirectory(
            at: MembersCorpusTests.directory, includingPropertiesForKeys: nil)
        #expect(files.count >= 20)
        for file in files {
            let bytes = Array(try Data(contentsOf: file))
            // Every part takes every input.
            for choice: UInt8 in 0..<5 { fuzzMembers([choice] + bytes.dropFirst()) }
            for count in 0..<min(bytes.count, 32) { fuzzMembers(Array(bytes[..<count])) }
            for index in bytes.indices.prefix(64) {
                for flip: UInt8 in [1, 0x80] {
                    var changed = bytes
                    changed[index] ^= flip
                    fuzzMembers(changed)
                }
            }
        }
    }
}
