/// One mistake in what the user wrote: where it is, what is wrong, how to mend it.
package struct ConfigProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// The flag, the environment variable or the file.
    package var path: String
    /// The line in a file, counted from 1.
    package var line: Int?
    /// What is wrong, without the value when that is a secret.
    package var message: String
    /// What to write instead.
    package var fix: String

    package init(path: String, line: Int? = nil, message: String, fix: String) {
        self.path = path
        self.line = line
        self.message = message
        self.fix = fix
    }

    /// `FILE:LINE: what is wrong; how to mend it`.
    package var description: String {
        let place = line.map { "\(path):\($0)" } ?? path
        return "\(place): \(message); \(fix)"
    }
}

/// Every mistake at once: a user mends them all before the next try. Exit code 2.
package struct ConfigProblems: Error, Hashable, Sendable, CustomStringConvertible {
    package var problems: [ConfigProblem]

    package init(_ problems: [ConfigProblem]) {
        self.problems = problems
    }

    /// One line per problem.
    package var description: String {
        problems.map(\.description).joined(separator: "\n")
    }
}
