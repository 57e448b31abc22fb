import MeshBase
import NetAddress

/// Why a machine is not taken out of the datastore from here, in words for a person.
package enum ClusterRemoveProblem: Error, Hashable, Sendable {
    /// Only a healthy voting member changes who the members are.
    case notServing
    /// No member and no agent is called that.
    case unknown
    /// Several are.
    case ambiguous([String])
    /// This machine leaves by itself.
    case itself
    /// The mesh hears it.
    case alive(String)

    package var text: String {
        switch self {
        case .notServing: "this machine is no server of a datastore that has a quorum"
        case .unknown: "no member and no agent is called that"
        case .ambiguous(let names): "several are called that: \(names.joined(separator: ", "))"
        case .itself: "this is the machine that was asked"
        case .alive(let name): "\(name) is alive"
        }
    }
}

/// Taking a machine out that cannot leave by itself any more: the place of a dead server becomes free.
extension ClusterCoordinator {
    /// Orders the removal of a dead member or agent; when it is done, it is in no list any more.
    ///
    /// - Parameter text: its name in the datastore, or its host name when only one bears it.
    /// - Returns: its name in the datastore.
    package mutating func remove(
        machine text: String, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) throws(ClusterRemoveProblem) -> String {
        guard isReadyServer, let last = observed.last else { throw .notServing }
        let names = Set(last.members.map(\.name) + last.agents.map(\.name))
        let name = try resolve(text, among: names)
        let member = last.members.first { $0.name == name }
        let bearers = peers.values.filter { peer in
            EtcdPlan.memberName(hostname: peer.hostname, node: peer.id) == name
                || member?.ipv4 != nil && peer.ipv4 == member?.ipv4
        }
        guard name != ownName, !bearers.contains(where: { $0.id == configuration.node }) else {
            throw .itself
        }
        guard !bearers.contains(where: { $0.isAlive }) else { throw .alive(name) }
        let peer = bearers.min { $0.id < $1.id }
        let node = peer?.id ?? last.agents.first { $0.name == name }?.node ?? NodeID(.zero)
        // What is not known of it compares equal to nobody's.
        let identity = HostIdentity(
            name: name, node: node, ipv4: member?.ipv4 ?? peer?.ipv4 ?? .v4(0),
            ipv6: peer?.ipv6 ?? .v6(0, 0), dnsName: "")
        if case .expel(let current, _) = pending?.command, current.name == name { return name }
        desk.leavers.removeAll { $0.identity.name == name }
        desk.leavers.insert(
            Leaver(identity: identity, nonce: random.bytes(JoinMessage.nonceCount)), at: 0)
        advance(at: now, random: &random, into: &actions)
        return name
    }

    private func resolve(
        _ text: String, among names: Set<String>
    ) throws(ClusterRemoveProblem) -> String {
        // A member that never started has no name.
        guard !text.isEmpty else { throw .unknown }
        if names.contains(text) { return text }
        let bearers = names.filter { name in
            name.lastIndex(of: "-").map { name[..<$0] == text } ?? false
        }.sorted()
        guard let first = bearers.first else { throw .unknown }
        guard bearers.count == 1 else { throw .ambiguous(bearers) }
        return first
    }
}
