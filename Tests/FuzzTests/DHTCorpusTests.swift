import DHTFuzzing
import Foundation
import Testing

/// Datagrams of other programs and what fuzzing found, tried at every run; a failure traps and ends
/// the run.
@Suite struct DHTCorpusTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Corpus/dht")

    @Test func theCorpusKeepsAllPromises() throws {
        let files = try FileManager.default.contentsOfDirectory(
            at: DHTCorpusTests.directory, includingPropertiesForKeys: nil)
        #expect(files.count >= 20)
        for file in files {
            let bytes = Array(try Data(contentsOf: file))
            // Every part takes every input.
            for choice: UInt8 in 0..<6 { fuzzDHT([choice] + bytes.dropFirst()) }
            for count in 0..<min(bytes.count, 64) { fuzzDHT(Array(bytes[..<count])) }
            for index in bytes.indices.prefix(256) {
                for flip: UInt8 in [1, 0x80] {
                    var changed = bytes
                    changed[index] ^= flip
                    fuzzDHT(changed)
                }
            }
        }
    }
}
