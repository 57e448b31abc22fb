import MeshBase
import Testing

@Suite struct SojournLimitTests {
    private let start = BootInstant(nanoseconds: 10_000_000_000)

    @Test func aBurstIsServedWhole() {
        var limit = SojournLimit()
        // A hundred at once, each of which takes 8 ms: the last one waits for 0.8 s.
        for index in 0..<100 {
            let isServed = limit.admits(from: start, at: start + .milliseconds(8 * index))
            #expect(isServed)
        }
    }

    @Test func aQueueThatIsNeverShortServesWhatIsFresh() {
        var limit = SojournLimit()
        // Twice as much comes as is served, and what is thrown away costs nothing.
        var queue: [BootInstant] = []
        var arrival = start
        var now = start
        var waits: [Duration] = []
        while now < start + .seconds(60) {
            while arrival <= now {
                queue.append(arrival)
                arrival = arrival + .milliseconds(5)
            }
            let next = queue.removeFirst()
            guard limit.admits(from: next, at: now) else { continue }
            waits.append(now - next)
            now = now + .milliseconds(10)
        }
        #expect(waits.count == 6_000, "it is always busy")
        #expect(waits.allSatisfy { $0 < .seconds(1) })
    }

    @Test func afterAShortQueueTheNextBurstIsServedWhole() {
        var limit = SojournLimit()
        let later = start + .seconds(2)
        let verdicts = [
            (waited: 1_000, at: start), (1_000, later), (100, later), (101, later),
        ].map { waited, now in limit.admits(from: now - .milliseconds(waited), at: now) }
        #expect(verdicts == [true, false, true, true])
    }

    @Test func anEmptyQueueWasShort() {
        var limit = SojournLimit()
        let later = start + .seconds(3_600)
        let first = limit.admits(from: start - .seconds(1), at: start)
        limit.emptied()
        let second = limit.admits(from: later - .seconds(1), at: later)
        #expect(first && second, "two that waited, an hour apart, are no long queue")
    }
}
