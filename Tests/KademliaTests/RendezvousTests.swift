import Cryptography
import Kademlia
import MeshBase
import NetAddress
import Testing

@Suite("Members that share only the token meet on a DHT of strangers")
struct RendezvousTests {
    private let secret = SecretBytes(copying: [UInt8](repeating: 1, count: 32))
    private let otherSecret = SecretBytes(copying: [UInt8](repeating: 2, count: 32))

    private func member(_ number: UInt8) -> NodeID {
        SigningKey(seed: SecretBytes(copying: [UInt8](repeating: number, count: 32))).publicKey
    }

    /// `count` strangers that serve.
    private func strangers(_ count: Int, loss: Double = 0, seed: UInt64) -> VirtualDHT {
        var dht = VirtualDHT(seed: seed)
        dht.loss = loss
        for index in 0..<count {
            dht.add(place(index), rules: .plain, bootstrap: index == 0 ? [] : [place(0)])
        }
        dht.run(for: .seconds(10))
        return dht
    }

    private func hasFound(_ dht: VirtualDHT, _ finder: Int, _ number: UInt8) -> Bool {
        dht.found[place(finder)]?.contains(member(number).bytes.prefix64) ?? false
    }

    @Test(arguments: [(1, 0), (20, 0), (20, 0.2)], [1, 2, 3] as [UInt64])
    func twoMeet(_ world: (count: Int, loss: Double), _ seed: UInt64) {
        var dht = strangers(world.count, loss: world.loss, seed: seed)
        for number in [101, 102] {
            dht.add(
                place(number), rules: .plain, bootstrap: [place(0)], member: member(UInt8(number)),
                secret: secret)
        }
        let begin = dht.now
        let haveMet = dht.run(until: dht.now + .seconds(120)) {
            hasFound($0, 101, 102) && hasFound($0, 102, 101)
        }
        print("measured: two members met after \(dht.now - begin), \(world), seed \(seed)")
        #expect(haveMet)
    }

    @Test(arguments: [-3_000, 3_000, 540, -540] as [Int64])
    func clocksMayDisagree(_ error: Int64) {
        var dht = strangers(10, seed: 4)
        // A member whose clock is wrong is alone; the others know each other.
        dht.clockError[place(101)] = error
        dht.add(
            place(101), rules: .plain, bootstrap: [place(0)], member: member(101), secret: secret)
        dht.add(
            place(102), rules: .plain, bootstrap: [place(0)], member: member(102), secret: secret)
        let haveMet = dht.run(until: dht.now + .seconds(600)) {
            hasFound($0, 101, 102) || hasFound($0, 102, 101)
        }
        #expect(haveMet)
    }

    @Test func twentyThatComeAtOnceAllGetKnown() {
        var dht = strangers(10, seed: 5)
        for number in 101..<121 {
            dht.add(
                place(number), rules: .plain, bootstrap: [place(0)], member: member(UInt8(number)),
                secret: secret)
        }
        let haveMet = dht.run(until: dht.now + .seconds(60)) { dht in
            (101..<121).allSatisfy { !(dht.found[place($0)] ?? []).isEmpty }
        }
        #expect(haveMet, "everybody found somebody")
    }

    /// Two halves that each work stay apart for ever if nobody looks any more.
    @Test func halvesOfAMeshMeetAfterAPartition() {
        var dht = strangers(10, seed: 6)
        let far = Set([105, 106].map(place) + [place(0), place(2), place(4)])
        dht.farSide = far
        for number in [101, 102, 105, 106] {
            let guide = number < 105 ? place(1) : place(0)
            dht.add(
                place(number), rules: .plain, bootstrap: [guide, place(0)],
                member: member(UInt8(number)), secret: secret)
        }
        dht.run(for: .seconds(120))
        for number in [101, 102, 105, 106] {
            dht.with(place(number)) { agent, now, _, _ in agent.setAlone(false, at: now.boot) }
        }
        #expect(!hasFound(dht, 101, 105) && !hasFound(dht, 105, 101))
        dht.run(for: .seconds(1_200))
        dht.farSide = []
        let haveMet = dht.run(until: dht.now + .seconds(3_600)) { dht in
            [101, 102].contains { near in [105, 106].contains { hasFound(dht, near, UInt8($0)) } }
                || [105, 106].contains { far in
                    [101, 102].contains { hasFound(dht, far, UInt8($0)) }
                }
        }
        #expect(haveMet)
    }

    /// Hours pass, slots change, and a newcomer is still welcome.
    @Test func aNewcomerMeetsAMeshThatRunsForHours() {
        var dht = strangers(10, seed: 7)
        for number in [101, 102] {
            dht.add(
                place(number), rules: .plain, bootstrap: [place(0)], member: member(UInt8(number)),
                secret: secret)
        }
        dht.run(for: .seconds(60))
        for number in [101, 102] {
            dht.with(place(number)) { agent, now, _, _ in agent.setAlone(false, at: now.boot) }
        }
        for hour in 1...3 {
            dht.run(for: .seconds(3_600 + 700 * hour))
            let newcomer = 110 + hour
            dht.add(
                place(newcomer), rules: .plain, bootstrap: [place(0)],
                member: member(UInt8(newcomer)), secret: secret)
            let haveMet = dht.run(until: dht.now + .seconds(30)) {
                hasFound($0, newcomer, 101) || hasFound($0, newcomer, 102)
            }
            #expect(haveMet, "hour \(hour)")
            dht.remove(place(newcomer))
        }
    }

