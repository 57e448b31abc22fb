import Foundation

struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// A program that ended.
struct Finished {
    let status: Int32
    let output: String
}

/// Set by a signal, read between two programs.
nonisolated(unsafe) var isInterrupted = false

/// Runs a program to its end; standard error comes with the output.
@discardableResult
func execute(_ words: [String], mayFail: Bool = false) throws -> Finished {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let output = String(decoding: data, as: UTF8.self)
    if isInterrupted { throw Failure("interrupted") }
    if process.terminationStatus != 0, !mayFail {
        throw Failure("\(words.joined(separator: " ")): \(output)")
    }
    return Finished(status: process.terminationStatus, output: output)
}

/// Starts a program that keeps running; its output goes to `log`.
func launch(_ words: [String], log: String, environment: [String: String] = [:]) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    guard let file = FileHandle(forWritingAtPath: log) else { throw Failure("cannot write \(log)") }
    process.standardOutput = file
    process.standardError = file
    try process.run()
    return process
}
