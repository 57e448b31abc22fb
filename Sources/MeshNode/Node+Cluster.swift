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

    /// Feeds the founding registers and does what they want.
    ///
    /// - Returns: why an operator's wish was not granted.
    @discardableResult mutating func tellFounding(
        _ input: FoundingInput, at now: Now, into actions: inout [NodeAction]
    ) -> FoundingRefusal? {
        var results: [FoundingAction] = []
        let refusal = stepFounding(input, at: now, into: &results, recordingInto: &actions)
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
        return refusal
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
        tellCluster(.founding(summary), at: now, into: &actions)
    }

    /// Whom the voters can talk to now.
    mutating func reachabilityChanged(at now: Now, into actions: inout [NodeAction]) {
        let connected = members.keys.sorted().filter { members[$0]?.isConnected == true }
        swim.setProbeTargets(connected)
        tellFounding(.reachable(connected), at: now, into: &actions)
    }

    // MARK: - Cluster

    /// Feeds the planner and does what it wants.
    ///
    /// - Returns: what a machine that is removed is called in the datastore, or why an operator's
    ///   wish was not granted.
    @discardableResult mutating func tellCluster(
        _ input: ClusterInput, at now: Now, into actions: inout [NodeAction]
    ) -> Result<String?, ClusterRefusal> {
        var results: [ClusterAction] = []
        let outcome = stepCluster(input, at: now, into: &results, recordingInto: &actions)
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
            case .foundingReady(let caHash, let facts):
                tellFounding(
                    .datastoreReady(caHash: caHash, facts: facts.encoded), at: now, into: &actions)
            case .foundingFailed(let reason):
                tellFounding(.datastoreFailed(reason: reason), at: now, into: &actions)
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
        return outcome
    }

    mutating func hostReported(
        _ report: HostReport, at now: Now, into actions: inout [NodeAction]
    ) {
        tellCluster(.report(report), at: now, into: &actions)
        if report == .asideSet {
            addressStrength = .wish
            publishMachine(at: now, into: &actions)
            tellFounding(.datastoreFenced, at: now, into: &actions)
        }
    }

    /// An entry of the bucket `cluster`: a proof of the founding, or a fact of the datastore.
    mutating func clusterEntryChanged(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) {
        if entry.key.hasPrefix(Node.decisionPrefix) {
            guard !entry.isTombstone, entry.owner != id else { return }
            tellFounding(.certificate(entry.value), at: now, into: &actions)
            return
        }
        if entry.key.hasPrefix(Node.resetPrefix) {
            guard !entry.isTombstone, entry.owner != id else { return }
            tellFounding(.reset(entry.value), at: now, into: &actions)
            return
        }
        let value = entry.isTombstone ? nil : entry.value
        tellCluster(
            .fact(owner: entry.owner, key: entry.key, value: value), at: now, into: &actions)
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
            facts: GenesisFacts(certified: founding.readyFacts),
            isOwner: founding.owner == founding.configuration.node, reason: reason)
    }
}
