import Cryptography
import MeshBase

/// What is certified together with READY, besides the authority: the facts of the outcome
/// (docs/protocols/founding.md).
///
///     each    tag (1), length (1), value; each tag once, ascending
///     tag 1   hash (32) of the settings that all servers share
package struct GenesisFacts: Hashable, Sendable {
    /// ``K3sPlan/hash(ofSettings:)`` of the founder's; `nil` where a datastore has none, and in
    /// records of releases that did not certify them.
    package var settings: Bytes32?

    private static let settingsTag: UInt8 = 1

    package init(settings: Bytes32? = nil) {
        self.settings = settings
    }

    /// At most 34 bytes; the outcome has room for 64.
    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 34)
        if let settings {
            writer.write(GenesisFacts.settingsTag)
            writer.write(short: settings.bytes)
        }
        return writer.bytes
    }

    /// Facts of a later release are passed over, so that its clusters can be joined.
    package init(certified bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        while let tag = try? reader.readByte(), let value = try? reader.readShortBytes() {
            if tag == GenesisFacts.settingsTag { settings = Bytes32(value) }
        }
    }
}
