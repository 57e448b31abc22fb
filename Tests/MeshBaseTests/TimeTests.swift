import MeshBase
import Testing

@Test func instantsSaturateInsteadOfTrapping() {
    let late = BootInstant.distantFuture
    #expect(late + .seconds(1) == late)
    #expect(late + .zero == late)
    #expect(BootInstant.zero - .seconds(1) == .zero)
    #expect(BootInstant.zero + .seconds(-5) == .zero)
    #expect(BootInstant(nanoseconds: 5) + .nanoseconds(-5) == .zero)
    #expect(BootInstant(nanoseconds: .max - 1) + .nanoseconds(1) == late)
}

@Test func differencesHaveASign() {
    let early = BootInstant(nanoseconds: 1_000)
    let late = BootInstant(nanoseconds: 2_500)
    #expect(late - early == .nanoseconds(1_500))
    #expect(early - late == .nanoseconds(-1_500))
    #expect(early - early == .zero)
    #expect(BootInstant.distantFuture - .zero == .nanoseconds(Int64.max))
    #expect(BootInstant.zero - BootInstant.distantFuture == .nanoseconds(-Int64.max))
}

@Test func addingAndSubtractingUndoEachOther() {
    var random = SeededGenerator(seed: 3)
    for _ in 0..<1_000 {
        let instant = BootInstant(nanoseconds: 1 << 62 | random.next() >> 3)
        let duration = Duration.nanoseconds(Int64(bitPattern: random.next()) >> 2)
        #expect((instant + duration) - instant == duration)
        #expect((instant + duration) - duration == instant)
    }
}

@Test func timersMeetAtTheNextMultiple() {
    let second = 1_000_000_000 as UInt64
    for (instant, next) in [
        (0, second), (1, second), (second - 1, second), (second, 2 * second), (.max - 1, .max),
    ] as [(UInt64, UInt64)] {
        let met = BootInstant(nanoseconds: instant).nextMultiple(of: .seconds(1))
        #expect(met.nanoseconds == next)
    }
    #expect(BootInstant(nanoseconds: 7).nextMultiple(of: .nanoseconds(5)).nanoseconds == 10)
    #expect(BootInstant(nanoseconds: 7).nextMultiple(of: .zero).nanoseconds == 8)
}

private let clamped: [(duration: Duration, nanoseconds: Int64)] = [
    (.zero, 0), (.nanoseconds(1), 1), (.nanoseconds(-1), -1),
    (.seconds(1), 1_000_000_000), (.seconds(-2), -2_000_000_000),
    (.milliseconds(-1_500), -1_500_000_000), (.seconds(Int64.max), .max),
    (.seconds(Int64.min), .min), (.seconds(9_223_372_036) + .nanoseconds(854_775_807), .max),
    (.seconds(9_223_372_037), .max), (.seconds(-9_223_372_037), .min),
    (Duration(secondsComponent: 0, attosecondsComponent: 999_999_999), 0),
]

@Test(arguments: clamped.indices) func durationsClampToNanoseconds(index: Int) {
    #expect(clamped[index].duration.clampedNanoseconds == clamped[index].nanoseconds)
}

@Test func instantsReadAsSeconds() {
    #expect(BootInstant(nanoseconds: 0).description == "0.000s")
    #expect(BootInstant(nanoseconds: 12_034_999_999).description == "12.034s")
    #expect(BootInstant(nanoseconds: 1_200_000_000).description == "1.200s")
}

@Test func theEarlierOfTwoDeadlines() {
    let one = BootInstant(nanoseconds: 1)
    let two = BootInstant(nanoseconds: 2)
    #expect(earlier(nil, nil) == nil)
    #expect(earlier(one, nil) == one)
    #expect(earlier(nil, two) == two)
    #expect(earlier(two, one) == one)
}

@Test func wallTimesCompareBySecondsFirst() {
    #expect(WallTime(seconds: -5, nanoseconds: 9) < WallTime(seconds: -4))
    #expect(WallTime(seconds: 7, nanoseconds: 1) < WallTime(seconds: 7, nanoseconds: 2))
}
