import MeshBase
import NetAddress

/// How etcd is named, configured and read: pure text in and out. Written for 3.4, in the options
/// that 3.5 and 3.6 kept.
package enum EtcdPlan {
    /// etcd's registered ports.
    package static let clientPort = 2379
    package static let peerPort = 2380
    /// Milliseconds. A follower waits between one and two election timeouts before it stands for
    /// election; two rounds of the longer wait are 12 s, so a killed leader leaves the datastore
    /// writable within 15 s even when the first vote is split. 400 ms between heartbeats tolerates
    /// the same round-trip time. All members must agree, so these are constants.
    package static let heartbeatInterval = 400
    package static let electionTimeout = 3000
    /// A host name of 63 bytes, a dash and six digits.
    package static let nameLimit = 70
    /// The prefix under which agents register themselves in the datastore.
    package static let agentPrefix = "/edgevpn-swift/agents/"
    /// More agents than a mesh of the planned size (1,000 nodes) has.
    package static let agentLimit = 4096
    /// etcd refuses more members long before; this bounds what a reader builds.
    package static let memberLimit = 64

    /// `host-1a2b3c`: host names may repeat, node ids do not.
    package static func memberName(hostname: String, node: NodeID) -> String {
        var label = [UInt8]()
        for byte in hostname.utf8.prefix(63) {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): label.append(byte + 32)
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                label.append(byte)
            default: label.append(UInt8(ascii: "-"))
            }
        }
        while label.first == UInt8(ascii: "-") { label.removeFirst() }
        if label.isEmpty { label = Array("node".utf8) }
        return String(decoding: label, as: UTF8.self) + "-" + node.description.prefix(6)
    }

    package static func peerURL(_ address: IPAddress) -> String {
        "https://\(address):\(peerPort)"
    }

    package static func clientURL(_ address: IPAddress) -> String {
        "https://\(address):\(clientPort)"
    }

    /// The address in `https://a.b.c.d:port`; `nil` for anything but a literal IPv4 URL.
    package static func address(inURL url: some StringProtocol) -> IPAddress? {
        guard url.hasPrefix("https://") else { return nil }
        return SocketAddress(String(url.dropFirst(8))).map { $0.ip }
    }

    /// What etcd's configuration file is made of.
    package struct Configuration: Hashable, Sendable {
        package var name: String
        package var address: IPAddress
        package var dataDirectory: String
        package var authorityFile: String
        package var certificateFile: String
        package var keyFile: String
        /// `name=url` pairs separated by commas.
        package var initialCluster: String
        package var isNewCluster: Bool
        package var clusterToken: String

        package init(
            name: String, address: IPAddress, dataDirectory: String, authorityFile: String,
            certificateFile: String, keyFile: String, initialCluster: String,
            isNewCluster: Bool, clusterToken: String
        ) {
            self.name = name
            self.address = address
            self.dataDirectory = dataDirectory
            self.authorityFile = authorityFile
            self.certificateFile = certificateFile
            self.keyFile = keyFile
            self.initialCluster = initialCluster
            self.isNewCluster = isNewCluster
            self.clusterToken = clusterToken
        }

        /// The file's text. `initial-*` keys are ignored by etcd once its data directory exists.
        package var text: String {
            let peer = quoted(peerURL(address))
            let client = quoted(clientURL(address))
            let security = """
                  cert-file: \(quoted(certificateFile))
                  key-file: \(quoted(keyFile))
                  trusted-ca-file: \(quoted(authorityFile))
                  client-cert-auth: true
                """
            return """
                name: \(quoted(name))
                data-dir: \(quoted(dataDirectory))
                listen-peer-urls: \(peer)
                listen-client-urls: \(client)
                initial-advertise-peer-urls: \(peer)
                advertise-client-urls: \(client)
                initial-cluster: \(quoted(initialCluster))
                initial-cluster-token: \(quoted(clusterToken))
                initial-cluster-state: \(isNewCluster ? "new" : "existing")
                strict-reconfig-check: true
                pre-vote: true
                heartbeat-interval: \(heartbeatInterval)
                election-timeout: \(electionTimeout)
                auto-compaction-mode: periodic
                auto-compaction-retention: '1h'
                logger: zap
                log-level: info
                log-outputs: [stderr]
                client-transport-security:
                \(security)
                peer-transport-security:
                \(security)

                """
        }
    }

    /// A YAML single-quoted scalar.
    private static func quoted(_ text: String) -> String {
        var result = "'"
        for character in text {
            if character == "'" { result.append("'") }
            result.append(character)
        }
        return result + "'"
    }
}

// MARK: - Reading etcdctl

