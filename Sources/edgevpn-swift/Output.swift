import ArgumentParser
import Configuration
import Glibc
import HTTPAPI

/// `--json`, on every command that prints.
struct OutputOptions: ParsableArguments {
    @Flag(name: .long, help: "Print JSON instead of text.")
    var json = false

    /// Prints `value` as JSON, or the text that `text` makes of it.
    func show(_ value: some Encodable, text: () -> String) throws {
        if json {
            write(bytes: try encodeJSON(value, pretty: true) + [10], to: STDOUT_FILENO)
        } else {
            let shown = text()
            if !shown.isEmpty { write(bytes: Array("\(shown)\n".utf8), to: STDOUT_FILENO) }
        }
    }
}

/// `--api`, on every command that talks to a running node.
struct NodeOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where the node's API is: unix:PATH or ADDRESS:PORT. Also EDGEVPN_API.",
            valueName: "address"))
    var api: String?

    /// A client for the node that the user means.
    func client(timeout: Duration = .seconds(10)) throws -> APIClient {
        let fromEnvironment = getenv("EDGEVPN_API").map { String(cString: $0) } ?? ""
        let path = api == nil ? "EDGEVPN_API" : "--api"
        let text = api ?? (fromEnvironment.isEmpty ? "\(NodeConfig.defaultAPI)" : fromEnvironment)
        guard let address = APIAddress(text) else {
            throw CommandFailure.mistake(
                path, "this is not an address of an API", fix: "give unix:/PATH or ADDRESS:PORT")
        }
        return APIClient(address, timeout: timeout, bearer: try APIToken.forClient(of: address))
    }
}

/// Asks a node and turns its refusal into this program's.
func asking<Value>(_ body: () async throws(APIClientFailure) -> Value) async throws(CommandFailure)
    -> Value
{
    do {
        return try await body()
    } catch {
        throw CommandFailure(error)
    }
}

extension String {
    /// As it may be shown on a terminal: values that other machines wrote could otherwise move the
    /// cursor, write lines of their own, or turn what stands behind them around.
    var printable: String {
        var shown = ""
        for scalar in unicodeScalars {
            let isHarmless =
                switch scalar.properties.generalCategory {
                case .control, .lineSeparator, .paragraphSeparator: false
                default: !scalar.properties.isBidiControl
                }
            if isHarmless {
                shown.unicodeScalars.append(scalar)
            } else {
                shown += scalar.escaped(asASCII: true)
            }
        }
        return shown
    }
}

/// Lays `rows` out in columns under `header`; the last column keeps its own width. Control
/// characters are shown as in Swift's literals.
func table(_ header: [String], _ rows: [[String]]) -> String {
    let lines = ([header] + rows).map { $0.map(\.printable) }
    let widths = header.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
        let cells = line.indices.map { column -> String in
            let cell = line[column]
            if column == line.count - 1 { return cell }
            return cell + String(repeating: " ", count: widths[column] - cell.count)
        }
        return cells.joined(separator: "  ")
    }.joined(separator: "\n")
}

/// A byte count for people: `1.5 MiB`.
func byteCount(_ bytes: UInt64) -> String {
    var value = Double(bytes)
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_024 { return unit == "B" ? "\(bytes) B" : "\(rounded(value, 1)) \(unit)" }
        value /= 1_024
    }
    return "\(rounded(value, 1)) TiB"
}

/// `value` with at most `digits` digits behind the point.
func rounded(_ value: Double, _ digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let number = (value * scale).rounded() / scale
    return digits == 0 ? "\(Int(number))" : "\(number)"
}

/// The beginning of a node id that people compare.
func shortID(_ id: String) -> String { String(id.prefix(8)) }

/// A number with its noun: `1 node`, `3 nodes`.
func counted(_ number: Int, _ one: String, _ many: String? = nil) -> String {
    "\(number) \(number == 1 ? one : many ?? one + "s")"
}
