import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// Compares what is wanted with what there is and orders the next step.
    mutating func advance(
        at now: Now, random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) {
        guard takesPart else { return }
        if let pending, pending.expires <= now.boot {
            trouble = "a step on this machine did not end"
            self.pending = nil
            if case .starting = stage { stage = .inspecting }
        }
        if let wait = notBefore, wait <= now.boot { notBefore = nil }
        desk.expire(at: now.boot)
        switch stage {
        case .inspecting:
            if pending == nil, notBefore == nil { order(.inspect, at: now, into: &actions) }
        case .empty: advanceEmpty(at: now, random: &random, into: &actions)
        case .founding(let run): advanceFounding(run, at: now, into: &actions)
        case .halted(let cluster): advanceHalted(cluster, at: now, into: &actions)
        case .requesting(let attempt):
            advanceRequest(attempt, at: now, random: &random, into: &actions)
        case .starting(let cluster, _):
            // A join may take minutes; nobody waits for one into what is over.
            _ = supersede(cluster, at: now, into: &actions)
        case .restarting(let cluster, _):
            guard !supersede(cluster, at: now, into: &actions) else { return }
            if pending == nil, notBefore == nil {
                order(.restartExisting(servers: serverAddresses), at: now, into: &actions)
            }
        case .running(let cluster, let role):
            guard !supersede(cluster, at: now, into: &actions) else { return }
            advanceRunning(cluster, role, at: now, into: &actions)
        case .settingAside(let generation, _):
            if pending == nil, notBefore == nil {
                order(.setAside(generation: generation), at: now, into: &actions)
            }
        case .leaving(let departure): advanceLeaving(departure, at: now, into: &actions)
        case .alarmed, .retired: break
        }
    }

    /// Orders a command that answers; at most one is out at a time.
    mutating func order(
        _ command: HostCommand, at now: Now, into actions: inout [ClusterAction]
    ) {
        var expires = now.boot + ClusterTiming.commandLimit
        // Founding may take until its own deadline.
        if case .found(_, _, let deadline) = command { expires = max(expires, deadline) }
        pending = PendingCommand(command: command, expires: expires)
        actions.append(.host(command))
    }

    /// This machine's identity for certificates, once its IPv4 address is settled.
    var hostIdentity: HostIdentity? {
        peers[configuration.node].flatMap { identity(of: $0) }
    }

    func identity(of peer: ClusterPeer) -> HostIdentity? {
        guard let ipv4 = peer.ipv4, ipv4.isIPv4 else { return nil }
        let name = EtcdPlan.memberName(hostname: peer.hostname, node: peer.id)
        return HostIdentity(
            name: name, node: peer.id, ipv4: ipv4, ipv6: peer.ipv6,
            dnsName: "\(peer.dnsLabel).\(configuration.zone)")
    }

    private mutating func advanceEmpty(
        at now: Now, random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) {
        guard pending == nil, notBefore == nil else { return }
        if let cluster = founding.readyCluster {
            stage = .requesting(JoinAttempt(cluster: cluster))
            advance(at: now, random: &random, into: &actions)
            return
        }
        // The registers wait for the data of an abandoned start that came not as far as data.
        if founding.phase == .fenced, !founding.isOwner, emptiedFor != founding.generation {
            order(.setAside(generation: founding.generation &- 1), at: now, into: &actions)
            return
        }
        guard founding.phase == .starting, founding.isOwner,
            let deadline = founding.startDeadline, now.boot < deadline, let identity = hostIdentity
        else { return }
        let generation = founding.generation
        stage = .founding(FoundingRun(generation: generation, deadline: deadline))
        order(
            .found(identity, generation: generation, deadline: deadline), at: now, into: &actions)
    }

    private mutating func advanceFounding(
        _ run: FoundingRun, at now: Now, into actions: inout [ClusterAction]
    ) {
        if let ready = founding.readyCluster {
            if founding.isOwner, ready == run.cluster, !othersServe(ready) {
                actions.append(.host(.release(ready)))
                enter(.running(ready, .server), at: now)
                trouble = ""
                advanceRunning(ready, .server, at: now, into: &actions)
            } else if !founding.isOwner || run.cluster != nil
                || ready.generation != run.generation
            {
                abandon(run.generation, "another founding was certified", at: now, into: &actions)
            }
            // A certificate that overtakes our own health report is settled by that report.
            return
        }
        if founding.generation > run.generation {
            abandon(run.generation, "this founding was abandoned", at: now, into: &actions)
            return
        }
        guard founding.phase == .starting, founding.isOwner, let deadline = founding.startDeadline
        else {
            halt(run, "the claim's hold ended", into: &actions)
            return
        }
        if deadline != run.deadline {
            var renewed = run
            renewed.deadline = deadline
            stage = .founding(renewed)
            if now.boot < deadline {
                actions.append(.host(.extendDeadline(deadline)))
                // The new start knows nothing of what runs already.
                if let cluster = run.cluster {
                    actions.append(.foundingReady(caHash: cluster.caHash, facts: run.facts))
                }
            }
        }
        if now.boot >= deadline { halt(run, "READY was not certified in time", into: &actions) }
    }

    /// Whether another machine is in the certified cluster already. Its founder released it then,
    /// so uncertified data of it here is from before: the disk went back in time, and what is on
    /// it would come up as a second cluster of one server.
    private func othersServe(_ cluster: ClusterIdentity) -> Bool {
        roleFacts.contains { $0.key != configuration.node && $0.value.cluster == cluster }
    }

    /// Stops the datastore and keeps its data. The same claim may go on later, and what it proposed
    /// as ready may be certified even now: another start must show the same authority.
    private mutating func halt(
        _ run: FoundingRun, _ reason: String, into actions: inout [ClusterAction]
    ) {
        actions.append(.host(.stop(reason: reason)))
        pending = nil
        trouble = reason
        stage = run.cluster.map { .halted($0) } ?? .inspecting
    }

    /// Stops the datastore and renames what it left.
    private mutating func abandon(
        _ generation: UInt32, _ reason: String, at now: Now,
        into actions: inout [ClusterAction]
    ) {
        actions.append(.host(.stop(reason: reason)))
        trouble = reason
        enter(.settingAside(generation: generation, reason: reason), at: now)
        order(.setAside(generation: generation), at: now, into: &actions)
    }

    private mutating func advanceHalted(
        _ cluster: ClusterIdentity, at now: Now, into actions: inout [ClusterAction]
    ) {
        guard pending == nil, notBefore == nil else { return }
        if let ready = founding.readyCluster {
            if founding.isOwner, ready == cluster, !othersServe(cluster) {
                // Silence just after a start says nothing about others.
                if let startedAt, now.boot < startedAt + ClusterTiming.hearing { return }
                actions.append(.host(.release(cluster)))
                enter(.restarting(cluster, .server), at: now)
                order(.restartExisting(servers: serverAddresses), at: now, into: &actions)
            } else {
                abandon(
                    cluster.generation, "another founding was certified", at: now, into: &actions)
            }
            return
        }
        if founding.generation > cluster.generation {
            abandon(
                cluster.generation, "this founding was abandoned", at: now, into: &actions)
            return
        }
        guard founding.phase == .starting, founding.isOwner,
            founding.generation == cluster.generation,
            let deadline = founding.startDeadline, now.boot < deadline, let identity = hostIdentity
        else { return }
        stage = .founding(FoundingRun(generation: cluster.generation, deadline: deadline))
        order(
            .found(identity, generation: cluster.generation, deadline: deadline), at: now,
            into: &actions)
    }

    /// Gives way to a certified cluster of a later generation; refuses to guess about any other
    /// difference. Returns whether the stage changed.
    private mutating func supersede(
        _ cluster: ClusterIdentity, at now: Now, into actions: inout [ClusterAction]
    ) -> Bool {
        // Only a reset ends a generation that was ready, and then what it founded ends, too.
        if founding.generation > cluster.generation, founding.readyCluster == nil {
            abandon(cluster.generation, "the founding was reset", at: now, into: &actions)
            return true
        }
        guard let ready = founding.readyCluster, ready != cluster else { return false }
        if ready.generation > cluster.generation {
            abandon(
                cluster.generation, "a later founding was certified", at: now, into: &actions)
            return true
        }
        let reason =
            "the datastore on this machine is not of the certified cluster; "
            + "move its state directory away to join, or use another token"
        actions.append(.host(.stop(reason: reason)))
        actions.append(.alarm(reason))
        enter(.alarmed(reason), at: now)
        withdrawFacts(into: &actions)
        return true
    }

    /// Changes the stage and forgets what belonged to the old one.
    mutating func enter(_ next: Stage, at now: Now) {
        stage = next
        pending = nil
        notBefore = nil
        observed = ObservedDatastore(probeAt: now.boot)
        desk = AdmissionDesk()
    }
}
