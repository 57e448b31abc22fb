import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// One datastore, shared by the hosts that are its members: the rules of etcd that matter here.
struct SimulatedDatastore {
    var members: [DatastoreMember] = []
    var agents: [ClusterAgent] = []
    /// Hosts whose member process runs, by member id.
    var running: [UInt64: NodeID] = [:]
    var nextID: UInt64 = 100
    /// Changes are refused for a while after the last one, as etcd's strict check does.
    var settledAt: BootInstant = .zero

    /// A majority of the voters runs.
    var hasQuorum: Bool {
        let voters = members.filter { !$0.isLearner }
        return voters.filter { running[$0.id] != nil }.count * 2 > voters.count
    }

    func member(named name: String) -> DatastoreMember? { members.first { $0.name == name } }
}

/// What survives on one machine when its daemon dies, and the datastore process on it.
struct SimulatedHost {
    var local = LocalDatastore.none
    /// The member that the data on disk belongs to; 0 before the grant.
    var memberID: UInt64 = 0
    var isPromoted = false
    /// The datastore process must not survive the daemon.
    var isBound = false
    var deadline: BootInstant?
    var runsFounding = false
    /// The datastore's program does not start here: missing, or its port is taken.
    var isBroken = false
    /// The same, only for what an agent runs.
    var isBrokenAsAgent = false
    /// Generations that were renamed.
    var setAside: [UInt32] = []
    /// Grants this host opened; a second use is a mistake.
    var openedGrants = 0
    /// What was certified with the cluster that this host joined.
    var facts = GenesisFacts()
    /// What this host wants certified when it founds.
    var genesis = GenesisFacts()
}

/// A grant without cryptography: what the real one binds, padded so that it needs two parts.
struct SimulatedGrant {
    var nonce: [UInt8]
    var node: NodeID
    var caHash: Bytes32
    var memberID: UInt64
    var role: DatastoreRole

    var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.write(raw: nonce)
        writer.write(node)
        writer.write(caHash)
        writer.write(memberID)
        writer.write(role.rawValue)
        writer.pad(to: 1800)
        return writer.bytes
    }

    init?(_ bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let nonce = try? reader.readBytes(16), let node = try? reader.readNodeID(),
            let caHash = try? reader.readBytes32(), let memberID = try? reader.readUInt64(),
            let role = (try? reader.readByte()).flatMap({ DatastoreRole(rawValue: $0) })
        else { return nil }
        (self.nonce, self.node, self.caHash) = (nonce, node, caHash)
        (self.memberID, self.role) = (memberID, role)
    }

    init(_ admission: Admission, memberID: UInt64, role: DatastoreRole) {
        nonce = admission.nonce
        node = admission.joiner.node
        caHash = admission.cluster.caHash
        self.memberID = memberID
        self.role = role
    }
}

extension SimulatedMesh {
    /// Executes one command of node `index` to its end.
    mutating func execute(_ command: HostCommand, on index: Int) -> HostReport? {
        switch command {
        case .inspect: return .inspected(hosts[index].local)
        case .found(let identity, let generation, let deadline):
            return found(identity, generation, deadline, on: index)
        case .extendDeadline(let deadline):
            hosts[index].deadline = deadline
            return nil
        case .release(let cluster):
            hosts[index].local = .server(cluster)
            hosts[index].isBound = false
            hosts[index].deadline = nil
            return nil
        case .stop:
            stopProcess(on: index)
            return nil
        case .setAside(let generation):
            check(
                store.running[hosts[index].memberID] == nil || hosts[index].memberID == 0,
                "data was set aside while its process ran")
            hosts[index].setAside.append(generation)
            hosts[index].local = .none
            hosts[index].memberID = 0
            hosts[index].isPromoted = false
            return .asideSet
        case .makeRequest(let identity):
            return .requestMade(Array(("request of " + identity.name).utf8))
        case .admit(let admission): return admit(admission, on: index)
        case .startJoined(let delivery): return startJoined(delivery, on: index)
        case .startAgent(let delivery): return startAgent(delivery, on: index)
        case .restartExisting: return restart(on: index)
        case .probe:
            guard store.hasQuorum else { return .unobservable(reason: "no quorum") }
            return .observed(
                Observation(isHealthy: true, members: store.members, agents: store.agents))
        case .evict(let memberID):
            remove(memberID, why: "evicted")
            return .evicted(memberID: memberID)
        case .expel(let leaver, let nonce):
            guard store.hasQuorum else { return .failed(reason: "no quorum") }
            // It leaves while it runs.
            for member in store.members where member.name == leaver.name {
                store.running[member.id] = nil
            }
            store.members.removeAll { $0.name == leaver.name }
            store.agents.removeAll { $0.node == leaver.node }
            return .expelled(leaver.node, nonce: nonce)
        case .retire:
            stopProcess(on: index)
            hosts[index].local = .retired
            hosts[index].memberID = 0
            return .retired
        }
    }

