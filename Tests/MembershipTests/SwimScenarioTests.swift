import MeshBase
import Membership
import Testing

@Suite("SWIM scenarios")
struct SwimScenarioTests {
    @Test("Twenty nodes mark a dead one within 15 s", arguments: 1...10)
    func deadWithinBound(seed: UInt64) {
        var network = SwimNetwork(count: 20, seed: seed)
        network.run(for: .seconds(20))
        #expect(network.changes.isEmpty, "a healthy mesh has no news")
        let death = network.now
        network.running.remove(7)
        network.run(for: .seconds(60)) { $0.everybody($0.running, sees: 7, as: .dead) }
        #expect(network.everybody(network.running, sees: 7, as: .dead))
        #expect(network.now - death <= .seconds(15), "took \(network.now - death)")
        let others = network.changes.filter { $0.subject != 7 }
        #expect(others.isEmpty, "nobody else was accused: \(others)")
        #expect(network.longest <= 512)
    }

    @Test("With 20 % loss a dead node is still marked, and no living one", arguments: 1...4)
    func deadUnderLoss(seed: UInt64) {
        var network = SwimNetwork(count: 20, seed: seed)
        network.loss = 0.2
        network.run(for: .seconds(30))
        let death = network.now
        network.running.remove(3)
        network.run(for: .seconds(60)) { $0.everybody($0.running, sees: 3, as: .dead) }
        #expect(network.now - death <= .seconds(30), "took \(network.now - death)")
        #expect(network.changes.allSatisfy { $0.state != .dead || $0.subject == 3 })
    }

    @Test("No false death at 20 % loss in ten minutes", arguments: [2, 5, 20])
    func noFalsePositive(count: Int) {
        var network = SwimNetwork(count: count, seed: 77)
        network.loss = 0.2
        network.run(for: .seconds(600))
        let deaths = network.changes.filter { $0.state == .dead }
        #expect(deaths.isEmpty, "\(deaths)")
        #expect(network.changes.contains { $0.state == .suspect }, "the loss was felt")
    }

    @Test("Everybody knows within 2 s who left, and nobody calls it dead", arguments: 1...5)
    func leave(seed: UInt64) {
        var network = SwimNetwork(count: 20, seed: seed)
        network.run(for: .seconds(5))
        let goodbye = network.now
        network.input(4) { $0.leave(at: $1, into: &$2) }
        network.run(for: .seconds(10)) { $0.everybody($0.running, sees: 4, as: .left) }
        #expect(network.now - goodbye <= .seconds(2), "took \(network.now - goodbye)")
        network.run(for: .seconds(2))
        #expect(network.nodes[4].deadline == nil, "a node that left falls silent")
        network.running.remove(4)
        network.run(for: .seconds(60))
        #expect(network.everybody(network.running, sees: 4, as: .left))
        #expect(!network.changes.contains { $0.state == .dead })
    }

    @Test("A node that left or died comes back under its old name", arguments: [true, false])
    func comeBack(politely: Bool) {
        var network = SwimNetwork(count: 12, seed: 5)
        network.run(for: .seconds(5))
        if politely { network.input(4) { $0.leave(at: $1, into: &$2) } }
        network.run(for: .seconds(3))
        network.running.remove(4)
        network.run(for: .seconds(40))
        let gone: MemberState = politely ? .left : .dead
        #expect(network.everybody(network.running, sees: 4, as: gone))

        var fresh = SwimInstance(local: network.ids[4], at: network.now)
        for (other, id) in network.ids.enumerated() where other != 4 { fresh.admit(id) }
        network.nodes[4] = fresh
        network.running.insert(4)
        let contact = network.ids[9]
        let newcomer = network.ids[4]
        network.input(4) { $0.heard(from: contact, at: $1, into: &$2) }
        network.input(9) { $0.heard(from: newcomer, at: $1, into: &$2) }
        network.run(for: .seconds(30)) { net in
            net.everybody(net.running, sees: 4, as: .alive)
                && net.running.allSatisfy { net.everybody([4], sees: $0, as: .alive) }
        }
        #expect(network.everybody(network.running, sees: 4, as: .alive))
        for other in network.running {
            #expect(network.everybody([4], sees: other, as: .alive), "it sees \(other)")
        }
    }

