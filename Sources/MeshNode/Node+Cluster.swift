import ClusterPlan
import Consensus
import Cryptography
import Ledger
import Membership
import MeshBase

/// The founding of the cluster and everything after it.
extension Node {
    static func foundingConfiguration(_ configuration: NodeConfiguration) -> FoundingConfiguration {
        let takesPart =
            configuration.clusterKind != .none && configuration.clusterRole != .none
            && configuration.clusterRole != .agent
        return FoundingConfiguration(
            meshID: configuration.token.meshID, policy: configuration.token.policy,
            node: configuration.identity.node,
            isVoter: configuration.certificate.roles.contains(.voter),
            isDurable: configuration.isDurable, mayFound: takesPart,
            hasLocalData: configuration.hasClusterData, isAmnesiac: configuration.isAmnesiac,
            root: configuration.token.root)
    }

    // MARK: - Founding

    mutating func withFounding(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout Founding, inout SeededGenerator, inout [FoundingAction]) -> Void
    ) {
        var results: [FoundingAction] = []
        body(&founding, &random, &results)
        for result in results {
            switch result {
            case .persist(let record):
                actions.append(.persist(.founding(record)))
            case .send(let node, let message):
                send(
                    ControlFrame(kind: .founding, body: message), to: node, at: now, into: &actions)
            case .startDatastore(let generation, _):
                actions.append(
                    .log(.notice, "this node founds the cluster, generation \(generation)"))
            case .stopDatastore(let reason):
                actions.append(.log(.warning, "stopping the datastore: \(reason)"))
            case .fenceDatastore(let generation):
                actions.append(.log(.warning, "generation \(generation) was abandoned; fenced"))
            case .decided(let certificate):
                decided(certificate, at: now, into: &actions)
            case .reset(let reset):
                publish(reset, at: now, into: &actions)
            case .voterUnknown(let node):
                search(for: node, at: now, into: &actions)
            case .alarm(let text):
                actions.append(.log(.error, "alarm: \(text)"))
            case .dropped(let reason):
                drop("founding \(reason)")
            }
        }
        tellClusterOfFounding(at: now, into: &actions)
        tellLeasesOfFounding(at: now, into: &actions)
    }

    /// Publishes a proof, so that nodes learn of it which no voter talks to.
    private mutating func decided(
        _ certificate: DecisionCertificate, at now: Now, into actions: inout [NodeAction]
    ) {
        let statement = certificate.statement
        actions.append(
            .log(
                .notice,
                "decided: \(statement.register) of generation \(statement.generation), "
                    + "\(certificate.votes.count) signatures"))
        let key = "\(Node.decisionPrefix)\(statement.register)/\(statement.generation)"
        putEntry(
            bucket: LedgerBucket.cluster, key: key, value: certificate.encoded, at: now,
            into: &actions)
    }

    private mutating func publish(
        _ reset: FoundingReset, at now: Now, into actions: inout [NodeAction]
    ) {
        actions.append(
            .log(
                .warning,
                "the founding was reset with the mesh's root key; generation "
                    + "\(reset.generation) begins"))
        putEntry(
            bucket: LedgerBucket.cluster, key: "\(Node.resetPrefix)\(reset.generation)",
            value: reset.encoded, at: now, into: &actions)
    }

    static let resetPrefix = "reset/"
    static let decisionPrefix = "decision/"

    private mutating func tellClusterOfFounding(at now: Now, into actions: inout [NodeAction]) {
        let summary = FoundingSummary(founding)
        guard summary != toldSummary else { return }
        toldSummary = summary
        withCluster(at: now, into: &actions) { cluster, random, results in
            cluster.foundingChanged(summary, at: now, random: &random, into: &results)
        }
    }

    /// Whom the voters can talk to now.
    mutating func reachabilityChanged(at now: Now, into actions: inout [NodeAction]) {
        let connected = members.keys.sorted().filter { members[$0]?.isConnected == true }
        swim.setProbeTargets(connected)
        withFounding(at: now, into: &actions) { founding, random, results in
            founding.setReachable(connected)
            founding.timeout(at: now.boot, random: &random, into: &results)
        }
    }

    // MARK: - Cluster

    mutating func withCluster(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout ClusterCoordinator, inout SeededGenerator, inout [ClusterAction]) -> Void
    ) {
        var results: [ClusterAction] = []
        body(&cluster, &random, &results)
        for result in results {
            switch result {
            case .host(let command):
                actions.append(.host(command))
            case .send(let node, let message):
                send(
                    ControlFrame(kind: .cluster, body: message), to: node, at: now, into: &actions)
            case .publish(let key, let value):
                putEntry(
                    bucket: LedgerBucket.cluster, key: key, value: value, at: now, into: &actions)
            case .foundingReady(let caHash):
                withFounding(at: now, into: &actions) { founding, random, results in
                    founding.datastoreReady(
                        caHash: caHash, at: now.boot, random: &random, into: &results)
                }
            case .foundingFailed(let reason):
                withFounding(at: now, into: &actions) { founding, random, results in
                    founding.datastoreFailed(
                        reason: reason, at: now.boot, random: &random, into: &results)
                }
            case .alarm(let text):
                actions.append(.log(.error, "alarm: \(text)"))
            case .dropped(let reason):
                drop("cluster \(reason.rawValue)")
            }
        }
        strengthenAddress(at: now, into: &actions)
        chooseServiceServer(into: &actions)
        tellLeasesOfCompany(at: now, into: &actions)
        if publishing.controlPlane != controlPlane { rebuildNames(into: &actions) }
    }

    mutating func hostReported(
        _ report: HostReport, at now: Now, into actions: inout [NodeAction]
    ) {
        withCluster(at: now, into: &actions) { cluster, random, results in
            cluster.hostReported(report, at: now, random: &random, into: &results)
        }
        if report == .asideSet {
            addressStrength = .wish
            publishMachine(at: now, into: &actions)
            withFounding(at: now, into: &actions) { founding, random, results in
                founding.datastoreFenced(at: now.boot, random: &random, into: &results)
            }
        }
    }

    /// An entry of the bucket `cluster`: a proof of the founding, or a fact of the datastore.
    mutating func clusterEntryChanged(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) {
        if entry.key.hasPrefix(Node.decisionPrefix) {
            guard !entry.isTombstone, entry.owner != id else { return }
            withFounding(at: now, into: &actions) { founding, random, results in
                founding.certificateFound(
                    entry.value, at: now.boot, random: &random, into: &results)
            }
            return
        }
        if entry.key.hasPrefix(Node.resetPrefix) {
            guard !entry.isTombstone, entry.owner != id else { return }
            withFounding(at: now, into: &actions) { founding, random, results in
                founding.resetFound(
                    entry.value, at: now.boot, random: &random, into: &results)
            }
            return
        }
        withCluster(at: now, into: &actions) { cluster, random, results in
            cluster.factChanged(
                owner: entry.owner, key: entry.key, value: entry.isTombstone ? nil : entry.value,
                at: now, random: &random, into: &results)
        }
    }
}

extension FoundingSummary {
    /// What the planner needs to know of a founding.
    package init(_ founding: Founding) {
        let (phase, reason) = founding.standing
        self.init(
            phase: Phase(rawValue: phase.rawValue) ?? .none, generation: founding.generation,
            owner: founding.owner, startDeadline: founding.startDeadline,
            caHash: founding.readyAuthority,
            isOwner: founding.owner == founding.configuration.node, reason: reason)
    }
}
