/// Where the settings of one start come from, each weaker than the next: the configuration file,
/// the environment, the flags.
package struct ConfigSources: Sendable {
    /// The file's name and its text.
    package var file: (path: String, text: String)?
    package var environment: [String: String]
    /// What stood on the command line; a flag without its value is absent.
    package var flags: [NodeOption: [String]]

    package init(
        file: (path: String, text: String)? = nil, environment: [String: String] = [:],
        flags: [NodeOption: [String]] = [:]
    ) {
        self.file = file
        self.environment = environment
        self.flags = flags
    }
}

/// One option as the strongest source spelled it.
struct Setting {
    var option: NodeOption
    var values: [String]
    /// The flag, the variable or the file: where the user has to look.
    var path: String
    var line: Int?

    func problem(_ message: String, fix: String) -> ConfigProblem {
        ConfigProblem(path: path, line: line, message: message, fix: fix)
    }
}

extension ConfigSources {
    /// The strongest setting of each option; every misspelling goes to `problems`.
    func settings(_ problems: inout [ConfigProblem]) -> [NodeOption: Setting] {
        var levels: [[NodeOption: Setting]] = []
        levels.append(fileSettings(&problems))
        levels.append(environmentSettings(&problems))
        var given: [NodeOption: Setting] = [:]
        for option in NodeOption.allCases {
            guard let values = flags[option], !values.isEmpty else { continue }
            given[option] = Setting(option: option, values: values, path: option.flag)
        }
        levels.append(given)

        var result: [NodeOption: Setting] = [:]
        for level in levels {
            if level[.token] != nil, let file = level[.tokenFile] {
                problems.append(
                    file.problem("both a token and a token file are given", fix: "give one of them")
                )
            }
            // A stronger token file must not lose against a weaker token, nor the other way round.
            if level[.token] != nil { result[.tokenFile] = nil }
            if level[.tokenFile] != nil { result[.token] = nil }
            result.merge(level) { _, stronger in stronger }
        }
        return result
    }

    private func fileSettings(_ problems: inout [ConfigProblem]) -> [NodeOption: Setting] {
        guard let file else { return [:] }
        var result: [NodeOption: Setting] = [:]
        for entry in parseConfigFile(file.text, path: file.path, problems: &problems) {
            guard let option = NodeOption(rawValue: entry.key) else {
                problems.append(
                    ConfigProblem(
                        path: file.path, line: entry.line, message: "unknown key \(entry.key)",
                        fix: suggestion(for: entry.key, among: NodeOption.allCases.map(\.rawValue))
                    ))
                continue
            }
            if entry.isList, !option.isList {
                problems.append(
                    ConfigProblem(
                        path: file.path, line: entry.line, message: "\(entry.key) takes one value",
                        fix: "write \(entry.key): VALUE"))
                continue
            }
            guard entry.isList || !entry.values.isEmpty else {
                problems.append(
                    ConfigProblem(
                        path: file.path, line: entry.line, message: "\(entry.key) has no value",
                        fix: "write \(entry.key): VALUE, or remove the line"))
                continue
            }
            result[option] = Setting(
                option: option, values: entry.values, path: file.path, line: entry.line)
        }
        return result
    }

    private func environmentSettings(_ problems: inout [ConfigProblem]) -> [NodeOption: Setting] {
        var result: [NodeOption: Setting] = [:]
        var known = OtherEnvironment.known
        for option in NodeOption.allCases {
            known.formUnion(option.environmentNames)
            for name in option.environmentNames {
                guard let text = environment[name], !text.isEmpty, result[option] == nil else {
                    continue
                }
                let parts = text.split { $0 == "," || $0 == " " }.map(String.init)
                let values = option.isList ? parts : [translate(text, name)]
                result[option] = Setting(option: option, values: values, path: name)
            }
        }
        for name in environment.keys.sorted() where name.hasPrefix("EDGEVPN") {
            guard !known.contains(name) else { continue }
            problems.append(
                ConfigProblem(
                    path: name, message: "unknown environment variable",
                    fix: suggestion(for: name, among: known.sorted())))
        }
        return result
    }

    /// edgevpn's variables say true and false where the options have words.
    private func translate(_ text: String, _ name: String) -> String {
        switch (name, text) {
        case ("EDGEVPNDHT", "false"): "off"
        case ("EDGEVPNDHT", "true"): "public"
        default: text
        }
    }
}

/// Names the known word that is closest, when one is close.
func suggestion(for word: String, among known: [String]) -> String {
    let ranked = known.map { (distance(word, $0), $0) }.min { $0 < $1 }
    if let (distance, name) = ranked, distance <= max(2, word.count / 4) {
        return "did you mean \(name)?"
    }
    return "remove it; `up --help` lists what exists"
}

/// Levenshtein's distance, by bytes.
private func distance(_ first: String, _ second: String) -> Int {
    let first = Array(first.utf8.prefix(64))
    let second = Array(second.utf8.prefix(64))
    var row = Array(0...second.count)
    for (index, byte) in first.enumerated() {
        var diagonal = row[0]
        row[0] = index + 1
        for (column, other) in second.enumerated() {
            let substituted = diagonal + (byte == other ? 0 : 1)
            diagonal = row[column + 1]
            row[column + 1] = min(substituted, diagonal + 1, row[column] + 1)
        }
    }
    return row[second.count]
}
