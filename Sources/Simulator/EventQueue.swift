import MeshBase

/// Events ordered by time and, at the same time, by the order in which they were added.
struct EventQueue<Event> {
    private struct Item {
        let time: BootInstant
        let order: UInt64
        let event: Event

        func isBefore(_ other: Item) -> Bool {
            (time, order) < (other.time, other.order)
        }
    }

    /// A binary heap with the next event first.
    private var heap: [Item] = []
    private var added: UInt64 = 0

    var nextTime: BootInstant? { heap.first?.time }

    mutating func add(_ event: Event, at time: BootInstant) {
        added += 1
        heap.append(Item(time: time, order: added, event: event))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func popFirst() -> (time: BootInstant, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        return (first.time, first.event)
    }

    private mutating func sink() {
        var parent = 0
        while true {
            let left = 2 * parent + 1
            guard left < heap.count else { return }
            let right = left + 1
            let smaller = right < heap.count && heap[right].isBefore(heap[left]) ? right : left
            guard heap[smaller].isBefore(heap[parent]) else { return }
            heap.swapAt(parent, smaller)
            parent = smaller
        }
    }
}
