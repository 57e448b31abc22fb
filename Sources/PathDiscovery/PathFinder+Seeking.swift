import MeshBase
import NetAddress

/// Looking for members that are known, without asking more than helps.
extension PathFinder {
    /// Looks for a member at these addresses. Where it answers it is only asked again, which costs a
    /// tenth of a hello.
    ///
    /// - Parameter isForced: knocks there, too, to hear what it says of itself.
    package mutating func seek(
        _ node: NodeID, at addresses: [SocketAddress], isForced: Bool, at now: BootInstant
    ) {
        for address in addresses where !ownAddresses.contains(address) && !address.isStandIn {
            if !isForced, let way = peers[node]?.ways[address], way.isLive(at: now) {
                guard now - (way.lastPing ?? .zero) > way.patience else { continue }
                peers[node]?.ways[address]?.lastPing = nil
                peers[node]?.nextCheck = now
            } else {
                knockAgain(at: address, at: now)
            }
        }
    }

    mutating func knockAgain(at address: SocketAddress, at now: BootInstant) {
        guard contacts[address] == nil, contacts.count < Self.contactLimit else { return }
        contacts[address] = Contact(source: .member, nextAttempt: now)
    }

    /// Whether the way in use answered a moment ago, and has answered everything since.
    package func isConfirmed(_ node: NodeID, at now: BootInstant) -> Bool {
        guard let path = peers[node], let way = path.address.flatMap({ path.ways[$0] }),
            let answered = way.lastPong
        else { return false }
        return way.missed == 0 && now - answered < .seconds(5)
    }

    /// Between ways that are as good, the end with the greater id follows the other one.
    func agrees(
        with node: NodeID, on address: SocketAddress, at now: BootInstant
    ) -> Bool {
        guard configuration.node > node, let path = peers[node], let present = path.address,
            present.isDirect, address.isDirect, let way = path.ways[address],
            way.isLive(at: now), way.missed == 0
        else { return false }
        let choice = PathSelector.choose(path.views(at: now), current: address)
        return choice?.address == address
    }

    /// Learns how long answers take here. Somebody who was away answers late, too: only what comes
    /// within the first few hellos tells of slowness.
    mutating func noteWelcome(_ contact: Contact, at now: BootInstant) {
        guard contact.attempts <= 4, let began = contact.beganAt else { return }
        usualWelcome = min(max(now - began, usualWelcome * 3 / 4), Self.slowestWelcome)
    }
}
