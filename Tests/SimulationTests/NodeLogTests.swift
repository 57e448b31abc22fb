import Consensus
import MeshBase
import Simulator
import Testing

/// What a real node writes about its founding is what the same cores do again.
@Suite struct NodeLogTests {
    /// What five nodes wrote that found a cluster of three servers and two agents.
    private static let site: [String] = {
        var options = SimulationOptions(
            seed: 3, machines: 5, policy: GenesisPolicy(voterLimit: 5, servers: 3))
        options.keepsLogs = true
        // Of several messages each: between two of them the planner holds a part.
        options.grantBytes = 2_500
        let world = Simulation(options: options)
        world.run(until: world.now + .seconds(120)) { $0.clusterMembers == (3, 2) }
        return (0..<5).flatMap { world.foundingLogs(of: $0) }
    }()

    @Test func everyNodesLogReplaysToItsStates() throws {
        #expect(NodeLogTests.site.count == 5)
        var stories = ""
        for log in NodeLogTests.site {
            let replay = try NodeLogReplay(log)
            #expect(replay.difference == nil, "\(replay.story.suffix(20))")
            #expect(replay.steps > 50)
            stories += replay.story.joined(separator: "\n") + "\n"
        }
        #expect(stories.contains("decided: n"))
        #expect(stories.contains("is ready (4 votes)"))
        #expect(stories.contains("the datastore here is ready"))
        #expect(stories.contains("to the host: start-joined"))
        #expect(stories.contains("to the host: start-agent"))
    }

    /// What a grant holds is in no line, neither where it is made nor where it arrives, and the
    /// states that the lines end with depend on nothing that a reader does not have.
    @Test func noLogHoldsWhatIsInAGrant() throws {
        let noise = SimulatedDatastores.noise.map { byte in
            let hex = String(byte, radix: 16)
            return hex.count < 2 ? "0" + hex : hex
        }.joined()
        var parts = 0
        for log in NodeLogTests.site {
            #expect(!log.contains(noise))
            for line in log.split(separator: "\n") where line.contains(" cluster report admitted ")
            {
                // The grant is the last word: zeros, as many as it has bytes.
                let grant = try #require(line.split(separator: " ").last)
                #expect(grant.count > 5_000 && grant.dropFirst().allSatisfy { $0 == "0" })
                parts += 1
            }
        }
        #expect(parts >= 4)
    }

    /// Crashes, lost disks, partitions: each life of a node replays from what its disk held.
    @Test(arguments: [UInt64(5), 14, 31, 477]) func soDoTheLogsOfHostileWorlds(seed: UInt64) throws
    {
        var options = SimulationOptions.hostile(seed: seed)
        options.keepsLogs = true
        let world = Trial(options, faultsFor: .seconds(60)).simulation
        var lives = 0
        for index in 0..<options.machines {
            for (life, log) in world.foundingLogs(of: index).enumerated() where !log.isEmpty {
                let replay = try NodeLogReplay(log)
                #expect(replay.difference == nil, "n\(index), life \(life)")
                lives += 1
            }
        }
        #expect(lives >= options.machines)
    }

    @Test func aLineThatWasChangedIsNamed() throws {
        let log = try #require(NodeLogTests.site.first { $0.contains("> host found ") })
        let lines = log.split(separator: "\n", omittingEmptySubsequences: false)
        let inputs = lines.indices.filter { lines[$0].contains(" founding message ") }
        let chosen = try #require(inputs.dropFirst(inputs.count / 2).first)
        // Another last digit: the signature of the message fits no more.
        var changed = lines.map(String.init)
        changed[chosen].append(changed[chosen].removeLast() == "0" ? "1" : "0")
        let replay = try NodeLogReplay(changed.joined(separator: "\n"))
        let difference = try #require(replay.difference)
        #expect(difference.line > chosen && difference.line < chosen + 20)
        #expect(difference.replayed.contains("badSignature"))

        // What the node wanted was another thing than what is written.
        let wish = try #require(lines.firstIndex { $0.hasPrefix("> host found ") })
        changed = lines.map(String.init)
        changed[wish] = "> host stop \"no%20reason\""
        let other = try #require(try NodeLogReplay(changed.joined(separator: "\n")).difference)
        #expect(other.line == wish + 1 && other.replayed == String(lines[wish]))
        // And a line that is missing.
        changed.remove(at: wish)
        let shorter = try #require(try NodeLogReplay(changed.joined(separator: "\n")).difference)
        #expect(shorter.line == wish + 1 && shorter.replayed == String(lines[wish]))
    }

    @Test func brokenLinesAreNamed() throws {
        let log = NodeLogTests.site[1]
        let lines = log.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        // Cut off in the middle of a line: what was whole is played.
        let cut = try NodeLogReplay(String(log.dropLast(7)))
        #expect(cut.difference == nil && cut.steps > 50)
        for nonsense in ["nonsense", "1 2 founding message", "5 5 cluster report founded 1", "= "] {
            var changed = lines
            changed.insert(nonsense, at: 4)
            #expect {
                try NodeLogReplay(changed.joined(separator: "\n"))
            } throws: { error in
                (error as? FoundingLogProblem)?.line == 5
            }
        }
        #expect(throws: FoundingLogProblem.self) { try NodeLogReplay("founding-log 1\n\n") }
        #expect(NodeLogReplay.recognises(log) && !NodeLogReplay.recognises("founding-world 1 4\n"))
    }
}
