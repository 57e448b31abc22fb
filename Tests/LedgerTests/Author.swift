import Cryptography
import Ledger
import MeshBase

/// One ledger by itself, with its actions collected.
struct Author {
    var state: LedgerState
    var now = BootInstant(nanoseconds: 9_000_000_000)
    var random = SeededGenerator(seed: 3)
    var actions: [LedgerAction] = []

    init(
        _ number: UInt64, meshID: [UInt8] = LedgerNetwork.meshID, restored: [LedgerEntry] = [],
        verifier: (@Sendable ([UInt8]) -> NodeID?)? = nil
    ) {
        var configuration = ledgerConfiguration(ledgerKey(number))
        configuration.meshID = meshID
        if let verifier { configuration.certificateVerifier = verifier }
        state = LedgerState(configuration: configuration, restored: restored, at: now)
        _ = try? put("members", "certificate", ledgerCertificate(state.local))
    }

    var certificate: LedgerEntry {
        guard let entry = state.allEntries.first(where: \.id.isCertificate) else {
            preconditionFailure("an author begins with its certificate")
        }
        return entry
    }

    /// The messages sent so far.
    var sends: [[UInt8]] {
        actions.compactMap { action in
            if case .send(_, let bytes) = action { bytes } else { nil }
        }
    }

    var fingerprint: UInt64 {
        var fingerprint = Fingerprint()
        state.fingerprint(into: &fingerprint)
        return fingerprint.value
    }

    @discardableResult
    mutating func put(_ bucket: String, _ key: String, _ value: [UInt8]) throws -> LedgerEntry {
        try state.put(
            bucket: bucket, key: key, value: value, at: now, random: &random, into: &actions)
    }

    mutating func delete(_ bucket: String, _ key: String) throws {
        try state.delete(bucket: bucket, key: key, at: now, random: &random, into: &actions)
    }

    mutating func connect(_ node: NodeID) {
        state.peerConnected(node, at: now, random: &random, into: &actions)
    }

    mutating func receive(_ bytes: [UInt8], from node: NodeID) {
        state.receive(bytes, from: node, at: now, random: &random, into: &actions)
    }

    mutating func advance(by duration: Duration) {
        now = now + duration
        state.timeout(at: now, random: &random, into: &actions)
    }
}

/// An entry as it stands in a rumor: its length, then its bytes.
func framed(_ entry: LedgerEntry) -> [UInt8] {
    var writer = ByteWriter()
    writer.write(long: entry.encode())
    return writer.bytes
}
