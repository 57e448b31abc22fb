import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// Folds the whole state in, in an order that no dictionary decides.
    package func fingerprint(into print: inout Fingerprint) {
        mixFounding(into: &print)
        for id in peers.keys.sorted() {
            guard let peer = peers[id] else { continue }
            print.mix(id)
            print.mix(peer.staticKey.bytes.bytes)
            print.mix(peer.ipv4?.bytes ?? [])
            print.mix(peer.ipv6.bytes)
            print.mix(peer.hostname)
            print.mix(peer.dnsLabel)
            print.mix(peer.isAlive)
            print.mix(peer.mayServe)
        }
        for owner in roleFacts.keys.sorted() {
            print.mix(owner)
            print.mix(roleFacts[owner]?.encoded ?? [])
        }
        for owner in memberFacts.keys.sorted() {
            print.mix(owner)
            print.mix(memberFacts[owner]?.encoded ?? [])
        }
        for owner in conflicts.keys.sorted() {
            print.mix(owner)
            print.mix(conflicts[owner]?.bytes ?? [])
        }
        for key in published.keys.sorted() {
            print.mix(key)
            print.mix(published[key] ?? [])
        }
        mixStage(into: &print)
        print.mix(pending.map { $0.command.ordinal } ?? -1)
        print.mix(pending?.expires)
        print.mix(notBefore)
        print.mix(startedAt)
        print.mix(startFailures)
        print.mix(UInt64(emptiedFor))
        print.mix(trouble)
        mixDesk(into: &print)
        mixObserved(into: &print)
    }

    private func mixFounding(into print: inout Fingerprint) {
        print.mix(founding.phase.rawValue)
        print.mix(UInt64(founding.generation))
        print.mix(founding.owner?.bytes.bytes ?? [])
        print.mix(founding.startDeadline)
        print.mix(founding.caHash?.bytes ?? [])
        print.mix(founding.facts.encoded)
        print.mix(founding.isOwner)
        print.mix(founding.reason)
    }

    private func mixStage(into print: inout Fingerprint) {
        switch stage {
        case .inspecting: print.mix(1)
        case .empty: print.mix(2)
        case .founding(let run):
            print.mix(3)
            print.mix(UInt64(run.generation))
            print.mix(run.deadline)
            print.mix(run.cluster?.caHash.bytes ?? [])
            print.mix(run.facts.encoded)
        case .halted(let cluster):
            print.mix(4)
            mix(cluster, into: &print)
        case .requesting(let attempt):
            print.mix(5)
            mix(attempt, into: &print)
        case .starting(let cluster, let role):
            print.mix(6)
            mix(cluster, into: &print)
            print.mix(UInt64(role.rawValue))
        case .restarting(let cluster, let role):
            print.mix(7)
            mix(cluster, into: &print)
            print.mix(UInt64(role.rawValue))
        case .running(let cluster, let role):
            print.mix(8)
            mix(cluster, into: &print)
            print.mix(UInt64(role.rawValue))
        case .settingAside(let generation, let reason):
            print.mix(9)
            print.mix(UInt64(generation))
            print.mix(reason)
        case .alarmed(let reason):
            print.mix(10)
            print.mix(reason)
        case .leaving(let departure):
            print.mix(11)
            mix(departure.cluster, into: &print)
            print.mix(departure.nonce)
            print.mix(departure.target?.bytes.bytes ?? [])
            for node in departure.tried { print.mix(node) }
            print.mix(departure.sendAt)
            print.mix(departure.giveUpAt)
            print.mix(departure.isRemoved)
        case .retired: print.mix(12)
        }
    }

    private func mix(_ cluster: ClusterIdentity, into print: inout Fingerprint) {
        print.mix(UInt64(cluster.generation))
        print.mix(cluster.caHash.bytes)
    }

    private func mix(_ attempt: JoinAttempt, into print: inout Fingerprint) {
        mix(attempt.cluster, into: &print)
        print.mix(attempt.identity?.name ?? "")
        print.mix(attempt.identity?.ipv4.bytes ?? [])
        print.mix(attempt.signingRequest ?? [])
        print.mix(attempt.target?.bytes.bytes ?? [])
        for node in attempt.tried { print.mix(node) }
        print.mix(attempt.nonce)
        print.mix(attempt.replaces)
        print.mix(attempt.sendAt)
        print.mix(attempt.giveUpAt)
        print.mix(UInt64(attempt.role?.rawValue ?? 0))
        for part in attempt.parts { print.mix(part ?? []) }
        print.mix(attempt.answer)
    }

    private func mixDesk(into print: inout Fingerprint) {
        for admission in desk.queue {
            print.mix(admission.joiner.node)
            print.mix(admission.nonce)
            print.mix(admission.request)
            print.mix(admission.replaces)
        }
        for leaver in desk.leavers {
            print.mix(leaver.identity.node)
            print.mix(leaver.nonce)
        }
        for visit in desk.visits {
            print.mix(visit.joiner)
            for nonce in visit.nonces { print.mix(nonce) }
        }
        for grant in desk.grants {
            print.mix(grant.joiner)
            print.mix(grant.nonce)
            print.mix(grant.expires)
        }
    }

    private func mixObserved(into print: inout Fingerprint) {
        print.mix(observed.probeAt)
        print.mix(observed.changedAt)
        print.mix(observed.failures)
        print.mix(observed.last?.isHealthy ?? false)
        for member in observed.last?.members ?? [] {
            print.mix(member.id)
            print.mix(member.name)
            print.mix(member.isStarted)
            print.mix(member.isLearner)
        }
        for agent in observed.last?.agents ?? [] { print.mix(agent.node) }
        for member in observed.incomplete {
            print.mix(member.id)
            print.mix(member.since)
            print.mix(member.isStarted)
        }
    }
}

extension HostCommand {
    /// A number per case, the same in every process.
    fileprivate var ordinal: Int {
        switch self {
        case .inspect: 0
        case .found: 1
        case .extendDeadline: 2
        case .release: 3
        case .stop: 4
        case .setAside: 5
        case .makeRequest: 6
        case .admit: 7
        case .startJoined: 8
        case .startAgent: 9
        case .restartExisting: 10
        case .probe: 11
        case .evict: 12
        case .expel: 13
        case .retire: 14
        }
    }
}
