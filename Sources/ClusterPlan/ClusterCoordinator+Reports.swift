import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// What came of a host command, or happened to the datastore on its own.
    ///
    /// A report that answers nothing that is outstanding is late (its command was interrupted) and
    /// is dropped; `exited` needs no command.
    package mutating func hostReported(
        _ report: HostReport, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        if case .exited(let reason) = report {
            takeExit(reason, at: now, random: &random, into: &actions)
        } else if let command = pending?.command, report.answers(command) {
            pending = nil
            take(report, for: command, at: now, random: &random, into: &actions)
        } else {
            actions.append(.dropped(.unexpected))
            return
        }
        advance(at: now, random: &random, into: &actions)
    }

    private mutating func take(
        _ report: HostReport, for command: HostCommand, at now: Now,
        random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) {
        switch report {
        case .inspected(let local):
            if startedAt == nil { startedAt = now.boot }
            takeInspection(local, into: &actions)
        case .founded(let cluster, let facts):
            guard case .founding(var run) = stage else { return }
            run.cluster = cluster
            run.facts = facts
            stage = .founding(run)
            actions.append(.foundingReady(caHash: cluster.caHash, facts: facts))
        case .foundingFailed(_, let reason):
            guard case .founding = stage else { return }
            trouble = reason
            stage = .inspecting
            notBefore = now.boot + ClusterTiming.foundingRetry
            actions.append(.foundingFailed(reason: reason))
        case .asideSet:
            emptiedFor = founding.generation
            enter(.empty, at: now)
        case .requestMade(let bytes):
            guard case .requesting(var attempt) = stage else { return }
            guard !bytes.isEmpty, bytes.count <= JoinMessage.requestLimit else {
                trouble = "the certificate request does not fit a message"
                notBefore = now.boot + random.duration(in: ClusterTiming.fullRetryRange)
                return
            }
            attempt.signingRequest = bytes
            stage = .requesting(attempt)
        case .admitted, .postponed, .refused, .mustConfirm, .expelled:
            finishAdmission(report, at: now, into: &actions)
        case .running(let cluster, let role):
            trouble = ""
            startFailures = 0
            enter(.running(cluster, role), at: now)
        case .startFailed(let failure, let reason):
            takeStartFailure(failure, reason, at: now, random: &random)
        case .observed(let observation): takeObservation(observation, at: now, into: &actions)
        case .unobservable(let reason): takeProbeFailure(reason, at: now, into: &actions)
        case .evicted: observed.noteChange(at: now.boot)
        case .retired: enter(.retired, at: now)
        case .failed(let reason):
            takeFailure(reason, at: now, random: &random)
        case .exited: break
        }
    }

    private mutating func takeInspection(
        _ local: LocalDatastore, into actions: inout [ClusterAction]
    ) {
        switch local {
        case .foreign(let caHash):
            let reason =
                "a datastore that this mesh did not found is on this machine (authority "
                + "\(caHash)); stop it and move its data away, then start this node again"
            actions.append(.alarm(reason))
            stage = .alarmed(reason)
            tellConflict(caHash, into: &actions)
            return
        case .none: stage = .empty
        case .retired: stage = .retired
        case .founding(let cluster): stage = .halted(cluster)
        case .server(let cluster): stage = .restarting(cluster, .server)
        case .agent(let cluster): stage = .restarting(cluster, .agent)
        }
        withdrawConflict(into: &actions)
    }

    private mutating func takeStartFailure(
        _ failure: StartFailure, _ reason: String, at now: Now, random: inout SeededGenerator
    ) {
        trouble = reason
        switch failure {
        case .removed:
            guard case .starting(let cluster, _) = stage else {
                guard case .restarting(let cluster, _) = stage else { return }
                enter(.settingAside(generation: cluster.generation, reason: reason), at: now)
                return
            }
            enter(.settingAside(generation: cluster.generation, reason: reason), at: now)
        case .transient, .badGrant:
            var pause = random.duration(in: ClusterTiming.restartRange)
            var limit = ClusterTiming.agentBackoffLimit
            if case .starting(_, let role) = stage {
                if role == .server { limit = ClusterTiming.startBackoffLimit }
                enter(.inspecting, at: now)
                for _ in 0..<startFailures { pause *= ClusterTiming.startBackoffFactor }
                startFailures = min(startFailures + 1, ClusterTiming.startFailureLimit)
            }
            notBefore = now.boot + min(pause, limit)
        }
    }

    /// A step failed without saying how far it came; where that matters, the disk is asked.
    private mutating func takeFailure(
        _ reason: String, at now: Now, random: inout SeededGenerator
    ) {
        trouble = reason
        switch stage {
        case .running: return
        case .founding, .starting: stage = .inspecting
        case .inspecting, .empty, .halted, .requesting, .restarting, .settingAside, .leaving,
            .retired, .alarmed:
            break
        }
        notBefore = now.boot + random.duration(in: ClusterTiming.retryRange)
    }

    private mutating func takeExit(
        _ reason: String, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        trouble = reason
        switch stage {
        case .founding(let run):
            actions.append(.foundingFailed(reason: reason))
            stage = run.cluster.map { .halted($0) } ?? .inspecting
            pending = nil
            notBefore = now.boot + ClusterTiming.foundingRetry
        case .running(let cluster, let role):
            enter(.restarting(cluster, role), at: now)
            notBefore = now.boot + random.duration(in: ClusterTiming.restartRange)
            withdrawFacts(into: &actions)
        case .inspecting, .empty, .halted, .requesting, .starting, .restarting, .settingAside,
            .leaving, .retired, .alarmed:
            break
        }
    }
}

extension HostReport {
    /// Whether this report can be the answer to `command`.
    func answers(_ command: HostCommand) -> Bool {
        switch (command, self) {
        case (.inspect, .inspected), (.setAside, .asideSet), (.makeRequest, .requestMade),
            (.startJoined, .running), (.startJoined, .startFailed), (.startAgent, .running),
            (.startAgent, .startFailed), (.restartExisting, .running),
            (.restartExisting, .startFailed), (.probe, .observed), (.probe, .unobservable):
            true
        case (.found(_, let generation, _), .founded(let cluster, _)):
            cluster.generation == generation
        case (.found(_, let generation, _), .foundingFailed(let failed, _)): failed == generation
        case (.admit(let admission), .admitted(let joiner, let nonce, _, _)),
            (.admit(let admission), .postponed(let joiner, let nonce, _)),
            (.admit(let admission), .refused(let joiner, let nonce, _)),
            (.admit(let admission), .mustConfirm(let joiner, let nonce, _)):
            joiner == admission.joiner.node && nonce == admission.nonce
        case (.evict(let ordered), .evicted(let memberID)): memberID == ordered
        case (.expel(let leaver, let nonce), .expelled(let node, let answered)):
            node == leaver.node && answered == nonce
        case (.retire, .retired): true
        case (_, .failed): true
        default: false
        }
    }
}
