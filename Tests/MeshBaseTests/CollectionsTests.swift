import MeshBase
import Testing

@Test func aFullQueueLetsTheOldestGo() {
    var queue = BoundedDeque<Int>(capacity: 3)
    #expect(queue.isEmpty)
    for number in 1...3 { #expect(queue.append(number) == nil) }
    #expect(queue.append(4) == 1)
    #expect(queue.append(5) == 2)
    #expect(Array(queue.elements) == [3, 4, 5])
    #expect(queue.popFirst() == 3)
    #expect(queue.count == 2)
    queue.removeAll()
    #expect(queue.isEmpty && queue.popFirst() == nil)
    #expect(queue.append(6) == nil)
    #expect(Array(queue.elements) == [6])
}

@Test(arguments: [1, 2, 7]) func aQueueBehavesLikeAnArray(capacity: Int) {
    var random = SeededGenerator(seed: UInt64(capacity))
    var queue = BoundedDeque<UInt64>(capacity: capacity)
    var model: [UInt64] = []
    for _ in 0..<2_000 {
        if random.next() % 3 == 0 {
            #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
        } else {
            let value = random.next()
            model.append(value)
            let dropped = model.count > capacity ? model.removeFirst() : nil
            #expect(queue.append(value) == dropped)
        }
        #expect(Array(queue.elements) == model)
        #expect(queue.count == model.count)
    }
}

private func hash(_ mix: (inout Fingerprint) -> Void) -> UInt64 {
    var fingerprint = Fingerprint()
    mix(&fingerprint)
    return fingerprint.value
}

@Test func fingerprintsTellStatesApart() {
    let hashes = [
        hash { _ in },
        hash { $0.mix(0) },
        hash { $0.mix(true) },
        hash { $0.mix(false) },
        hash { $0.mix([0]) },
        hash { $0.mix([0, 0]) },
        hash { $0.mix([UInt8](repeating: 0, count: 8)) },
        hash { $0.mix([UInt8](repeating: 0, count: 9)) },
        hash {
            $0.mix("ab")
            $0.mix("c")
        },
        hash {
            $0.mix("a")
            $0.mix("bc")
        },
        hash { $0.mix(BootInstant?.none) },
        hash { $0.mix(BootInstant(nanoseconds: 7)) },
    ]
    #expect(Set(hashes).count == hashes.count)
}

/// The value is part of recorded traces: it must not depend on the process.
@Test func fingerprintsAreTheSameEverywhere() {
    let value = hash {
        $0.mix(1)
        $0.mix(2)
    }
    let again = hash {
        $0.mix(UInt64(1))
        $0.mix(UInt64(2))
    }
    #expect(value == again)
    #expect(
        value
            != hash {
                $0.mix(2); $0.mix(1)
            })
}
