import ClusterPlan
import Consensus
import MeshBase

/// What the cores wanted, as lines of a founding log: enough to see whether a replay wants the
/// same, and without what only one machine may see.
extension FoundingAction {
    package var logText: String {
        switch self {
        case .persist(let record): "persist \(digest(record))"
        case .send(let peer, let message): "send \(peer) \(digest(message))"
        case .startDatastore(let generation, let deadline):
            "start-datastore \(generation) \(deadline.nanoseconds)"
        case .stopDatastore(let reason): "stop-datastore \(quoted(reason))"
        case .fenceDatastore(let generation): "fence-datastore \(generation)"
        case .decided(let certificate): "decided \(digest(certificate.encoded))"
        case .reset(let reset): "reset \(digest(reset.encoded))"
        case .voterUnknown(let voter): "voter-unknown \(voter)"
        case .alarm(let text): "alarm \(quoted(text))"
        case .dropped(let reason): "dropped \(quoted("\(reason)"))"
        }
    }
}

extension ClusterAction {
    package var logText: String {
        switch self {
        case .host(let command): "host \(command.logText)"
        case .send(let node, let bytes):
            "send \(node) "
                + digest((try? JoinMessage(decoding: bytes))?.withoutSecrets.encoded ?? bytes)
        case .publish(let key, let value): "publish \(quoted(key)) \(digest(value))"
        case .foundingReady(let caHash, let facts): "founding-ready \(word(caHash))\(facts.word)"
        case .foundingFailed(let reason): "founding-failed \(quoted(reason))"
        case .alarm(let text): "alarm \(quoted(text))"
        case .dropped(let reason): "dropped \(reason.rawValue)"
        }
    }
}

extension HostCommand {
    var logText: String {
        switch self {
        case .inspect: "inspect"
        case .found(let identity, let generation, let deadline):
            "found \(identity.logText) \(generation) \(deadline.nanoseconds)"
        case .extendDeadline(let deadline): "extend-deadline \(deadline.nanoseconds)"
        case .release(let cluster): "release \(cluster.text)"
        case .stop(let reason): "stop \(quoted(reason))"
        case .setAside(let generation): "set-aside \(generation)"
        case .makeRequest(let identity): "make-request \(identity.logText)"
        case .admit(let admission):
            "admit \(admission.joiner.logText) \(word(admission.nonce)) "
                + "\(admission.wish.rawValue) \(admission.serverLimit) \(admission.replaces) "
                + words(admission.livingNamesakes.sorted()) { quoted($0) }
        case .startJoined(let grant): "start-joined \(grant.logText)"
        case .startAgent(let grant): "start-agent \(grant.logText)"
        case .restartExisting(let servers): "restart \(words(servers) { "\($0)" })"
        case .probe: "probe"
        case .evict(let memberID): "evict \(memberID)"
        case .expel(let identity, let nonce): "expel \(identity.logText) \(word(nonce))"
        case .retire(let generation): "retire \(generation)"
        }
    }
}

extension HostIdentity {
    fileprivate var logText: String { "\(quoted(name)) \(ipv4)" }
}

extension GrantDelivery {
    /// The grant itself is sealed, and by its length only.
    fileprivate var logText: String {
        "\(identity.logText) \(word(nonce)) \(sealed.count) \(cluster.text)\(facts.word)"
    }
}
