import Cryptography

/// Which peer has which place in the per-peer tables. A peer keeps its slot as long as it stays.
struct SlotAssignment {
    private var slots: [StaticPublicKey: PeerSlot] = [:]
    private var keys: [StaticPublicKey?] = []
    private var generations: [UInt64] = []
    private var vacant: [Int32] = []
    private var nextGeneration: UInt64 = 1
    private let capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
    }

    /// More than the greatest slot in use.
    var count: Int { keys.count }

    func slot(of key: StaticPublicKey) -> PeerSlot? { slots[key] }

    /// The peer that the slot belonged to when it had this generation, if it still does.
    func key(at slot: PeerSlot) -> StaticPublicKey? {
        let index = Int(slot.index)
        guard keys.indices.contains(index), generations[index] == slot.generation else {
            return nil
        }
        return keys[index]
    }

    /// The peer's slot, new or old; `nil` when all are taken.
    mutating func assign(_ key: StaticPublicKey) -> PeerSlot? {
        if let slot = slots[key] { return slot }
        let index: Int32
        if let free = vacant.popLast() {
            index = free
        } else if keys.count < capacity {
            index = Int32(keys.count)
            keys.append(nil)
            generations.append(0)
        } else {
            return nil
        }
        let slot = PeerSlot(index: index, generation: nextGeneration)
        nextGeneration += 1
        keys[Int(index)] = key
        generations[Int(index)] = slot.generation
        slots[key] = slot
        return slot
    }

    /// Frees the slots of all peers that are not in `kept`.
    mutating func release(except kept: Set<StaticPublicKey>) {
        for index in keys.indices {
            guard let key = keys[index], !kept.contains(key) else { continue }
            keys[index] = nil
            slots[key] = nil
            vacant.append(Int32(index))
        }
    }
}
