import Cryptography
import MeshBase

/// The settings that all servers must share: a server that joins with another value is refused
/// ("critical configuration value mismatch"), and one whose file is edited later would quietly
/// differ from its next start on. So the founder's are certified with READY.
extension K3sPlan {
    /// Of the components, K3s compares only whether `servicelb` is disabled; but servers that
    /// disagree about the others install and remove them in turn.
    package static let criticalKeys: Set<String> = [
        "cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "flannel-backend",
        "flannel-external-ip", "flannel-ipv6-masq", "egress-selector-mode", "embedded-registry",
        "secrets-encryption", "secrets-encryption-provider", "disable-cloud-controller",
        "disable-helm-controller", "disable-network-policy", "disable",
    ]
    /// Fifteen keys with a short value each.
    package static let settingsLimit = 2048

    /// The critical settings of configuration files, in the order in which K3s reads them: a later
    /// file wins, unless it adds to a list (`key+:`). Only top-level values count; lists are written
    /// back in flow style.
    package static func criticalSettings(inFiles texts: [String]) -> [String] {
        criticalValues(inFiles: texts).sorted { $0.key < $1.key }
            .map { "\($0.key): \(line(of: $0.value))" }
    }

    /// Names the first key in which what K3s would read differs from what the founder had
    /// certified; `nil` when all agree. An operator may change what is disabled later, but for
    /// `servicelb`, which K3s compares between servers.
    ///
    /// - Parameters:
    ///   - texts: all files in K3s' order, with the drop-in at its place among them.
    package static func strayKey(inFiles texts: [String], certified settings: [String]) -> String? {
        let found = criticalValues(inFiles: texts)
        let wanted = criticalValues(inFiles: [settings.joined(separator: "\n")])
        return Set(found.keys).union(wanted.keys).sorted().first { key in
            guard key == "disable" else { return found[key] != wanted[key] }
            let isDisabled = [found, wanted].map { ($0[key] ?? []).contains("servicelb") }
            return isDisabled[0] != isDisabled[1]
        }
    }

    /// Reads settings that came in a grant: only critical keys, one short line each.
    package static func settings(granted text: String) -> [String]? {
        let lines = text.split(separator: "\n").map(String.init)
        let isFine = lines.allSatisfy { line in
            guard let colon = line.firstIndex(of: ":") else { return false }
            return criticalKeys.contains(String(line[..<colon]))
                && line.utf8.allSatisfy { $0 >= 32 && $0 < 127 }
        }
        return isFine && text.utf8.count <= settingsLimit ? lines : nil
    }

    /// What the founder has certified: SHA-256 of "edgevpn-swift critical settings v1" behind its
    /// length and of the lines, each with its end, as a server's grant holds them.
    package static func hash(ofSettings text: String) -> Bytes32 {
        var writer = ByteWriter(capacity: 64 + text.utf8.count)
        writer.write(shortText: "edgevpn-swift critical settings v1")
        writer.write(raw: Array(text.utf8))
        return sha256(writer.bytes)
    }

    // MARK: - Reading

    /// The items of each key; a scalar is one item.
    private static func criticalValues(inFiles texts: [String]) -> [String: [String]] {
        var values: [String: [String]] = [:]
        for text in texts {
            for (key, items) in topLevel(of: text) where !items.isEmpty {
                let adds = key.hasSuffix("+")
                let name = adds ? String(key.dropLast()) : key
                guard criticalKeys.contains(name) else { continue }
                let known = adds ? values[name] ?? [] : []
                values[name] = known + items.filter { !known.contains($0) }
            }
        }
        return values
    }

    /// Keys and items in the order of the file.
    private static func topLevel(of text: String) -> [(key: String, items: [String])] {
        var entries: [(key: String, items: [String])] = []
        for line in text.split(whereSeparator: { $0.isNewline }) where !line.hasPrefix("#") {
            let stripped = trimmed(line)
            if stripped.hasPrefix("- ") {
                if let last = entries.indices.last {
                    entries[last].items.append(scalar(stripped.dropFirst(2)))
                }
                continue
            }
            guard line.first != " ", let colon = line.firstIndex(of: ":") else {
                // Something deeper, which is no list of the last key.
                continue
            }
            let value = trimmed(line[line.index(after: colon)...])
            entries.append((String(trimmed(line[..<colon])), items(of: value)))
        }
        return entries
    }

    private static func items(of value: Substring) -> [String] {
        if value.hasPrefix("["), value.hasSuffix("]") {
            return value.dropFirst().dropLast().split(separator: ",").map { scalar($0) }
        }
        let item = scalar(value)
        return item.isEmpty ? [] : [item]
    }

    private static func line(of items: [String]) -> String {
        items.count == 1 ? items[0] : "[" + items.joined(separator: ", ") + "]"
    }

    /// Without its quotes or the comment behind it.
    private static func scalar(_ text: some StringProtocol) -> String {
        let value = trimmed(text)
        for quote in ["'", "\""] where value.count > 1 && value.hasPrefix(quote) {
            if let end = value.dropFirst().firstIndex(of: Character(quote)) {
                return String(value[value.index(after: value.startIndex)..<end])
            }
        }
        if value.hasPrefix("#") { return "" }
        return String(trimmed(value.firstRange(of: " #").map { value[..<$0.lowerBound] } ?? value))
    }

    private static func trimmed(_ text: some StringProtocol) -> Substring {
        var text = Substring(text)
        while text.first == " " || text.first == "\t" { text = text.dropFirst() }
        while text.last == " " || text.last == "\t" { text = text.dropLast() }
        return text
    }
}
