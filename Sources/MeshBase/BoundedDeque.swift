/// A queue that never holds more than `capacity` elements.
///
/// Appending to a full queue drops the oldest element and returns it, so the caller can count it.
package struct BoundedDeque<Element> {
    private var storage: [Element] = []
    private var head = 0
    package let capacity: Int

    package init(capacity: Int) {
        precondition(capacity > 0, "a queue without room is a mistake")
        self.capacity = capacity
    }

    package var count: Int { storage.count - head }
    package var isEmpty: Bool { count == 0 }

    /// Appends `element`; returns the element that had to leave, if any.
    @discardableResult
    package mutating func append(_ element: Element) -> Element? {
        let dropped = count == capacity ? popFirst() : nil
        storage.append(element)
        return dropped
    }

    package mutating func popFirst() -> Element? {
        guard head < storage.count else { return nil }
        let element = storage[head]
        head += 1
        if head == storage.count || head > capacity {
            storage.removeFirst(head)
            head = 0
        }
        return element
    }

    package mutating func removeAll() {
        storage.removeAll()
        head = 0
    }

    /// The elements from oldest to newest.
    package var elements: ArraySlice<Element> { storage[head...] }
}

extension BoundedDeque: Sendable where Element: Sendable {}
