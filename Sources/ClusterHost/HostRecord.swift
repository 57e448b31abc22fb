import ClusterPlan
import MeshBase
import NetAddress

/// Where the datastore's files are, all under one directory that only root enters.
struct HostPaths: Sendable {
    /// `state-dir/cluster`
    let directory: String
    var logName = "etcd.log"

    var record: String { directory + "/record" }
    var authorityCertificate: String { directory + "/ca.crt" }
    var authorityKey: String { directory + "/ca.key" }
    var certificate: String { directory + "/node.crt" }
    var key: String { directory + "/node.key" }
    var configuration: String { directory + "/etcd.yaml" }
    var data: String { directory + "/etcd" }
    /// Present from the moment that this machine holds datastore data.
    var writeAheadLog: String { data + "/member/wal" }
    var log: String { directory + "/" + logName }
    var process: String { directory + "/supervisor.pid" }
}

/// How far this machine has come, kept on disk.
struct HostRecord: Equatable {
    enum Phase: String {
        case founding, joining, server, agent
    }

    var phase: Phase
    var cluster: ClusterIdentity
    var node: NodeID
    var name: String
    var address: IPAddress
    var ipv6: IPAddress
    var dnsName: String
    /// Of a joined server; 0 for a founder, who is never asked to promote itself.
    var memberID: UInt64
    /// The members' addresses as last seen.
    var endpoints: [IPAddress]
    /// The certified hash of the settings that all servers share; `nil` in clusters of releases that
    /// certified none, and on agents.
    var settings: Bytes32?

    var identity: HostIdentity {
        HostIdentity(name: name, node: node, ipv4: address, ipv6: ipv6, dnsName: dnsName)
    }

    private var settingsLine: String { settings.map { "\nsettings=\($0)" } ?? "" }

    /// Lines of `key=value`, readable for a person.
    var text: String {
        """
        version=1
        phase=\(phase.rawValue)
        generation=\(cluster.generation)
        authority=\(cluster.caHash)
        node=\(node)
        name=\(name)
        address=\(address)
        ipv6=\(ipv6)
        dns=\(dnsName)
        member=\(String(memberID, radix: 16))
        endpoints=\(endpoints.map { $0.description }.joined(separator: ","))\(settingsLine)

        """
    }

    init(
        phase: Phase, cluster: ClusterIdentity, identity: HostIdentity, memberID: UInt64 = 0,
        endpoints: [IPAddress], settings: Bytes32? = nil
    ) {
        self.phase = phase
        self.cluster = cluster
        node = identity.node
        name = identity.name
        address = identity.ipv4
        ipv6 = identity.ipv6
        dnsName = identity.dnsName
        self.memberID = memberID
        self.endpoints = endpoints
        self.settings = settings
    }

    init(parsing text: String) throws(HostFailure) {
        var fields: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            fields[line[..<equals]] = line[line.index(after: equals)...]
        }
        let endpoints = (fields["endpoints"] ?? "").split(separator: ",")
            .map { IPAddress(String($0)) }
        let certified = fields["settings"].flatMap { [UInt8](hex: $0) }.flatMap { Bytes32($0) }
        guard fields["version"] == "1", certified != nil || fields["settings"] == nil,
            let phase = fields["phase"].flatMap({ Phase(rawValue: String($0)) }),
            let generation = fields["generation"].flatMap({ UInt32($0) }),
            let authority = fields["authority"].flatMap({ [UInt8](hex: $0) })
                .flatMap({ Bytes32($0) }),
            let node = fields["node"].flatMap({ [UInt8](hex: $0) }).flatMap({ Bytes32($0) }),
            let name = fields["name"], !name.isEmpty,
            let address = fields["address"].flatMap({ IPAddress(String($0)) }),
            let memberID = fields["member"].flatMap({ UInt64($0, radix: 16) }),
            !endpoints.contains(nil)
        else { throw HostFailure("the cluster record on disk is damaged") }
        self.phase = phase
        cluster = ClusterIdentity(generation: generation, caHash: authority)
        self.node = NodeID(node)
        self.name = String(name)
        self.address = address
        // Records of the first version lack these two, and etcd does not need them.
        ipv6 = fields["ipv6"].flatMap { IPAddress(String($0)) } ?? .v6(0, 0)
        dnsName = fields["dns"].map(String.init) ?? "\(name)"
        self.memberID = memberID
        self.endpoints = endpoints.compactMap { $0 }
        settings = certified
    }
}
