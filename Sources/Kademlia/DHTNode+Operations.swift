import MeshBase
import NetAddress

/// A walk, and the write that may follow it.
struct RunningOperation: Sendable {
    var lookup: Lookup
    var isUpkeep = false
    var hasEnded = false
    /// BEP 5: announce ourselves at the end, with this port, or that of our datagrams.
    var announcing: Announcement?
    var writing: Writing?
    /// When it is forgotten, after its end.
    var expiresAt: BootInstant?

    struct Announcement: Sendable {
        /// For those who do not take the port that the datagram came from.
        var port: UInt16
    }

    struct Writing: Sendable {
        var waiting: Int
        var result = DHTStoring()
    }
}

enum WriteResult {
    case stored, conflict, failed
}

extension DHTNode {
    // MARK: - Verbs

    /// Looks for peers of `infoHash`; announces us there when `announcing` gives the port of our
    /// socket. Where others see another one, that counts.
    ///
    /// - Returns: `nil` when too many walks run already.
    package mutating func findPeers(
        of infoHash: KademliaID, announcing port: UInt16? = nil, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) -> DHTOperation? {
        let operation = walk(
            Lookup(target: infoHash, kind: .getPeers, rules: rules), at: now, random: &random,
            into: &actions)
        if let operation, let port {
            operations[operation]?.announcing = .init(port: port)
        }
        return operation
    }

    /// Looks for the newest value of a key (BEP 44).
    package mutating func get(
        _ key: NodeID, salt: [UInt8], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) -> DHTOperation? {
        walk(
            Lookup(
                target: MutableItem.target(key: key, salt: salt),
                kind: .getMutable(key, salt: salt), rules: rules),
            at: now, random: &random, into: &actions)
    }

    /// Looks for an immutable value, and for the nodes that would store it.
    package mutating func get(
        _ target: KademliaID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) -> DHTOperation? {
        walk(
            Lookup(target: target, kind: .get, rules: rules), at: now, random: &random,
            into: &actions)
    }

    /// Stores a value at the nodes at which a walk to it ended. A mutable value goes only where
    /// what the walk saw still stands (`cas`).
    ///
    /// - Returns: `false` when the walk is forgotten, runs still, or found nobody.
    package mutating func put(
        _ value: StoredValue, after operation: DHTOperation, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) -> Bool {
        guard var running = operations[operation], running.hasEnded, running.writing == nil,
            running.lookup.target == value.target
        else { return false }
        let storers = running.lookup.storers
        guard !storers.isEmpty else { return false }
        running.writing = .init(waiting: storers.count)
        running.expiresAt = nil
        operations[operation] = running
        for storer in storers {
            var comparing: Int64?
            if case .mutable = value { comparing = storer.sequence ?? 0 }
            let isAsked = ask(
                .put(value, comparing: comparing, token: storer.token ?? []), storer.address,
                for: .store(operation), at: now, random: &random, into: &actions)
            if !isAsked { wrote(operation, .failed, at: now, into: &actions) }
        }
        return true
    }

    // MARK: - Walking

    mutating func walk(
        _ start: Lookup, isUpkeep: Bool = false, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) -> DHTOperation? {
        guard operations.count < Self.operationLimit || forgetOldest() else { return nil }
        var lookup = start
        if rules.expectsCrowds {
            lookup.crowdRadius = sizes.mapValues(\.crowdRadius)
        }
        for family in AddressFamily.allCases {
            let known = tables[family]?.closest(to: lookup.target, count: 16) ?? []
            for contact in known { lookup.add(contact) }
            tables[family]?.touched(lookup.target, at: now)
        }
        if lookup.candidates.count < RoutingTable.bucketSize {
            for address in bootstrap { lookup.add(address) }
        }
        let operation = DHTOperation(number: nextOperation)
        nextOperation += 1
        operations[operation] = RunningOperation(lookup: lookup, isUpkeep: isUpkeep)
        advance(operation, at: now, random: &random, into: &actions)
        return operation
    }

    /// A finished walk makes room for a new one.
    private mutating func forgetOldest() -> Bool {
        let finished = operations.filter { $0.value.expiresAt != nil }.keys.min()
        guard let finished else { return false }
        operations[finished] = nil
        return true
    }

    /// Asks whoever is next, and ends the walk when nobody is.
    mutating func advance(
        _ operation: DHTOperation, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard let running = operations[operation], !running.hasEnded else { return }
        let (target, kind) = (running.lookup.target, running.lookup.kind)
        let method: KRPCQuery.Method =
            switch kind {
            case .findNode: .findNode(target: target)
            case .getPeers: .getPeers(infoHash: target)
            case .get, .getMutable: .get(target: target, sequence: nil)
            }
        while let address = operations[operation]?.lookup.nextUnlessFinished() {
            let isMute = kind.isGet && mute.contains(address, at: now)
            let method = isMute ? .findNode(target: target) : method
            let isAsked = ask(
                method, address, for: .walk(operation), at: now, random: &random, into: &actions)
            if !isAsked { operations[operation]?.lookup.mark(address, .failed) }
        }
        guard operations[operation]?.lookup.isFinished == true else { return }
        operations[operation]?.hasEnded = true
        end(operation, at: now, random: &random, into: &actions)
    }

    private mutating func end(
        _ operation: DHTOperation, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard let running = operations[operation] else { return }
        for family in tables.keys {
            sizes[family, default: SizeEstimate()].add(
                distances: running.lookup.nearestDistances(family))
        }
        if running.isUpkeep {
            operations[operation] = nil
            return
        }
        keepResult(of: operation, until: now + Self.resultLifetime)
        let lookup = running.lookup
        actions.append(
            .walked(
                operation,
                DHTWalk(
                    item: lookup.best, value: lookup.immutable, peers: lookup.peers,
                    answered: lookup.answeredCount, storers: lookup.storers.count)))
        guard let announcing = running.announcing, !lookup.storers.isEmpty else { return }
        operations[operation]?.writing = .init(waiting: lookup.storers.count)
        operations[operation]?.expiresAt = nil
        for storer in lookup.storers {
            let isAsked = ask(
                .announcePeer(
                    infoHash: lookup.target,
                    port: believed[storer.address.family]?.port ?? announcing.port,
                    isImplied: true, token: storer.token ?? []),
                storer.address, for: .store(operation), at: now, random: &random, into: &actions)
            if !isAsked { wrote(operation, .failed, at: now, into: &actions) }
        }
    }

    // MARK: - Writing

    mutating func wrote(
        _ operation: DHTOperation, _ result: WriteResult, at now: BootInstant,
        into actions: inout [DHTAction]
    ) {
        guard var writing = operations[operation]?.writing else { return }
        writing.waiting -= 1
        switch result {
        case .stored: writing.result.stored += 1
        case .conflict: writing.result.conflicts += 1
        case .failed: writing.result.failed += 1
        }
        if writing.waiting > 0 {
            operations[operation]?.writing = writing
        } else {
            operations[operation] = nil
            actions.append(.stored(operation, writing.result))
        }
    }
}
