import MeshBase
import NetAddress

/// An attempt to reach a member by TCP.
struct Dial: Hashable {
    var address: SocketAddress
    var kind: StreamKind
}

/// Looks for a member with a TCP port while nothing from afar answers by UDP.
struct StreamSearch {
    private(set) var nextLook: BootInstant?
    /// Since when something does, while streams are still open.
    var answeredSince: BootInstant?
    /// When those who answer by TCP were tried by UDP.
    var lastKnock: BootInstant?
    var rounds = 0
    var dialling: [Dial: BootInstant] = [:]

    /// Two hellos and their pauses: whoever is there has answered by then.
    static let patience = Duration.milliseconds(1_500)
    /// Streams that a node keeps: the second is there when the first breaks.
    static let wanted = 2
    /// Attempts at once: one member's plain port and 443, of two members.
    static let dialLimit = 4
    /// Longer than any carrier tries.
    static let dialTime = Duration.seconds(10)
    /// UDP has to answer so long before streams are given up.
    static let relapse = Duration.seconds(60)

    mutating func look(at time: BootInstant) {
        nextLook = earlier(nextLook, time)
    }

    mutating func looked() {
        nextLook = nil
    }
}

// A network that drops UDP, from start to relay:
//   1. hellos stay unanswered for a moment, whatever address they go to
//   2. the addresses of members are tried by TCP: their UDP port's number, and TLS on 443
//   3. a stream gets an address that stands for it, a hello goes there, a member answers
//   4. it is one more way to that member, and that member a relay like any other
//   5. when UDP has answered for a minute, the streams are closed
extension PathFinder {
    /// Whether some member on another network answers by UDP.
    private func hasUDPFromAfar(at now: BootInstant) -> Bool {
        peers.values.contains { path in
            path.ways.contains { address, way in
                !address.isStandIn && !address.ip.isPrivate && !address.ip.isLinkLocal
                    && way.isLive(at: now)
            }
        }
    }

    /// Some member is sought: look, but not before it had time to answer.
    mutating func streamsMayBeNeeded(at now: BootInstant) {
        guard configuration.hasCarrier, search.nextLook == nil else { return }
        search.look(at: now + StreamSearch.patience)
    }

    mutating func lookForStreams(at now: BootInstant, into actions: inout [PathAction]) {
        guard configuration.hasCarrier, let due = search.nextLook, due <= now else { return }
        search.looked()
        search.dialling = search.dialling.filter { now - $0.value < StreamSearch.dialTime }
        if hasUDPFromAfar(at: now) {
            giveUpStreams(at: now, into: &actions)
            return
        }
        search.answeredSince = nil
        knockAgain(at: now)
        let waits = dials
        guard !waits.isEmpty else { return }
        let open = sideWays.values.count(where: \.isDialled)
        guard open < StreamSearch.wanted else { return }
        for offset in waits.indices where search.dialling.count < StreamSearch.dialLimit {
            let dial = waits[(search.rounds * StreamSearch.dialLimit + offset) % waits.count]
            guard search.dialling[dial] == nil else { continue }
            search.dialling[dial] = now
            actions.append(.carrier(.connect(dial.address, dial.kind)))
        }
        search.rounds += 1
        // 1 s, doubled with every round, at most a minute.
        search.look(at: now + .seconds(min(60, 1 << min(search.rounds / 2, 6))))
    }

    /// Whether UDP comes through again is tried now and then where TCP does.
    private mutating func knockAgain(at now: BootInstant) {
        let members = sideWays.values.filter { $0.kind == .dialled(.plain) }.map(\.remote)
        guard !members.isEmpty else { return }
        if now - (search.lastKnock ?? .zero) >= StreamSearch.relapse {
            search.lastKnock = now
            for address in members.sorted() {
                addContact(address, source: .lan, at: now)
            }
        }
        search.look(at: now + StreamSearch.relapse)
    }

    private mutating func giveUpStreams(at now: BootInstant, into actions: inout [PathAction]) {
        search.rounds = 0
        let open = sideWays.filter { $0.value.isDialled }.keys
        guard !open.isEmpty else { return }
        let since = search.answeredSince ?? now
        search.answeredSince = since
        guard now - since >= StreamSearch.relapse else {
            search.look(at: since + StreamSearch.relapse)
            return
        }
        for address in open.sorted(by: { $0.port < $1.port }) {
            actions.append(.carrier(.disconnect(address)))
        }
    }

    /// Where a member may listen, those that the user named first.
    private var dials: [Dial] {
        let known = contacts.filter { !$0.key.isStandIn }.sorted {
            $0.value.source == $1.value.source
                ? $0.key < $1.key : $0.value.source > $1.value.source
        }
        // Private addresses of another network lead nowhere, unless the user knows better.
        var addresses = known.filter { !$0.key.ip.isPrivate || $0.value.source == .configured }
            .map(\.key)
        for node in peers.keys.sorted() {
            for address in (peers[node]?.candidates ?? []) + (peers[node]?.knownAddresses ?? [])
            where !address.isStandIn && !address.ip.isPrivate && !addresses.contains(address) {
                addresses.append(address)
            }
        }
        let taken = Set(sideWays.values.map(\.remote.ip))
        var result: [Dial] = []
        for address in addresses where !address.ip.isLinkLocal && !taken.contains(address.ip) {
            result.append(Dial(address: address, kind: .plain))
            let secure = SocketAddress(ip: address.ip, port: 443)
            let dial = Dial(address: secure, kind: .tls)
            if !result.contains(dial) { result.append(dial) }
        }
        return result
    }
}
