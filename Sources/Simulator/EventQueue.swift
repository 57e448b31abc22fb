import MeshBase

/// Events ordered by time and, at the same time, by the order in which they were added.
struct EventQueue<Event> {
    private struct Item {
        let time: BootInstant
        let order: UInt64
        /// Where the event is: events are large, and items change places often.
        let slot: Int

        func isBefore(_ other: Item) -> Bool {
            (time, order) < (other.time, other.order)
        }
    }

    /// A binary heap with the next event first.
    private var heap: [Item] = []
    private var events: [Event?] = []
    private var freeSlots: [Int] = []
    private var added: UInt64 = 0

    var nextTime: BootInstant? { heap.first?.time }

    mutating func add(_ event: Event, at time: BootInstant) {
        added += 1
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            events[free] = event
        } else {
            slot = events.count
            events.append(event)
        }
        heap.append(Item(time: time, order: added, slot: slot))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func popFirst() -> (time: BootInstant, event: Event)? {
        guard let first = heap.first, let event = events[first.slot] else { return nil }
        events[first.slot] = nil
        freeSlots.append(first.slot)
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        return (first.time, event)
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
