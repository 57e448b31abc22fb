import Cryptography
import Glibc
import Kademlia
import MeshBase
import NetAddress
import Testing

/// Machines go without a word and others come, hour after hour. A longer run:
///
///     CHURN_NODES=1000 CHURN_HOURS=24 swift test -c release --filter ChurnTests
@Suite("Members come and go")
struct ChurnTests {
    private static func setting(_ name: String, _ usual: Int) -> Int {
        getenv(name).flatMap { Int(String(cString: $0)) } ?? usual
    }

    private let secret = SecretBytes(copying: [UInt8](repeating: 1, count: 32))
    private let signer = SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 9, count: 32)))

    private func member(_ number: Int) -> NodeID {
        var writer = ByteWriter()
        writer.write(UInt64(number))
        writer.pad(to: 32)
        return NodeID(Bytes32(writer.bytes) ?? .zero)
    }

    /// In each minute one of a hundred machines goes, and a new one comes that knows one address.
    @Test func oneInAHundredPerMinuteLeavesEverybodyFindable() throws {
        let count = ChurnTests.setting("CHURN_NODES", 200)
        let minutes = ChurnTests.setting("CHURN_HOURS", 2) * 60
        var dht = VirtualDHT(seed: 1)
        dht.isSociable = true
        var live: [SocketAddress] = []
        var born: [SocketAddress: BootInstant] = [:]
        func add(_ dht: inout VirtualDHT) {
            let address = place(born.count)
            let known =
                live.isEmpty ? [] : [live[Int(dht.random.next(upperBound: UInt64(live.count)))]]
            dht.add(
                address, rules: .members, bootstrap: known, member: member(born.count),
                secret: secret)
            born[address] = dht.now
            live.append(address)
        }
        for _ in 0..<count { add(&dht) }
        let haveMet = dht.run(until: dht.now + .seconds(30)) { dht in
            live.allSatisfy { dht.found[$0] != nil && dht.agents[$0]?.node.nodeCount ?? 0 >= 8 }
        }
        #expect(haveMet, "\(live.count { dht.found[$0] == nil }) have found nobody")
        print("measured: \(count) members that start at once have met by \(dht.now)")

        let before = dht.sentBytes
        let begin = dht.now
        for minute in 0..<minutes {
            dht.run(for: .seconds(60))
            if minute > 0, minute.isMultiple(of: 60) {
                let reached = connected(live, in: dht)
                print("\(minute / 60) h: \(born.count - count) were replaced, connected \(reached)")
                fflush(nil)
            }
            let share = max(1, count / 100)
            for _ in 0..<share {
                let leaving = live.remove(at: Int(dht.random.next(upperBound: UInt64(live.count))))
                dht.remove(leaving)
            }
            // Only then, as who is told nothing but the address of one that leaves before it asked
            // can meet nobody.
            for _ in 0..<share { add(&dht) }
        }
        dht.run(for: .seconds(60))
        let seconds = (dht.now - begin).inSeconds
        print(
            "measured: \(born.count - count) of \(count) members were replaced; each sends "
                + "\(Double(dht.sentBytes - before) / seconds / Double(count)) bytes of KRPC a second"
        )

        #expect(connected(live, in: dht) == [count, count])
        #expect(live.allSatisfy { dht.found[$0]?.isEmpty == false }, "each found a member")

        // What one writes another one reads, whoever they are.
        var lost = 0
        for number in 0..<50 {
            let pair = (0..<2).map { _ in live[Int(dht.random.next(upperBound: UInt64(count)))] }
            let salt = [UInt8](repeating: UInt8(number), count: 4)
            let item = MutableItem(signing: .text("x"), with: signer, salt: salt, sequence: 1)
            let get = { (dht: inout VirtualDHT, address: SocketAddress) in
                dht.walk(address) {
                    $0.get(signer.publicKey, salt: salt, at: $1, random: &$2, into: &$3)
                }
            }
            guard let walk = get(&dht, pair[0]) else { continue }
            _ = dht.put(.mutable(item), after: walk.operation, from: pair[0])
            lost += get(&dht, pair[1])?.walk.item == item ? 0 : 1
        }
        #expect(lost == 0)
    }

    /// How many stand in tables through which one of them comes to them, and how many come to it.
    private func connected(_ live: [SocketAddress], in dht: VirtualDHT) -> [Int] {
        let present = Set(live)
        var known: [SocketAddress: [SocketAddress]] = [:]
        var knownBy: [SocketAddress: [SocketAddress]] = [:]
        for (address, agent) in dht.agents {
            for contact in agent.node.contacts(.v4) where present.contains(contact.address) {
                known[address, default: []].append(contact.address)
                knownBy[contact.address, default: []].append(address)
            }
        }
        return [known, knownBy].map { edges in
            var reached: Set = [live[0]]
            var waiting = [live[0]]
            while let next = waiting.popLast() {
                for other in edges[next] ?? [] where reached.insert(other).inserted {
                    waiting.append(other)
                }
            }
            return reached.count
        }
    }
}