    /// Whoever is alone asks often at first and ever more rarely; losing company begins anew.
    @Test func whoStaysAloneAsksEverMoreRarely() {
        var random = SeededGenerator(seed: 11)
        var meeting = Rendezvous(node: member(1), secret: secret, at: .zero)
        var passed = Duration.zero
        func looks(for span: Duration) -> Int {
            let end = passed + span
            var count = 0
            while let due = meeting.deadline, due < .zero + end {
                passed = max(passed, due - .zero)
                // Far from the edges of an hour, where two hours count.
                let wall = WallTime(
                    seconds: 472_222 * 3_600 + 620 + Int64(passed.inSeconds), nanoseconds: 0)
                let now = Now(boot: .zero + passed, wall: wall)
                var actions: [RendezvousAction] = []
                meeting.timeout(at: now, random: &random, into: &actions)
                for case .look(let slot, _, _) in actions {
                    count += 1
                    meeting.read(
                        slot, item: nil, storers: 0, at: now, random: &random, into: &actions)
                }
            }
            passed = end
            return count
        }
        let first = looks(for: .seconds(60))
        _ = looks(for: .seconds(1_800))
        let later = looks(for: .seconds(480))
        #expect(first >= 40 && later >= 8 && later <= 48, "\(first), then \(later)")
        meeting.setAlone(false, at: .zero + passed)
        let inCompany = looks(for: .seconds(60))
        #expect(inCompany <= 8, "\(inCompany)")
        meeting.setAlone(true, at: .zero + passed)
        let again = looks(for: .seconds(60))
        #expect(again >= 40, "\(again)")
    }

    @Test func anotherTokenMeetsNobody() {
        var dht = strangers(10, seed: 8)
        dht.add(
            place(101), rules: .plain, bootstrap: [place(0)], member: member(101), secret: secret)
        dht.add(
            place(102), rules: .plain, bootstrap: [place(0)], member: member(102),
            secret: otherSecret)
        dht.run(for: .seconds(300))
        #expect(dht.found.isEmpty)
    }

    /// Whoever stores a slot sees its name, its key and its bytes, and can neither read it nor
    /// write what members take.
    @Test func outsidersNeitherListNorInsert() throws {
        var random = SeededGenerator(seed: 9)
        let slot = RendezvousSlot(epoch: 472_222, index: 3)
        let now = Now(boot: .zero, wall: WallTime(seconds: 472_222 * 3_600 + 1_800))
        let node = try #require(
            (0..<200).map { member(UInt8($0)) }.first {
                RendezvousSlot(of: $0, epoch: slot.epoch) == slot
            })
        var inside = Rendezvous(node: node, secret: secret, at: .zero)
        inside.setEndpoints([place(1)], at: .zero)
        let made = written(by: &inside, slot, at: now, random: &random)
        let item = try #require(made)
        // No address and no node id stands in it.
        #expect(!item.value.contains(place(1).compact))
        #expect(!item.value.contains(Array(node.bytes.bytes.prefix(8))))

        // With the key that everybody sees, but not the content's key, nothing can be made.
        var reader = Rendezvous(node: member(200), secret: secret, at: .zero)
        var actions: [RendezvousAction] = []
        reader.timeout(at: now, random: &random, into: &actions)
        var forged = item
        forged.value = Bencode.bytes(random.bytes(448)).encoded
        #expect(!forged.isAuthentic)
        actions = []
        reader.read(
            slot, item: forged, storers: 0, at: now, random: &random, into: &actions)
        #expect(actions.count == 1 && actions[0].isDropped)
        // Another hour's content does not pass for this hour's.
        var later = Rendezvous(node: member(200), secret: secret, at: .zero)
        let nextHour = Now(boot: .zero, wall: WallTime(seconds: now.wall.seconds + 3_600))
        actions = []
        later.timeout(at: nextHour, random: &random, into: &actions)
        actions = []
        later.read(
            RendezvousSlot(epoch: slot.epoch + 1, index: 3), item: item, storers: 0, at: nextHour,
            random: &random, into: &actions)
        #expect(!actions.contains { !$0.isDropped })
    }

    /// The size tells nothing: it is the same for one record and for six.
    @Test func everySlotHasTheSameSize() throws {
        var random = SeededGenerator(seed: 10)
        let now = Now(boot: .zero, wall: WallTime(seconds: 472_222 * 3_600 + 1_800))
        var stored: MutableItem?
        var count = 0
        for number in 0..<UInt8(120) {
            let node = member(number)
            let slot = RendezvousSlot(of: node, epoch: 472_222)
            guard slot.index == 0 else { continue }
            var meeting = Rendezvous(node: node, secret: secret, at: .zero)
            meeting.setEndpoints([place(1), place(2)], at: .zero)
            guard
                let item = written(
                    by: &meeting, slot, over: stored, at: now, random: &random)
            else { continue }
            #expect(item.value.count == 452)
            #expect(item.sequence > stored?.sequence ?? 0)
            stored = item
            count += 1
        }
        #expect(count >= 4)
    }

    private func written(
        by meeting: inout Rendezvous, _ slot: RendezvousSlot, over stored: MutableItem? = nil,
        at now: Now, random: inout SeededGenerator
    ) -> MutableItem? {
        var actions: [RendezvousAction] = []
        meeting.timeout(at: now, random: &random, into: &actions)
        actions = []
        meeting.read(
            slot, item: stored, storers: 8, at: now, random: &random, into: &actions)
        for case .write(_, let item) in actions { return item }
        return nil
    }
}

extension RendezvousAction {
    fileprivate var isDropped: Bool {
        if case .dropped = self { true } else { false }
    }
}
