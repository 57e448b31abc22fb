// The configuration file is a flat YAML mapping: `key: value`, `key: [a, b]`, or a key with an
// indented `- value` list below it; plain and quoted scalars on one line, and comments. Every text
// that this reader accepts means the same to any YAML parser with string scalars. What else YAML
// has (nesting, anchors, tags, block scalars) no option needs, and is refused with its line. A
// general parser would bring all of Foundation along; docs/decisions/0002-what-the-daemon-links.md
// has the figures.

/// One `key: value` of a configuration file; a list has several values.
struct ConfigFileEntry: Hashable {
    var key: String
    var values: [String]
    var isList: Bool
    /// Counted from 1.
    var line: Int
}

/// Reads `text`, the content of the file at `path`; what cannot be read goes to `problems`.
func parseConfigFile(_ text: String, path: String, problems: inout [ConfigProblem])
    -> [ConfigFileEntry]
{
    var reader = ConfigFileReader(path: path)
    // No set of options needs more than a few kilobytes.
    guard text.utf8.count <= 65_536 else {
        problems.append(
            ConfigProblem(
                path: path, message: "the file is larger than 64 KiB",
                fix: "name the file with the node's options"))
        return []
    }
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        .enumerated()
    {
        reader.read(line, number: index + 1)
    }
    problems += reader.problems
    return reader.entries
}

private struct ConfigFileReader {
    let path: String
    var entries: [ConfigFileEntry] = []
    var problems: [ConfigProblem] = []
    /// Whether the last entry is a key without a value, so that list items may follow.
    private var mayTakeItems = false
    private var seen: Set<String> = []

    init(path: String) {
        self.path = path
    }

    mutating func read(_ line: Substring, number: Int) {
        let content = line.drop { $0 == " " }
        if content.isEmpty || content.hasPrefix("#") || line == "---" { return }
        if content.hasPrefix("\t") {
            complain(number, "the line is indented with a tab", fix: "indent with spaces")
        } else if content == "-" || content.hasPrefix("- ") {
            readItem(content.dropFirst(), number: number)
        } else if content.startIndex != line.startIndex {
            complain(
                number, "the line is indented under a key that takes no block",
                fix: "start every key at the beginning of its line")
        } else {
            readPair(line, number: number)
        }
    }

    private mutating func readItem(_ text: Substring, number: Int) {
        guard mayTakeItems, let last = entries.indices.last else {
            complain(
                number, "a list item without a key above it", fix: "write KEY: above the list")
            return
        }
        guard let value = scalar(text, number: number) else { return }
        guard !value.isEmpty else {
            complain(number, "the list item is empty", fix: "write - VALUE, or remove the line")
            return
        }
        entries[last].values.append(value)
        entries[last].isList = true
    }

    private mutating func readPair(_ line: Substring, number: Int) {
        mayTakeItems = false
        guard let colon = line.firstIndex(of: ":"),
            line[line.index(after: colon)...].first.map({ $0 == " " }) ?? true
        else {
            complain(number, "the line is not KEY: VALUE", fix: "write KEY: VALUE")
            return
        }
        let key = String(line[..<colon])
        guard !key.isEmpty, key.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            complain(number, "the line does not begin with a key", fix: "write KEY: VALUE")
            return
        }
        guard seen.insert(key).inserted else {
            complain(number, "\(key) stands twice", fix: "keep one of them")
            return
        }
        let rest = line[line.index(after: colon)...].drop { $0 == " " }
        if rest.hasPrefix("[") {
            guard let values = flowList(rest, number: number) else { return }
            entries.append(ConfigFileEntry(key: key, values: values, isList: true, line: number))
            return
        }
        guard let value = scalar(rest, number: number) else { return }
        mayTakeItems = value.isEmpty && !rest.hasPrefix("\"") && !rest.hasPrefix("'")
        entries.append(
            ConfigFileEntry(
                key: key, values: value.isEmpty ? [] : [value], isList: false, line: number))
    }

    /// One scalar with an optional comment behind it; empty for nothing.
    private mutating func scalar(_ text: Substring, number: Int) -> String? {
        let text = text.drop { $0 == " " }
        guard let first = text.first, first != "#" else { return "" }
        if first == "\"" || first == "'" {
            guard let (value, rest) = quotedScalar(text) else {
                complain(
                    number, "the quoted value does not end, or has an escape that is not known",
                    fix: "close the quote; inside double quotes write \\\\ and \\\"")
                return nil
            }
            let behind = rest.drop { $0 == " " }
            guard behind.isEmpty || behind.hasPrefix("#") else {
                complain(number, "text follows the quoted value", fix: "remove it")
                return nil
            }
            return value
        }
        let value = withoutComment(text)
        if "[{&*!|>%@`,?".contains(first) || value.hasSuffix(":") || value.contains(": ") {
            complain(
                number, "the value uses YAML that the options do not need",
                fix: "write one plain value, or put it in quotes")
            return nil
        }
        return value
    }

    private mutating func flowList(_ text: Substring, number: Int) -> [String]? {
        let body = withoutComment(text)
        guard body.hasSuffix("]") else {
            complain(number, "the list does not end on its line", fix: "write [A, B]")
            return nil
        }
        var values: [String] = []
        let items = body.dropFirst().dropLast()
        if items.allSatisfy({ $0 == " " }) { return [] }
        for item in items.split(separator: ",", omittingEmptySubsequences: false) {
            // A port in an IPv6 address needs brackets, and those need quotes inside a list.
            guard let value = scalar(item, number: number) else { return nil }
            guard !value.isEmpty else {
                complain(number, "the list has an empty item", fix: "write [A, B]")
                return nil
            }
            values.append(value)
        }
        return values
    }

    private mutating func complain(_ line: Int, _ message: String, fix: String) {
        problems.append(ConfigProblem(path: path, line: line, message: message, fix: fix))
    }
}

/// A comment begins at a `#` behind a space (YAML 1.2 section 6.6).
private func withoutComment(_ text: Substring) -> String {
    var end = text.startIndex
    var previous: Character = " "
    var index = text.startIndex
    while index < text.endIndex, !(text[index] == "#" && previous == " ") {
        previous = text[index]
        index = text.index(after: index)
        if previous != " " { end = index }
    }
    return String(text[..<end])
}

/// The content of a scalar in double or single quotes, and what stands behind it.
private func quotedScalar(_ text: Substring) -> (value: String, rest: Substring)? {
    guard let quote = text.first else { return nil }
    var value = ""
    var rest = text.dropFirst()
    while let character = rest.popFirst() {
        switch (character, quote) {
        case ("'", "'"):
            guard rest.first == "'" else { return (value, rest) }
            value.append("'")
            rest = rest.dropFirst()
        case ("\"", "\""): return (value, rest)
        case ("\\", "\""):
            guard let escaped = rest.popFirst(), "\\\"/".contains(escaped) else { return nil }
            value.append(escaped)
        default: value.append(character)
        }
    }
    return nil
}
