import Foundation
import Testing

@Suite("edgevpn-swift simulate")
struct SimulateCommandTests {
    @Test func aSeedTellsAStoryThatItsLogTellsAgain() throws {
        try Program.withDirectory { directory in
            let log = "\(directory)/run.log"
            let first = try Program.run(["simulate", "--seed", "42", "--log", log])
            #expect(first.code == 0 && first.output.contains("may found generation 1"))
            #expect(first.lines.last?.hasSuffix("every rule holds") == true)
            let again = try Program.run(["simulate", "--replay", log])
            #expect(again.code == 0 && again.output.contains("the same run"))
            #expect(again.lines.dropLast(2) == first.lines.dropLast())
            let beginning = try Program.run(["simulate", "--seed", "42", "--steps", "100"])
            #expect(beginning.lines.last == "100 events; every rule holds")
            let json = try Program.run(["simulate", "--seed", "42", "--json"])
            let read = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
            #expect((read as? [String: Any])?["lines"] is [String])
        }
    }

    @Test(arguments: ["leases", "nodes"]) func otherWorldsTellTheirStories(world: String) throws {
        let outcome = try Program.run(["simulate", "--seed", "3", "--world", world])
        #expect(outcome.code == 0 && outcome.lines.count > 10, "\(outcome.errors)")
    }

    @Test func aCampaignGoesOnWhereItStopped() throws {
        try Program.withDirectory { directory in
            let file = "\(directory)/progress"
            let begin = ["simulate", "--progress", file, "--seeds"]
            #expect(try Program.run(begin + ["1500"]).code == 0)
            let lines = try String(contentsOfFile: file, encoding: .utf8)
            #expect(lines.split(separator: "\n").count == 2)
            // A machine that stopped in the middle of a line.
            try Data(lines.dropLast(3).utf8).write(to: URL(fileURLWithPath: file))
            let resumed = try Program.run(begin + ["1600"])
            #expect(resumed.code == 0 && resumed.output.hasPrefix("1600 worlds"))
            #expect(try Program.run(begin + ["1600", "--world", "leases"]).code == 2)
        }
    }

    @Test(arguments: [
        ["simulate"], ["simulate", "--seed", "1", "--seeds", "2"],
        ["simulate", "--seed", "1", "--steps", "0"], ["simulate", "--replay", "/nonexistent"],
        ["simulate", "--seeds", "5", "--log", "x"],
        ["simulate", "--seed", "1", "--log", "/nonexistent/x"],
    ])
    func aMistakeIsTwo(_ arguments: [String]) throws {
        let outcome = try Program.run(arguments)
        #expect(outcome.code == 2 && !outcome.errors.isEmpty)
    }
}