extension EtcdPlan {
    /// Reads `etcdctl member list` in its simple format; `nil` when a line has another shape.
    ///
    ///     9b3a086a2dfd84a0, started, name, https://10.1.0.1:2380, https://10.1.0.1:2379, false
    package static func members(inList text: String) -> [DatastoreMember]? {
        var members: [DatastoreMember] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ",", omittingEmptySubsequences: false)
                .map { trimmed($0) }
            guard fields.count == 6, let id = UInt64(fields[0], radix: 16),
                ["started", "unstarted"].contains(fields[1]),
                ["true", "false"].contains(fields[5]), members.count < memberLimit
            else { return nil }
            members.append(
                DatastoreMember(
                    id: id, name: String(fields[2].prefix(nameLimit)),
                    ipv4: address(inURL: fields[3]), isStarted: fields[1] == "started",
                    isLearner: fields[5] == "true"))
        }
        return members.isEmpty ? nil : members
    }

    /// Reads `etcdctl member add`: the new member's id and the `name=url` list, which is the
    /// membership as of the change itself.
    package static func addition(
        inOutput text: String
    ) -> (id: UInt64, initialCluster: String, count: Int)? {
        var id: UInt64?
        var cluster: String?
        for line in text.split(separator: "\n") {
            if line.hasPrefix("Member "), let word = line.split(separator: " ").dropFirst().first {
                id = UInt64(word, radix: 16)
            }
            if line.hasPrefix("ETCD_INITIAL_CLUSTER=") {
                cluster = line.dropFirst("ETCD_INITIAL_CLUSTER=".count)
                    .filter { $0 != "\"" }
            }
        }
        guard let id, let cluster, !cluster.isEmpty else { return nil }
        return (id, cluster, cluster.split(separator: ",").count)
    }

    /// Reads `etcdctl get --prefix` over ``agentPrefix``: a line with the key, a line with the
    /// name. Foreign lines are skipped: any client may write there.
    package static func agents(inOutput text: String) -> [ClusterAgent] {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var agents: [ClusterAgent] = []
        var index = 0
        while index + 1 < lines.count, agents.count < agentLimit {
            let key = lines[index]
            if key.hasPrefix(agentPrefix),
                let bytes = [UInt8](hex: key.dropFirst(agentPrefix.count)),
                let node = Bytes32(bytes), lines[index + 1].utf8.count <= nameLimit
            {
                agents.append(ClusterAgent(name: String(lines[index + 1]), node: NodeID(node)))
                index += 2
            } else {
                index += 1
            }
        }
        return agents
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while text.first == " " { text = text.dropFirst() }
        while text.last == " " || text.last == "\r" { text = text.dropLast() }
        return text
    }
}

// MARK: - Deciding an admission

extension EtcdPlan {
    /// What the admitting server does next for one joiner.
    package enum AdmissionStep: Hashable, Sendable {
        /// Remove this member, then decide again with the new list.
        case remove(UInt64)
        case addLearner
        case grantAgent
        case postpone(PostponeReason)
        case refuse(RefusalReason)
        case confirm(UInt64)
    }

    /// Longer than etcd takes to start again; short of an operator's patience.
    package static let silenceLimit = Duration.seconds(30)

    /// Whether both are called `host-` and six digits.
    package static func isNamesake(_ member: DatastoreMember, of joiner: HostIdentity) -> Bool {
        member.name != joiner.name && member.name.utf8.count > 7
            && member.name.dropLast(7) == joiner.name.dropLast(7)
    }

    /// A member of the joiner's own name that never started is a left-over of an earlier try and
    /// goes. One that did start goes only when the joiner names its id: ids are never reused, so a
    /// delayed request cannot remove a member that joined after it was sent.
    ///
    /// - Parameters:
    ///   - silence: for how long members with the joiner's host name have taken no connection. Such a
    ///     machine came back as the joiner, in all likelihood; its place waits for the joiner, and
    ///     becomes free after ``silenceLimit``.
    package static func admissionStep(
        _ admission: Admission, members: [DatastoreMember], silence: [UInt64: Duration] = [:]
    ) -> AdmissionStep {
        let joiner = admission.joiner
        if admission.wish == .agent { return .grantAgent }
        if let own = members.first(where: { $0.name == joiner.name }) {
            return admission.replaces == own.id ? .remove(own.id) : .confirm(own.id)
        }
        if let sameAddress = members.first(where: { $0.ipv4 == joiner.ipv4 }) {
            return sameAddress.isStarted ? .refuse(.addressInUse) : .remove(sameAddress.id)
        }
        let silent = members.filter { silence[$0.id] != nil && isNamesake($0, of: joiner) }
        if let lost = silent.first(where: { silence[$0.id] ?? .zero >= silenceLimit }) {
            return .remove(lost.id)
        }
        if !silent.isEmpty { return .postpone(.anotherJoining) }
        if members.count >= admission.serverLimit {
            if admission.wish == .server { return .postpone(.full) }
            // A place that may become free again is not yet a reason to be an agent for ever.
            let isSettled = members.allSatisfy { $0.isStarted && !$0.isLearner }
            return isSettled ? .grantAgent : .postpone(.anotherJoining)
        }
        // etcd allows one learner at a time.
        if members.contains(where: { $0.isLearner || !$0.isStarted }) {
            return .postpone(.anotherJoining)
        }
        return .addLearner
    }
}
