import ClusterPlan
import Consensus
import Cryptography
import MeshBase

/// What happened to one of the two cores, as a line of a founding log tells it.
package enum LoggedInput {
    case founding(FoundingInput)
    /// The planner was told how the founding stands; that follows from what came before.
    case summary
    case cluster(ClusterInput)
}

extension LoggedInput {
    package var text: String {
        switch self {
        case .founding(let input): "founding " + input.text
        case .summary: "cluster founding"
        case .cluster(let input): "cluster " + input.text
        }
    }

    package init(_ words: inout LogWords) throws(LogProblem) {
        switch try words.word() {
        case "founding": self = .founding(try FoundingInput(&words))
        case "cluster":
            if let input = try ClusterInput(&words) {
                self = .cluster(input)
            } else {
                self = .summary
            }
        default: throw LogProblem()
        }
        try words.finish()
    }
}

extension FoundingInput {
    fileprivate var text: String {
        switch self {
        case .message(let bytes, let peer): "message \(peer) \(word(bytes))"
        case .certificate(let bytes): "certificate \(word(bytes))"
        case .reset(let bytes): "reset \(word(bytes))"
        case .voterSeen(let voter): "voter-seen \(voter)"
        case .reachable(let nodes): "reachable \(words(nodes) { "\($0)" })"
        case .datastoreReady(let caHash, let facts):
            "datastore-ready \(word(caHash))\(factsWord(facts))"
        case .datastoreFailed(let reason): "datastore-failed \(quoted(reason))"
        case .datastoreFenced: "datastore-fenced"
        case .operatorInit: "operator-init"
        case .operatorTakeover: "operator-takeover"
        case .operatorReset(let bytes): "operator-reset \(word(bytes))"
        case .timeout: "timeout"
        }
    }

    fileprivate init(_ words: inout LogWords) throws(LogProblem) {
        switch try words.word() {
        case "message":
            let peer = try words.node()
            self = .message(try words.bytes(), from: peer)
        case "certificate": self = .certificate(try words.bytes())
        case "reset": self = .reset(try words.bytes())
        case "voter-seen": self = .voterSeen(try words.node())
        case "reachable":
            self = .reachable(try words.list { words throws(LogProblem) in try words.node() })
        case "datastore-ready":
            let caHash = try words.bytes32()
            let facts = try words.lastBytes()
            guard facts.count <= Outcome.factsLimit else { throw LogProblem() }
            self = .datastoreReady(caHash: caHash, facts: facts)
        case "datastore-failed": self = .datastoreFailed(reason: try words.text())
        case "datastore-fenced": self = .datastoreFenced
        case "operator-init": self = .operatorInit
        case "operator-takeover": self = .operatorTakeover
        case "operator-reset": self = .operatorReset(try words.bytes())
        case "timeout": self = .timeout
        default: throw LogProblem()
        }
    }
}

extension ClusterInput {
    fileprivate var text: String {
        switch self {
        case .founding: "founding"
        case .peers(let peers): "peers \(words(peers) { $0.text })"
        case .fact(let owner, let key, let value):
            "fact \(owner) \(quoted(key)) \(value.map { word($0) } ?? "-")"
        case .message(let bytes, let sender): "message \(sender) \(word(bytes))"
        case .report(let report): "report \(report.text)"
        case .leave: "leave"
        case .remove(let machine): "remove \(quoted(machine))"
        case .timeout: "timeout"
        }
    }

    /// `nil` for news of the founding.
    fileprivate init?(_ words: inout LogWords) throws(LogProblem) {
        switch try words.word() {
        case "founding": return nil
        case "peers":
            self = .peers(
                try words.list { words throws(LogProblem) in try ClusterPeer(&words) })
        case "fact":
            self = .fact(
                owner: try words.node(), key: try words.text(),
                value: try words.optional { words throws(LogProblem) in try words.bytes() })
        case "message":
            let sender = try words.node()
            self = .message(try words.bytes(), from: sender)
        case "report": self = .report(try HostReport(&words))
        case "leave": self = .leave
        case "remove": self = .remove(machine: try words.text())
        case "timeout": self = .timeout
        default: throw LogProblem()
        }
    }
}

extension ClusterPeer {
    fileprivate var text: String {
        "\(id) \(word(staticKey.bytes)) \(word(ipv4)) \(ipv6) \(quoted(hostname)) "
            + "\(quoted(dnsLabel)) \(word(isAlive)) \(word(mayServe))"
    }

    fileprivate init(_ words: inout LogWords) throws(LogProblem) {
        self.init(
            id: try words.node(), staticKey: StaticPublicKey(try words.bytes32()),
            ipv4: try words.optional { words throws(LogProblem) in try words.address() },
            ipv6: try words.address(), hostname: try words.text(), dnsLabel: try words.text(),
            isAlive: try words.flag(), mayServe: try words.flag())
    }
}
