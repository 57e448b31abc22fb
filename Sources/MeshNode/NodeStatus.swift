import ClusterPlan
import Consensus
import Ledger
import Membership
import MeshBase
import Cryptography
import NetAddress
import PathDiscovery
import WireGuard

/// One moment of a node, for people and programs. It holds no secret.
package struct NodeStatus: Sendable {
    package var id: NodeID
    package var hostname: String
    package var ipv4: IPAddress?
    package var ipv6: IPAddress
    package var port: UInt16
    /// Sorted by node id.
    package var peers: [MemberStatus]
    package var founding: FoundingView
    package var cluster: ClusterView
    package var policy: GenesisPolicy?
    /// Who decides about leases; empty before a cluster is ready.
    package var leaseVoters: [NodeID]
    package var leaseEpoch: UInt32
    package var meshID: [UInt8]
    package var names: [NodeID: String]
    package var drops: [String: UInt64]
    /// Bytes of datagrams since the start, by what they say; packets of the device do not count.
    package var sentBytes: [String: UInt64]
    /// How the NAT before this node behaves, and where others see the node.
    package var natBehaviour: NATBehaviour
    package var observed: [SocketAddress]
    /// Where the gateway listens for this node, and how it was asked; `nil` without such a port.
    package var mapped: SocketAddress?
    package var mappedBy: PortMappingMethod?
    /// What is wrong with this node's membership.
    package var warnings: [String]
    package var dht: DHTSummary
}

package struct MemberStatus: Sendable {
    package var id: NodeID
    package var hostname: String?
    package var ipv4: IPAddress?
    package var ipv6: IPAddress
    package var state: MemberState
    package var endpoint: SocketAddress?
    package var roundTrip: Duration?
    /// Since the newest completed handshake.
    package var sinceHandshake: Duration?
    package var receivedBytes: UInt64
    package var sentBytes: UInt64
    package var suite: PacketSuite?
    package var isVoter: Bool
    package var path: PathReport?
}

extension Node {
    package func status(at now: BootInstant) -> NodeStatus {
        let names = hostnames
        let peers = members.keys.sorted().compactMap { node -> MemberStatus? in
            guard let member = members[node] else { return nil }
            let tunnel = tunnels.status(of: member.certificate.staticKey)
            let traffic = member.traffic
            return MemberStatus(
                id: node, hostname: names[node], ipv4: member.ipv4,
                ipv6: member.certificate.ipv6, state: member.state,
                endpoint: member.endpoint.map { paths.remote(of: $0) },
                roundTrip: member.roundTrip,
                sinceHandshake: tunnel?.lastHandshake.map { now - $0 },
                receivedBytes: traffic.received, sentBytes: traffic.sent,
                suite: member.sending == nil ? nil : tunnel?.suite,
                isVoter: member.certificate.roles.contains(.voter),
                path: paths.report(of: node, at: now))
        }
        return NodeStatus(
            id: id, hostname: names[id] ?? configuration.hostname, ipv4: ipv4, ipv6: ipv6,
            port: configuration.listenPort, peers: peers, founding: founding.view,
            cluster: cluster.view, policy: configuration.token.policy,
            leaseVoters: leases.voters, leaseEpoch: leases.voterEpoch,
            meshID: configuration.token.meshID, names: names, drops: drops,
            sentBytes: sentBytes.merging(paths.sentBytes, uniquingKeysWith: +),
            natBehaviour: paths.natBehaviour, observed: paths.observedAddresses,
            mapped: mapper?.mapped, mappedBy: mapper?.mappedBy,
            warnings: warnings, dht: dhtSummary)
    }

    /// Finds a member by node id, an unambiguous beginning of one, hostname or overlay address.
    package func member(named text: String) -> NodeID? {
        let lowered = text.lowercased()
        let names = hostnames
        if let exact = names.first(where: { $0.value.lowercased() == lowered })?.key {
            return exact
        }
        if let address = IPAddress(text) {
            return members.first {
                $0.value.certificate.ipv6 == address || $0.value.ipv4 == address
            }?
            .key
        }
        guard lowered.count >= 4 else { return nil }
        let matches = members.keys.filter { $0.description.hasPrefix(lowered) }
        return matches.count == 1 ? matches.first : nil
    }

    /// The live entries of one bucket or of all, sorted.
    package func ledgerEntries(bucket: String?) -> [LedgerEntry] {
        if let bucket { return ledger.entries(bucket: bucket) }
        return ledger.allEntries.filter { !$0.isTombstone }.sorted { $0.id < $1.id }
    }

    /// Whether an entry still counts, by its bucket's lifetime and what this node believes of the
    /// owner.
    package func counts(_ entry: LedgerEntry, at now: BootInstant) -> Bool {
        guard let lifetime = BucketPolicy.of(entry.bucket).lifetime,
            let member = members[entry.owner], member.state != .alive, member.state != .suspect
        else { return true }
        return now - member.lastPresent <= lifetime
    }

    /// Every entry that the disk must hold, tombstones included.
    package var durableLedgerEntries: [[UInt8]] { ledger.allEntries.map { $0.encode() } }

    /// Equal on two nodes whose ledgers are equal.
    package var ledgerDigest: Bytes32 { ledger.digest }

    /// Folds everything that decides the node's future into one hash.
    package func fingerprint(into fingerprint: inout Fingerprint) {
        tunnels.fingerprint(into: &fingerprint)
        paths.fingerprint(into: &fingerprint)
        ledger.fingerprint(into: &fingerprint)
        swim.fingerprint(into: &fingerprint)
        founding.fingerprint(into: &fingerprint)
        leases.fingerprint(into: &fingerprint)
        cluster.fingerprint(into: &fingerprint)
        discovery?.fingerprint(into: &fingerprint)
        dht?.agent.fingerprint(into: &fingerprint)
        mapper?.fingerprint(into: &fingerprint)
        fingerprint.mix(ipv4?.description ?? "-")
        fingerprint.mix(UInt64(addressStrength.rawValue))
        fingerprint.mix(nextSearch)
        fingerprint.mix(isLeaving)
        for identifier in pendingPings.keys.sorted() { fingerprint.mix(UInt64(identifier)) }
        for node in members.keys.sorted() {
            fingerprint.mix(node)
            members[node]?.fingerprint(into: &fingerprint)
        }
    }
}

extension Member {
    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(certificate.encode())
        fingerprint.mix(record?.encode() ?? [])
        fingerprint.mix(UInt64(state.rawValue))
        fingerprint.mix(isConnected)
        fingerprint.mix(UInt64(sending?.localIndex ?? 0))
        for session in sessions { fingerprint.mix(UInt64(session.localIndex)) }
        fingerprint.mix(endpoint?.description ?? "-")
        pathMTU?.fingerprint(into: &fingerprint)
        fingerprint.mix(joinsPieces)
        fingerprint.mix(ipv4?.description ?? "-")
        for frame in waiting.elements { fingerprint.mix(frame) }
    }
}

extension Node {
    /// How the founding stands.
    package var foundingView: FoundingView { founding.view }
}
