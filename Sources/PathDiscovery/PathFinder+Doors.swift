import MeshBase
import NetAddress

/// Another local UDP port, for one member.
///
/// A router that accepts what comes to itself makes an entry of a knock that came too early. The
/// own flow to where the knock came from then clashes with it and is given another port, and every
/// further knock keeps the entry alive. After an address changed, the packets under way are such
/// knocks. A port that was never used has no such entry anywhere.
struct Door {
    let id: UInt32
    let openedAt: BootInstant
    var port: UInt16?
    /// Where others see it.
    var observed: SocketAddress?
    /// Somebody was asked how it is seen.
    var hasWitnesses = false
    /// Probes through it that are not answered yet, oldest first.
    var probes: [UInt64] = []

    /// One per member that moved lately.
    static let limit = 32
    /// Two rounds of knocking at every address of a member.
    static let probeLimit = 96
    /// A member that is asked how it sees the door has answered by then.
    static let patience = Duration.milliseconds(400)
}

extension PathFinder {
    /// Whether knocking at the member may begin: with a door if there shall be one, as soon as it
    /// is known how others see it.
    mutating func doorIsReady(
        for node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) -> Bool {
        guard configuration.hasCarrier, let path = peers[node], path.wishesDoor else {
            return true
        }
        if let door = path.door {
            return door.observed != nil || now - door.openedAt >= Door.patience
        }
        guard doors.count - (birthday?.doors.count ?? 0) < Door.limit else { return true }
        let id = UInt32(truncatingIfNeeded: random.next())
        guard doors[id] == nil else { return true }
        doors[id] = node
        peers[node]?.door = Door(id: id, openedAt: now)
        actions.append(.carrier(.openDoor(id)))
        return false
    }

    /// Asks two members how they see the door.
    mutating func doorOpened(
        _ id: UInt32, port: UInt16, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        if birthdayDoorOpened(id, at: now, random: &random, into: &actions) { return }
        guard let owner = doors[id], peers[owner]?.door?.id == id else {
            actions.append(.carrier(.closeDoor(id)))
            return
        }
        peers[owner]?.door?.port = port
        let witnesses = peers.compactMap { node, path -> (NodeID, SocketAddress)? in
            guard node != owner, let address = path.address, !address.isStandIn,
                address.ip.isIPv4, !address.ip.isPrivate,
                path.ways[address]?.isLive(at: now) == true
            else { return nil }
            return (node, address)
        }.sorted { $0.0 < $1.0 }.prefix(2)
        peers[owner]?.door?.hasWitnesses = !witnesses.isEmpty
        for (node, address) in witnesses {
            probe(node, through: owner, at: address, hops: nil, random: &random, into: &actions)
            // What broke the way may have changed how the usual port is seen, too.
            probe(node, at: address, now: now, random: &random, into: &actions)
        }
        peers[owner]?.nextCheck = now + .milliseconds(50)
    }

    /// Sends one probe to `node` through the door that is there for `owner`.
    mutating func probe(
        _ node: NodeID, through owner: NodeID, at address: SocketAddress, hops: UInt8?,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard var door = peers[owner]?.door, door.port != nil else { return }
        let id = random.next()
        door.probes.append(id)
        if door.probes.count > Door.probeLimit { door.probes.removeFirst() }
        peers[owner]?.door = door
        guard
            let datagram = sealed(
                ProbeMessage.ping(id: id).encode(), for: node, random: &random)
        else { return }
        actions.append(.carrier(.send(datagram, door: door.id, to: address, hops: hops)))
    }

    /// Takes the answer to a probe through a door; whether it was one.
    mutating func doorAnswered(
        _ id: UInt64, by node: NodeID, at source: SocketAddress, seen: SocketAddress,
        now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) -> Bool {
        guard source.isDoor,
            let owner = doors.values.first(where: { peers[$0]?.door?.probes.contains(id) == true })
        else { return false }
        peers[owner]?.door?.probes.removeAll { $0 == id }
        guard owner == node else {
            // A witness.
            if seen.isUsableCandidate, !seen.ip.isPrivate, peers[owner]?.door?.observed != seen {
                peers[owner]?.door?.observed = seen
                // The other end has to hear of it, and open, before anything comes from there.
                if let punch = peers[owner]?.punch {
                    peers[owner]?.punch = Punch(
                        startedAt: now, nextSend: now, hasCalled: punch.hasCalled)
                }
            }
            peers[owner]?.nextCheck = now
            return true
        }
        proved(node, at: source, roundTrip: nil, now: now, into: &actions)
        probe(node, at: source, now: now, random: &random, into: &actions)
        return true
    }

    /// Whether a datagram from `address` may become a way to `node`: what comes to a door that is
    /// there for another member does not.
    func admits(_ node: NodeID, from address: SocketAddress) -> Bool {
        guard address.isDoor else { return true }
        guard case .door(let id)? = sideWays[address]?.kind else { return false }
        return doors[id] == node
    }

    /// Whether knocks may go through the door: before it is known how others see it, the other end
    /// would not have opened for it, and they would spoil it.
    func knocksThroughDoor(_ path: PeerPath) -> Bool {
        path.door.map { $0.observed != nil || !$0.hasWitnesses } ?? false
    }

    /// Closes the door unless it is in use.
    mutating func closeIdleDoor(
        of node: NodeID, at now: BootInstant, into actions: inout [PathAction]
    ) {
        guard let path = peers[node], let door = path.door, path.punch == nil,
            now - door.openedAt > Punch.longest,
            !path.ways.contains(where: { $0.key.isDoor && $0.value.isLive(at: now) })
        else { return }
        closeDoor(of: node, into: &actions)
    }

    mutating func closeDoor(of node: NodeID, into actions: inout [PathAction]) {
        guard let door = peers[node]?.door else { return }
        peers[node]?.door = nil
        doors[door.id] = nil
        actions.append(.carrier(.closeDoor(door.id)))
    }

    /// How the member may find the door: as others see it, or as a NAT that keeps ports shows it.
    func doorCandidates(for node: NodeID) -> [SocketAddress] {
        guard let door = peers[node]?.door, let port = door.port else { return [] }
        if let seen = door.observed { return [seen] }
        let own = observations.last { $0.address.ip.isIPv4 }?.address.ip
        return own.map { [SocketAddress(ip: $0, port: port)] } ?? []
    }
}
