import MeshBase
import NetAddress

/// Why a machine cannot leave the datastore now, in words for a person.
package enum ClusterLeaveProblem: Error, Hashable, Sendable {
    /// It is no member and no agent that runs.
    case notInside
    /// Without this server the datastore would be gone.
    case lastServer

    package var text: String {
        switch self {
        case .notInside: "this machine is not a running part of the cluster"
        case .lastServer: "this machine is the only server that votes"
        }
    }
}

/// Leaving for good: a server that stays removes the leaver from the datastore, then the leaver
/// stops its own part, renames its data and remembers that it has left.
extension ClusterCoordinator {
    struct Departure: Hashable, Sendable {
        var cluster: ClusterIdentity
        var role: DatastoreRole
        var nonce: [UInt8]
        var target: NodeID?
        var tried: [NodeID] = []
        var sendAt: BootInstant?
        var giveUpAt: BootInstant?
        /// A server has removed this machine.
        var isRemoved = false
    }

    /// A leaver at this server's desk.
    struct Leaver: Hashable, Sendable {
        var identity: HostIdentity
        var nonce: [UInt8]
    }

    /// Begins to leave; `cluster status` tells how far it is.
    package mutating func leave(
        at now: Now, random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) throws(ClusterLeaveProblem) {
        guard case .running(let cluster, let role) = stage else { throw .notInside }
        if role == .server {
            let own = (name: ownName, address: peers[configuration.node]?.ipv4)
            let others =
                observed.last?.members.filter { member in
                    !member.isLearner && member.name != own.name && member.ipv4 != own.address
                } ?? []
            guard !others.isEmpty else { throw .lastServer }
        }
        withdrawFacts(into: &actions)
        enter(
            .leaving(
                Departure(
                    cluster: cluster, role: role, nonce: random.bytes(JoinMessage.nonceCount))),
            at: now)
        advance(at: now, random: &random, into: &actions)
    }

    mutating func advanceLeaving(
        _ current: Departure, at now: Now, into actions: inout [ClusterAction]
    ) {
        guard pending == nil, notBefore == nil else { return }
        // After a reset nobody is left who could remove it, or needs to.
        if current.isRemoved || founding.generation > current.cluster.generation {
            order(.retire(generation: current.cluster.generation), at: now, into: &actions)
            return
        }
        var departure = current
        defer { stage = .leaving(departure) }
        if let giveUpAt = departure.giveUpAt, giveUpAt <= now.boot, let target = departure.target {
            departure.tried.append(target)
            departure.target = nil
        }
        if departure.target == nil {
            let servers = peers.keys.filter { canAsk($0, in: departure.cluster) }.sorted()
            if !servers.contains(where: { !departure.tried.contains($0) }) { departure.tried = [] }
            departure.target = servers.first { !departure.tried.contains($0) }
            departure.sendAt = now.boot
            departure.giveUpAt = now.boot + ClusterTiming.departureSilence
        }
        guard let target = departure.target else {
            departure.giveUpAt = nil
            departure.sendAt = now.boot + ClusterTiming.requestInterval
            return
        }
        if let sendAt = departure.sendAt, sendAt <= now.boot {
            departure.sendAt = now.boot + ClusterTiming.requestInterval
            actions.append(
                .send(to: target, JoinMessage.leave(nonce: departure.nonce).encoded))
        }
    }

    /// A machine says that it leaves; the tunnel says that it is that machine.
    mutating func takeLeave(_ nonce: [UInt8], from peer: ClusterPeer) -> ClusterDropReason? {
        guard isReadyServer, let identity = identity(of: peer) else { return .unexpected }
        if case .expel(let current, _) = pending?.command, current.node == peer.id { return nil }
        desk.leavers.removeAll { $0.identity.node == peer.id }
        guard desk.leavers.count < AdmissionDesk.queueLimit else { return nil }
        desk.leavers.append(Leaver(identity: identity, nonce: nonce))
        return nil
    }

    mutating func takeLeft(_ nonce: [UInt8], from sender: NodeID) -> ClusterDropReason? {
        guard case .leaving(var departure) = stage, departure.nonce == nonce,
            departure.target == sender
        else { return .unexpected }
        departure.isRemoved = true
        stage = .leaving(departure)
        return nil
    }
}
