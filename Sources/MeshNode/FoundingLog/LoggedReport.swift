import ClusterPlan
import MeshBase

/// What the host said, as words of a founding log.
extension HostReport {
    var text: String {
        switch self {
        case .inspected(let datastore): "inspected \(datastore.text)"
        case .founded(let cluster, let facts): "founded \(cluster.text)\(facts.word)"
        case .foundingFailed(let generation, let reason):
            "founding-failed \(generation) \(quoted(reason))"
        case .asideSet: "aside-set"
        case .requestMade(let request): "request-made \(word(request))"
        case .admitted(let joiner, let nonce, let role, let sealed):
            "admitted \(joiner) \(word(nonce)) \(role.rawValue) \(word(sealed))"
        case .postponed(let joiner, let nonce, let reason):
            "postponed \(joiner) \(word(nonce)) \(reason.rawValue)"
        case .refused(let joiner, let nonce, let reason):
            "refused \(joiner) \(word(nonce)) \(reason.rawValue)"
        case .mustConfirm(let joiner, let nonce, let memberID):
            "must-confirm \(joiner) \(word(nonce)) \(memberID)"
        case .running(let cluster, let role): "running \(cluster.text) \(role.rawValue)"
        case .startFailed(let failure, let reason):
            "start-failed \(failure.rawValue) \(quoted(reason))"
        case .observed(let observation): "observed \(observation.text)"
        case .unobservable(let reason): "unobservable \(quoted(reason))"
        case .evicted(let memberID): "evicted \(memberID)"
        case .expelled(let leaver, let nonce): "expelled \(leaver) \(word(nonce))"
        case .retired: "retired"
        case .failed(let reason): "failed \(quoted(reason))"
        case .exited(let reason): "exited \(quoted(reason))"
        }
    }

    init(_ words: inout LogWords) throws(LogProblem) {
        switch try words.word() {
        case "inspected": self = .inspected(try LocalDatastore(&words))
        case "founded":
            self = .founded(
                try ClusterIdentity(&words),
                facts: GenesisFacts(certified: try words.lastBytes()))
        case "founding-failed":
            self = .foundingFailed(generation: try words.number(), reason: try words.text())
        case "aside-set": self = .asideSet
        case "request-made": self = .requestMade(try words.bytes())
        case "admitted":
            self = .admitted(
                joiner: try words.node(), nonce: try words.bytes(),
                role: try words.code(DatastoreRole.self), sealed: try words.bytes())
        case "postponed":
            self = .postponed(
                joiner: try words.node(), nonce: try words.bytes(),
                try words.code(PostponeReason.self))
        case "refused":
            self = .refused(
                joiner: try words.node(), nonce: try words.bytes(),
                try words.code(RefusalReason.self))
        case "must-confirm":
            self = .mustConfirm(
                joiner: try words.node(), nonce: try words.bytes(),
                memberID: try words.number())
        case "running":
            self = .running(try ClusterIdentity(&words), try words.code(DatastoreRole.self))
        case "start-failed":
            self = .startFailed(try words.raw(StartFailure.self), reason: try words.text())
        case "observed": self = .observed(try Observation(&words))
        case "unobservable": self = .unobservable(reason: try words.text())
        case "evicted": self = .evicted(memberID: try words.number())
        case "expelled": self = .expelled(try words.node(), nonce: try words.bytes())
        case "retired": self = .retired
        case "failed": self = .failed(reason: try words.text())
        case "exited": self = .exited(reason: try words.text())
        default: throw LogProblem()
        }
    }
}

extension ClusterIdentity {
    var text: String { "\(generation) \(word(caHash))" }

    init(_ words: inout LogWords) throws(LogProblem) {
        self.init(generation: try words.number(), caHash: try words.bytes32())
    }
}

extension GenesisFacts {
    /// Behind a space; nothing where there are none, as in logs of releases without them.
    var word: String { factsWord(encoded) }
}

extension LocalDatastore {
    fileprivate var text: String {
        switch self {
        case .none: "none"
        case .founding(let cluster): "founding \(cluster.text)"
        case .server(let cluster): "server \(cluster.text)"
        case .agent(let cluster): "agent \(cluster.text)"
        case .foreign(let caHash): "foreign \(word(caHash))"
        case .retired: "retired"
        }
    }

    fileprivate init(_ words: inout LogWords) throws(LogProblem) {
        switch try words.word() {
        case "none": self = .none
        case "founding": self = .founding(try ClusterIdentity(&words))
        case "server": self = .server(try ClusterIdentity(&words))
        case "agent": self = .agent(try ClusterIdentity(&words))
        case "foreign": self = .foreign(caHash: try words.bytes32())
        case "retired": self = .retired
        default: throw LogProblem()
        }
    }
}

extension Observation {
    fileprivate var text: String {
        let members = words(members) {
            "\($0.id) \(quoted($0.name)) \(word($0.ipv4)) \(word($0.isStarted)) "
                + word($0.isLearner)
        }
        let agents = words(agents) { "\(quoted($0.name)) \($0.node)" }
        let clients = words(clients) { "\(quoted($0.name)) \(word($0.ipv4))" }
        return "\(word(isHealthy)) \(members) \(agents) \(clients)"
    }

    fileprivate init(_ words: inout LogWords) throws(LogProblem) {
        self.init(
            isHealthy: try words.flag(),
            members: try words.list { words throws(LogProblem) in
                DatastoreMember(
                    id: try words.number(), name: try words.text(),
                    ipv4: try words.optional { words throws(LogProblem) in try words.address() },
                    isStarted: try words.flag(), isLearner: try words.flag())
            },
            agents: try words.list { words throws(LogProblem) in
                ClusterAgent(name: try words.text(), node: try words.node())
            },
            clients: try words.list { words throws(LogProblem) in
                DatastoreClient(
                    name: try words.text(),
                    ipv4: try words.optional { words throws(LogProblem) in try words.address() })
            })
    }
}