    @Test("A stranger to everybody learns the whole table from one contact")
    func firstContact() {
        var network = SwimNetwork(count: 15, seed: 8, acquainted: false)
        for node in 1..<15 {
            let id = network.ids[node]
            let first = network.ids[0]
            network.input(0) { $0.heard(from: id, at: $1, into: &$2) }
            network.input(node) { $0.heard(from: first, at: $1, into: &$2) }
        }
        network.run(for: .seconds(20))
        for node in 0..<15 {
            #expect(network.everybody(0..<15, sees: node, as: .alive))
        }
    }

    @Test("A newcomer to a quiet mesh of forty learns the whole table from passing messages")
    func quietMesh() {
        var network = SwimNetwork(count: 40, seed: 14)
        network.run(for: .seconds(20))
        var fresh = SwimInstance(local: network.ids[4], at: network.now)
        for (other, id) in network.ids.enumerated() where other != 4 { fresh.admit(id) }
        network.nodes[4] = fresh
        let contact = network.ids[9]
        network.input(4) { $0.heard(from: contact, at: $1, into: &$2) }
        network.run(for: .seconds(30))
        let unseen = (0..<40).filter { !network.everybody([4], sees: $0, as: .alive) }
        #expect(unseen.isEmpty)
    }

    @Test("The halves of a partition find each other again")
    func partition() {
        var network = SwimNetwork(count: 10, seed: 6)
        network.run(for: .seconds(5))
        for node in 5..<10 { network.group[node] = 1 }
        network.run(for: .seconds(120))
        #expect(network.everybody(0..<5, sees: 8, as: .dead))
        #expect(network.everybody(5..<10, sees: 2, as: .dead))
        #expect(network.everybody(0..<5, sees: 3, as: .alive))
        for node in 5..<10 { network.group[node] = 0 }
        network.run(for: .seconds(90))
        for node in 0..<10 { #expect(network.everybody(0..<10, sees: node, as: .alive)) }
    }

    @Test("One silent link is bridged by helpers: nobody is suspected")
    func indirectProbes() {
        var network = SwimNetwork(count: 5, seed: 3)
        // Nodes 0 and 1 cannot talk; 2, 3 and 4 talk to both.
        network.cut = [0, 1]
        network.run(for: .seconds(120))
        #expect(network.changes.isEmpty, "\(network.changes)")
    }

    @Test("A suspended node does not bury its peers when it wakes")
    func suspend() {
        var network = SwimNetwork(count: 6, seed: 4)
        network.run(for: .seconds(5))
        network.running.remove(2)
        network.run(for: .seconds(300))
        network.changes = []
        network.running.insert(2)
        network.run(for: .seconds(30))
        let buried = network.changes.filter { $0.observer == 2 && $0.state == .dead }
        #expect(buried.isEmpty)
        #expect(network.everybody(0..<6, sees: 2, as: .alive))
    }

    @Test("Peers that carry traffic are not probed at all")
    func trafficIsProof() {
        var network = SwimNetwork(count: 3, seed: 2)
        network.run(for: .seconds(1))
        let before = network.sent
        for _ in 0..<200 {
            for observer in 0..<3 {
                for subject in 0..<3 where subject != observer {
                    let id = network.ids[subject]
                    network.input(observer) { $0.heard(from: id, at: $1, into: &$2) }
                }
            }
            network.run(for: .milliseconds(200))
        }
        #expect(network.sent - before < 10, "only what was under way at the start")
    }

    @Test("An idle mesh stays below 1 kB/s and node")
    func idleTraffic() {
        var network = SwimNetwork(count: 50, seed: 9)
        network.run(for: .seconds(30))
        network.sentBytes = 0
        network.run(for: .seconds(60))
        let rate = network.sentBytes / 60 / 50
        #expect(rate < 1_000, "\(rate) B/s")
    }
}
