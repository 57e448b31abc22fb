import MeshBase
import NetAddress

/// A Node as Kubernetes lists it.
package struct K3sNode: Hashable, Sendable {
    /// The beginning of the object's uid, which no later object repeats.
    package var id: UInt64
    package var name: String
    package var ipv4: IPAddress?
    package var isServer: Bool
    /// A server whose etcd member votes.
    package var isVoter: Bool
    package var isReady: Bool

    package init(
        id: UInt64, name: String, ipv4: IPAddress?, isServer: Bool, isVoter: Bool, isReady: Bool
    ) {
        self.id = id
        self.name = name
        self.ipv4 = ipv4
        self.isServer = isServer
        self.isVoter = isVoter
        self.isReady = isReady
    }

    package var member: DatastoreMember {
        DatastoreMember(id: id, name: name, ipv4: ipv4, isStarted: true, isLearner: !isVoter)
    }
}

extension K3sPlan {
    /// More Nodes than a mesh of the planned size has.
    package static let nodeLimit = 4096

    /// What `kubectl get nodes` is asked to print: one line of six columns per Node.
    package static let nodeColumns =
        "custom-columns=NAME:.metadata.name,UID:.metadata.uid,"
        + "IP:.status.addresses[?(@.type==\"InternalIP\")].address,"
        + "ETCD:.metadata.labels.node-role\\.kubernetes\\.io/etcd,"
        + "VOTER:.status.conditions[?(@.type==\"EtcdIsVoter\")].status,"
        + "READY:.status.conditions[?(@.type==\"Ready\")].status"

    /// Reads what `kubectl get nodes` printed with ``nodeColumns``; `nil` when a line has another
    /// shape. Versions without the condition EtcdIsVoter label a server only once it votes.
    package static func nodes(inList text: String) -> [K3sNode]? {
        var nodes: [K3sNode] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 6, nodes.count < nodeLimit,
                let id = UInt64(fields[1].filter { $0 != "-" }.prefix(16), radix: 16)
            else { return nil }
            let address = fields[2].split(separator: ",").lazy.compactMap { IPAddress(String($0)) }
                .first { $0.isIPv4 }
            let isServer = fields[3] == "true"
            nodes.append(
                K3sNode(
                    id: id, name: String(fields[0].prefix(253)), ipv4: address, isServer: isServer,
                    isVoter: isServer && (fields[4] == "True" || fields[4] == "<none>"),
                    isReady: fields[5] == "True"))
        }
        return nodes
    }

    /// What the admitting server does next for one joiner.
    package enum AdmissionStep: Hashable, Sendable {
        /// Delete this Node, its member and its node password, then decide again.
        case remove(String)
        /// Take the one place for joining servers.
        case reserve
        case grantServer
        case grantAgent
        case postpone(PostponeReason)
        case refuse(RefusalReason)
        case confirm(UInt64)
    }

    /// - Parameters:
    ///   - reservation: the joiner that holds the place for joining servers, by its name.
    ///
    /// A Node of the joiner's own name goes only when the joiner names its id (its data and its
    /// node password are lost, since it asks without any). A Node of the same host name under an
    /// older identity goes when Kubernetes finds it not ready and no living machine of the mesh
    /// bears its name.
    package static func admissionStep(
        _ admission: Admission, nodes: [K3sNode], reservation: String?
    ) -> AdmissionStep {
        let joiner = admission.joiner
        if let own = nodes.first(where: { $0.name == joiner.name }) {
            return admission.replaces == own.id ? .remove(own.name) : .confirm(own.id)
        }
        if let sameAddress = nodes.first(where: { $0.ipv4 == joiner.ipv4 }) {
            return sameAddress.isReady ? .refuse(.addressInUse) : .remove(sameAddress.name)
        }
        let namesakes = nodes.filter { node in
            hostLabel(node.name) == hostLabel(joiner.name)
                && !admission.livingNamesakes.contains(node.name)
        }
        if let stale = namesakes.first(where: { !$0.isReady }) { return .remove(stale.name) }
        if admission.wish == .agent { return .grantAgent }
        // Kubernetes needs a while to see that a machine is gone; its place may become free.
        if !namesakes.isEmpty { return .postpone(.anotherJoining) }
        let servers = nodes.filter(\.isServer)
        if servers.count >= admission.serverLimit {
            if admission.wish == .server { return .postpone(.full) }
            return servers.allSatisfy(\.isVoter) ? .grantAgent : .postpone(.anotherJoining)
        }
        if let reservation {
            return reservation == joiner.name ? .grantServer : .postpone(.anotherJoining)
        }
        return servers.allSatisfy(\.isVoter) ? .reserve : .postpone(.anotherJoining)
    }

    /// `host` of `host-1a2b3c`.
    private static func hostLabel(_ name: String) -> Substring {
        name.dropLast(7)
    }
}
