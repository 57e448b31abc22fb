import MeshBase
import Testing
import WireGuard

/// A search and a path that answers every probe it carries, 20 ms later.
private struct PathWorld {
    var search = PathMTUSearch(full: 1452)
    var now = BootInstant(nanoseconds: 1_000_000_000)
    /// The largest datagram that passes; 0 for a dead path.
    var carries: Int
    var bytesSent: UInt64 = 0
    private(set) var probes: [Int] = []
    private(set) var limits: [Int] = []
    private var answers: [(BootInstant, UInt32)] = []

    init(carries: Int) {
        self.carries = carries
    }

    mutating func begin() {
        var actions: [PathMTUAction] = []
        search.begin(at: now, into: &actions)
        carryOut(actions)
    }

    mutating func run(for duration: Duration, bytesPerSecond: UInt64 = 0) {
        let end = now + duration
        while now < end {
            let next = min(answers.first?.0 ?? end, search.deadline ?? end, end)
            bytesSent += UInt64((next - now) / .milliseconds(1)) * bytesPerSecond / 1000
            now = max(now, next)
            var actions: [PathMTUAction] = []
            if let (due, number) = answers.first, due <= now {
                answers.removeFirst()
                search.receive(answerTo: number, at: now, into: &actions)
            }
            search.timeout(at: now, bytesSent: bytesSent, into: &actions)
            carryOut(actions)
        }
    }

    private mutating func carryOut(_ actions: [PathMTUAction]) {
        for action in actions {
            switch action {
            case .probe(let size, let number):
                probes.append(size)
                bytesSent += UInt64(size)
                if size <= carries { answers.append((now + .milliseconds(20), number)) }
            case .limitChanged(let limit): limits.append(limit)
            }
        }
    }
}

@Suite("The search for a path's MTU")
struct PathMTUTests {
    @Test("ends after one probe where the full size passes, and then stays silent")
    func fullPath() {
        var world = PathWorld(carries: 1452)
        world.begin()
        world.run(for: .seconds(3600))
        #expect(world.probes == [1452])
        #expect(world.search.limit == 1452 && world.limits.isEmpty)
    }

    @Test(
        "finds every smaller path to within 16 bytes, from below",
        arguments: [1232, 1233, 1247, 1248, 1252, 1300, 1372, 1400, 1444, 1451])
    func smallerPath(carries: Int) {
        var world = PathWorld(carries: carries)
        world.begin()
        world.run(for: .seconds(12))
        #expect(world.search.limit <= carries && world.search.limit > carries - 16)
        // At once something that every path carries, and never more than is proven.
        #expect(world.limits.first == 1232)
        #expect(world.limits.allSatisfy { $0 <= carries })
        #expect(world.probes.count <= 20)
    }

    @Test("notices a black hole within 20 seconds of traffic, and the cure within 10 minutes")
    func blackHole() {
        var world = PathWorld(carries: 1452)
        world.begin()
        world.run(for: .seconds(60), bytesPerSecond: 100_000)
        #expect(world.search.limit == 1452)
        world.carries = 1300
        world.run(for: .seconds(20), bytesPerSecond: 100_000)
        #expect(world.search.limit <= 1300)
        world.carries = 1452
        world.run(for: .seconds(605), bytesPerSecond: 100_000)
        #expect(world.search.limit == 1452)
    }

    @Test("survives the loss of single probes")
    func loss() {
        var world = PathWorld(carries: 0)
        world.begin()
        world.run(for: .milliseconds(900))
        world.carries = 1452
        // The third and last try passes.
        world.run(for: .seconds(1))
        #expect(world.probes == [1452, 1452, 1452])
        #expect(world.search.limit == 1452 && world.limits.isEmpty)
    }

    @Test("a dead path ends at the base, and the search stops")
    func dead() {
        var world = PathWorld(carries: 0)
        world.begin()
        world.run(for: .seconds(30))
        #expect(world.search.limit == PathMTUSearch.base)
        let count = world.probes.count
        world.run(for: .seconds(300))
        #expect(world.probes.count == count)
    }

    @Test("answers to nothing change nothing")
    func strayAnswers() {
        var world = PathWorld(carries: 1300)
        world.begin()
        world.run(for: .milliseconds(10))
        for number: UInt32 in [0, 2, 77, .max] {
            var before = Fingerprint()
            world.search.fingerprint(into: &before)
            var actions: [PathMTUAction] = []
            world.search.receive(answerTo: number, at: world.now, into: &actions)
            var after = Fingerprint()
            world.search.fingerprint(into: &after)
            #expect(before.value == after.value && actions.isEmpty)
        }
    }
}
