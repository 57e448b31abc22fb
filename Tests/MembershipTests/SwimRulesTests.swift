import MeshBase
import Membership
import Testing

@Suite("SWIM rules")
struct SwimRulesTests {
    let start = BootInstant(nanoseconds: 1_000_000_000)

    /// A node with `count` admitted members, all heard from at the start.
    func instance(count: UInt64, incarnation: UInt32 = 0) -> SwimInstance {
        var swim = SwimInstance(local: node(0), incarnation: incarnation, at: start)
        var actions: [SwimAction] = []
        for number in 1...count {
            swim.admit(node(number))
            swim.heard(from: node(number), at: start, into: &actions)
        }
        return swim
    }

    func node(_ number: UInt64) -> NodeID {
        NodeID(Bytes32(word0: number &* 0x9E37_79B9_7F4A_7C15, word1: number, word2: 1, word3: 2))
    }

    func fingerprint(_ swim: SwimInstance) -> UInt64 {
        var fingerprint = Fingerprint()
        swim.fingerprint(into: &fingerprint)
        return fingerprint.value
    }

    /// A gossip by hand: state, subject, incarnation, accuser of a suspicion.
    func gossip(
        incarnation: UInt32 = 0,
        _ rumors: [(state: UInt8, subject: NodeID, incarnation: UInt32, accuser: NodeID?)]
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt8(5))
        writer.write(incarnation)
        writer.write(UInt8(rumors.count))
        for rumor in rumors {
            writer.write(rumor.state)
            writer.write(rumor.subject)
            writer.write(rumor.incarnation)
            if let accuser = rumor.accuser { writer.write(accuser) }
        }
        return writer.bytes
    }

    @Test("Random and damaged bytes change nothing")
    func hostileBytes() {
        var swim = instance(count: 5)
        let before = fingerprint(swim)
        var random = SeededGenerator(seed: 1)
        var actions: [SwimAction] = []
        var malformed = 0
        for _ in 0..<5_000 {
            var bytes = random.bytes(Int.random(in: 0...600, using: &random))
            if let first = bytes.first { bytes[0] = first % 7 }
            actions = []
            let unchanged = swim
            swim.receive(bytes, from: node(1), at: start, into: &actions)
            if case .dropped(.malformed) = actions.first {
                malformed += 1
                #expect(fingerprint(swim) == before)
            } else {
                swim = unchanged
            }
        }
        #expect(malformed > 4_000)
    }

    @Test("Every cut of a message is malformed")
    func truncated() {
        let whole = gossip([(2, node(2), 7, node(3)), (1, node(4), 9, nil)])
        for count in 0..<whole.count {
            var swim = instance(count: 5)
            let before = fingerprint(swim)
            var actions: [SwimAction] = []
            swim.receive(Array(whole[..<count]), from: node(1), at: start, into: &actions)
            guard case .dropped(.malformed) = actions.first else {
                Issue.record("\(count) bytes were taken for a message")
                continue
            }
            #expect(fingerprint(swim) == before)
        }
    }

    @Test("Strangers are not heard, and rumors about strangers are ignored")
    func strangers() {
        var swim = instance(count: 3)
        let before = fingerprint(swim)
        var actions: [SwimAction] = []
        swim.receive(gossip([]), from: node(99), at: start, into: &actions)
        swim.heard(from: node(99), at: start, into: &actions)
        #expect(actions == [.dropped(.stranger)])
        actions = []
        swim.receive(gossip([(3, node(98), 1, nil)]), from: node(1), at: start, into: &actions)
        #expect(actions.isEmpty)
        #expect(fingerprint(swim) == before)
        #expect(swim.state(of: node(98)) == nil)
    }

    @Test("Incarnation first, then alive < suspect < dead < left")
    func precedence() {
        let later = start + .seconds(30)
        let order: [(state: UInt8, incarnation: UInt32, result: MemberState)] = [
            (1, 4, .alive), (2, 4, .suspect), (1, 4, .suspect), (3, 4, .dead), (2, 4, .dead),
            (1, 4, .dead), (1, 3, .dead), (4, 4, .left), (3, 4, .left), (1, 5, .alive),
            (4, 4, .alive), (3, 4, .alive), (3, 6, .dead), (2, 7, .suspect), (4, 9, .left),
        ]
        var swim = instance(count: 5)
        for step in order {
            var actions: [SwimAction] = []
            let accuser = step.state == 2 ? node(3) : nil
            let bytes = gossip([(step.state, node(2), step.incarnation, accuser)])
            swim.receive(bytes, from: node(1), at: later, into: &actions)
            #expect(swim.state(of: node(2)) == step.result, "after \(step)")
        }
    }

    @Test("Own ears beat hearsay: the accused is told instead of condemned")
    func freshEvidence() {
        var swim = instance(count: 5)
        var actions: [SwimAction] = []
        let now = start + .milliseconds(500)
        swim.receive(gossip([(3, node(2), 8, nil)]), from: node(1), at: now, into: &actions)
        #expect(swim.state(of: node(2)) == .alive)
        let told = actions.contains { action in
            if case .send(let target, _) = action { target == node(2) } else { false }
        }
        #expect(told)
    }

    @Test("A node refutes what is said about it with a higher incarnation")
    func refutation() {
        var swim = instance(count: 5)
        var random = SeededGenerator(seed: 1)
        for (state, expected) in [(UInt8(2), UInt32(42)), (3, 43), (4, 44)] {
            var actions: [SwimAction] = []
            let accuser = state == 2 ? node(3) : nil
            let bytes = gossip([(state, node(0), expected - 1, accuser)])
            swim.receive(bytes, from: node(1), at: start, into: &actions)
            actions = []
            swim.receive(
                [1] + [0, 0, 0, 0] + [0, 0, 0, 9] + [0], from: node(1), at: start,
                into: &actions)
            guard case .send(_, let answer) = actions.last else {
                Issue.record("a ping is answered")
                return
            }
            #expect(answer.first == 2)
            #expect(Array(answer[1..<5]) == [0, 0, 0, UInt8(expected)])
            swim.timeout(at: start, random: &random, into: &actions)
        }
        #expect(swim.localHealth == 1, "being suspected speaks against the own timing")
    }

    @Test("A message begins with what its receiver must refute")
    func buddy() {
        var swim = instance(count: 5)
        var actions: [SwimAction] = []
        let accused = (1...5).map { node($0) }.max() ?? node(1)
        let later = start + .milliseconds(1)
        swim.receive(gossip([(4, accused, 6, nil)]), from: accused, at: later, into: &actions)
        let ping: [UInt8] = [1] + [0, 0, 0, 0] + [0, 0, 0, 9] + [0]
        swim.receive(ping, from: accused, at: later, into: &actions)
        guard case .send(accused, let answer) = actions.last else {
            Issue.record("a ping is answered")
            return
        }
        #expect(Array(answer[10..<43]) == [4] + accused.bytes.bytes)
    }

    @Test("The highest incarnation does not trap")
    func saturation() {
        var swim = instance(count: 5)
        var actions: [SwimAction] = []
        for state in [UInt8(3), 4] {
            let bytes = gossip([(state, node(0), .max, nil), (state, node(3), .max, nil)])
            swim.receive(bytes, from: node(1), at: start + .seconds(9), into: &actions)
        }
        #expect(swim.state(of: node(3)) == .left)
        let later = start + .seconds(60)
        swim.heard(from: node(3), at: later, into: &actions)
        #expect(swim.state(of: node(3)) == .alive, "a lie ends when the member is heard")
    }

    @Test("Packets under way when a member leaves do not bring it back, later ones do")
    func leaveGrace() {
        var swim = instance(count: 5)
        var actions: [SwimAction] = []
        swim.receive(gossip([(4, node(2), 0, nil)]), from: node(2), at: start, into: &actions)
        swim.heard(from: node(2), at: start + .seconds(1), into: &actions)
        #expect(swim.state(of: node(2)) == .left)
        swim.heard(from: node(2), at: start + .seconds(6), into: &actions)
        #expect(swim.state(of: node(2)) == .alive)
    }

    @Test("Independent accusers shorten a suspicion, one accuser repeating itself does not")
    func accusers() {
        // At 21 members: 4 * log10(22) = 5.37 s at the least, six times that at the most, and
        // two confirmations lead from one to the other.
        let now = start + .seconds(30)
        func death(_ accusers: [UInt64]) -> Duration? {
            var swim = instance(count: 21)
            var actions: [SwimAction] = []
            var random = SeededGenerator(seed: 1)
            for accuser in accusers {
                let bytes = gossip([(2, node(2), 0, node(accuser))])
                swim.receive(bytes, from: node(1), at: now, into: &actions)
            }
            var clock = now
            while clock < now + .seconds(60), swim.state(of: node(2)) == .suspect {
                clock = clock + .milliseconds(10)
                for other in 3...21 {
                    swim.heard(from: node(UInt64(other)), at: clock, into: &actions)
                }
                swim.heard(from: node(1), at: clock, into: &actions)
                // The own probe would be an accuser too.
                swim.setProbeTargets([])
                swim.timeout(at: clock, random: &random, into: &actions)
            }
            return swim.state(of: node(2)) == .dead ? clock - now : nil
        }
        let alone = death([3])
        let repeated = death([3, 3, 3])
        let three = death([3, 4, 5])
        #expect(alone == repeated)
        #expect((three ?? .zero) >= .milliseconds(5_300))
        #expect((three ?? .seconds(99)) <= .milliseconds(5_500))
        #expect((alone ?? .zero) > (three ?? .seconds(99)))
    }

    @Test("Whoever was suspended itself restarts its suspicions instead of ending them")
    func stall() {
        var swim = instance(count: 5)
        var actions: [SwimAction] = []
        var random = SeededGenerator(seed: 1)
        let now = start + .seconds(2)
        swim.receive(gossip([(2, node(2), 0, node(3))]), from: node(1), at: now, into: &actions)
        #expect(swim.state(of: node(2)) == .suspect)
        let awake = now + .seconds(300)
        swim.timeout(at: awake, random: &random, into: &actions)
        #expect(swim.state(of: node(2)) == .suspect)
        swim.heard(from: node(2), at: awake + .milliseconds(50), into: &actions)
        #expect(swim.state(of: node(2)) == .alive)
    }

    @Test("An expelled member is unknown at once")
    func expel() {
        var swim = instance(count: 3)
        swim.expel(node(2))
        #expect(swim.state(of: node(2)) == nil)
        #expect(swim.table.map(\.node) == [node(1), node(3)].sorted())
    }

    @Test("The table is bounded")
    func bounded() {
        var swim = SwimInstance(local: node(0), at: start)
        var admitted = 0
        for number in 1...4_200 where swim.admit(node(UInt64(number))) { admitted += 1 }
        #expect(admitted == 4_096)
    }
}
