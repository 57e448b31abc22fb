import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import WireGuard

/// What packets say about paths, and what paths mean for packets.
extension Node {
    /// Sends a datagram to an address of a network, or over the relay that an address stands for.
    mutating func transmit(
        _ datagram: [UInt8], to address: SocketAddress, into actions: inout [NodeAction]
    ) {
        guard let (bytes, target) = paths.route(datagram, to: address) else {
            drop("relay is gone")
            return
        }
        actions.append(.send(bytes, to: target))
    }

    /// A datagram on a channel: to be carried on, or ours.
    mutating func receiveRelayed(
        _ bytes: [UInt8], from source: SocketAddress, at now: Now,
        into actions: inout [NodeAction]
    ) {
        switch paths.relayed(bytes, from: source) {
        case .forward(let target):
            actions.append(.send(bytes, to: target))
        case .arrived(let datagram, let address):
            // A relay does not use relays, so nothing is wrapped twice.
            guard RelayFrame.channel(of: datagram) == nil else {
                drop("relayed twice")
                return
            }
            receiveDatagram(datagram, from: address, at: now, into: &actions)
        case nil:
            drop("unknown channel")
        }
    }

    /// An authenticated tunnel packet came from `address`.
    mutating func heardTunnel(
        _ key: StaticPublicKey, from address: SocketAddress, at now: Now,
        into actions: inout [NodeAction]
    ) {
        guard let node = membersByKey[key] else { return }
        noteActivity(of: node)
        var results: [PathAction] = []
        paths.heard(node, from: address, at: now.boot, random: &random, into: &results)
        carryOut(results, at: now, into: &actions)
        // The tunnel follows by itself; what the paths say counts.
        if let chosen = paths.address(of: node) {
            tunnels.setEndpoint(key, chosen)
            pathMTUMoved(node, to: chosen, at: now, into: &actions)
        }
        actions.append(.forwardingChanged)
    }

    /// Packets to a member take another way from now on.
    mutating func pathSelected(
        _ node: NodeID, _ address: SocketAddress, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node] else { return }
        let key = member.certificate.staticKey
        if member.endpoint != address {
            let kind =
                address.isRelayed
                ? "through a relay"
                : (address.isStream ? "by TCP at " : "at ") + "\(paths.remote(of: address))"
            actions.append(.log(.info, "member \(node.short) is reached \(kind)"))
        }
        pathMTUMoved(node, to: address, at: now, into: &actions)
        tunnels.setEndpoint(key, address)
        actions.append(.forwardingChanged)
        let isWaiting = !member.waiting.isEmpty
        if member.sending == nil, isWaiting || wantsSession(with: node), member.suites != nil {
            connect(key, at: now, into: &actions)
        }
    }

    /// A stream or another UDP port came or went.
    mutating func carrierReported(
        _ report: CarrierReport, at now: Now, into actions: inout [NodeAction]
    ) {
        var results: [PathAction] = []
        paths.carrierReported(report, at: now.boot, random: &random, into: &results)
        carryOut(results, at: now, into: &actions)
        runPaths(at: now, into: &actions)
    }

    /// Others see this machine elsewhere, and what led to them may lead nowhere now.
    mutating func waysOutChanged(at now: Now, into actions: inout [NodeAction]) {
        actions.append(.log(.info, "packets leave this machine by another way"))
        var results: [PathAction] = []
        paths.waysOutChanged(at: now.boot, random: &random, into: &results)
        carryOut(results, at: now, into: &actions)
    }

    /// Tells the paths when data of a member last passed; it is asked for before they decide about it.
    mutating func noteActivity(of node: NodeID) {
        guard let member = members[node], member.sending != nil else { return }
        var sent: BootInstant?
        var received: BootInstant?
        for session in member.sessions {
            let activity = session.activity
            sent = [sent, activity.lastDataSent].compactMap { $0 }.max()
            received = [received, activity.lastReceived].compactMap { $0 }.max()
        }
        paths.noteActivity(node, sent: sent, received: received)
    }

    /// What a relayed datagram from `source` is, for an interpreter that opens packets itself.
    package func relayed(_ bytes: [UInt8], from source: SocketAddress) -> RelayedDatagram? {
        paths.relayed(bytes, from: source)
    }

    /// What the packet threads need of channels.
    package var relaying: RelayingRoutes {
        RelayingRoutes(carried: paths.carriedChannels, ended: paths.endedChannels)
    }
}

/// The channels of relays as the packet threads see them.
package struct RelayingRoutes: Hashable, Sendable {
    package let carried: [CarriedChannel]
    package let ended: [OwnChannel]
}