    private mutating func found(
        _ identity: HostIdentity, _ generation: UInt32, _ deadline: BootInstant, on index: Int
    ) -> HostReport {
        let cluster = ClusterIdentity(generation: generation, caHash: caHash(of: index))
        foundings.insert(index)
        if hosts[index].local == .none {
            hosts[index].local = .founding(cluster)
            hosts[index].memberID = 1
            store = SimulatedDatastore()
            store.members = [
                DatastoreMember(
                    id: 1, name: identity.name, ipv4: identity.ipv4, isStarted: true,
                    isLearner: false)
            ]
        }
        hosts[index].isBound = true
        hosts[index].deadline = deadline
        store.running[1] = node(index)
        return .founded(cluster, facts: hosts[index].genesis)
    }

    private mutating func admit(_ admission: Admission, on index: Int) -> HostReport {
        let joiner = admission.joiner.node
        let nonce = admission.nonce
        for _ in 0..<5 {
            guard store.hasQuorum else {
                return .postponed(joiner: joiner, nonce: nonce, .unhealthy)
            }
            switch EtcdPlan.admissionStep(admission, members: store.members) {
            case .postpone(let reason):
                return .postponed(joiner: joiner, nonce: nonce, reason)
            case .refuse(let reason): return .refused(joiner: joiner, nonce: nonce, reason)
            case .confirm(let id):
                return .mustConfirm(joiner: joiner, nonce: nonce, memberID: id)
            case .grantAgent:
                grants[nonce, default: 0] += 1
                let grant = SimulatedGrant(admission, memberID: 0, role: .agent)
                return .admitted(
                    joiner: joiner, nonce: nonce, role: .agent, sealed: grant.bytes)
            case .remove(let id): remove(id, why: "removed for \(admission.joiner.name)")
            case .addLearner:
                guard now >= store.settledAt else {
                    return .postponed(joiner: joiner, nonce: nonce, .unhealthy)
                }
                grants[nonce, default: 0] += 1
                store.nextID += 1
                store.members.append(
                    DatastoreMember(
                        id: store.nextID, name: "", ipv4: admission.joiner.ipv4,
                        isStarted: false, isLearner: true))
                let grant = SimulatedGrant(admission, memberID: store.nextID, role: .server)
                return .admitted(
                    joiner: joiner, nonce: nonce, role: .server, sealed: grant.bytes)
            }
        }
        return .postponed(joiner: joiner, nonce: nonce, .busy)
    }

    /// Removes a member; one whose data its host still holds and runs must never be removed.
    private mutating func remove(_ id: UInt64, why: String) {
        check(store.running[id] == nil, "a running member was \(why)")
        store.members.removeAll { $0.id == id }
        store.running[id] = nil
    }

    private mutating func startJoined(_ delivery: GrantDelivery, on index: Int) -> HostReport {
        guard let grant = SimulatedGrant(delivery.sealed), grant.nonce == delivery.nonce,
            grant.node == node(index), grant.caHash == delivery.cluster.caHash
        else { return .startFailed(.badGrant, reason: "the grant does not fit") }
        hosts[index].openedGrants += 1
        hosts[index].facts = delivery.facts
        if hosts[index].isBroken {
            return .startFailed(.transient, reason: "the program does not start")
        }
        hosts[index].local = .server(delivery.cluster)
        hosts[index].memberID = grant.memberID
        hosts[index].isPromoted = false
        return restart(on: index)
    }

    private mutating func startAgent(_ delivery: GrantDelivery, on index: Int) -> HostReport {
        guard let grant = SimulatedGrant(delivery.sealed), grant.nonce == delivery.nonce,
            grant.node == node(index)
        else { return .startFailed(.badGrant, reason: "the grant does not fit") }
        if hosts[index].isBrokenAsAgent {
            return .startFailed(.transient, reason: "the program does not start")
        }
        hosts[index].local = .agent(delivery.cluster)
        return restart(on: index)
    }

    private mutating func restart(on index: Int) -> HostReport {
        switch hosts[index].local {
        case .none, .founding, .foreign, .retired:
            return .startFailed(.transient, reason: "nothing to start")
        case .agent(let cluster):
            guard store.hasQuorum else { return .startFailed(.transient, reason: "no quorum") }
            let agent = ClusterAgent(name: name(index), node: node(index))
            if !store.agents.contains(agent) { store.agents.append(agent) }
            return .running(cluster, .agent)
        case .server(let cluster):
            let id = hosts[index].memberID
            guard let position = store.members.firstIndex(where: { $0.id == id }) else {
                return store.hasQuorum
                    ? .startFailed(.removed, reason: "removed")
                    : .startFailed(.transient, reason: "no quorum")
            }
            store.running[id] = node(index)
            store.members[position].isStarted = true
            store.members[position].name = name(index)
            if store.members[position].isLearner {
                guard store.hasQuorum else {
                    return .startFailed(.transient, reason: "no quorum")
                }
                store.members[position].isLearner = false
                store.settledAt = now + .seconds(5)
            }
            return .running(cluster, .server)
        }
    }

    mutating func stopProcess(on index: Int) {
        let id = hosts[index].memberID
        if store.running[id] == node(index) { store.running[id] = nil }
        hosts[index].isBound = false
        hosts[index].deadline = nil
    }
}
