import ClusterPlan
import Consensus
import MeshBase

/// The founding in words for a person at a site: how things stand, and who may do what next.
package struct FoundingExplanation: Hashable, Sendable {
    /// What is known, the most important first.
    package var facts: [String]
    /// What a person can do now, in order; empty when everything goes its way.
    package var next: [String]
}

extension NodeStatus {
    package var explanation: FoundingExplanation {
        var text = FoundingExplanation(facts: [], next: [])
        guard let policy else {
            text.facts.append("The token has no founding policy: the mesh works, nobody founds.")
            text.next.append("Make a token with `token new --nodes T` and start anew with it.")
            return text
        }
        explainCourse(policy, into: &text)
        explainVoters(policy, into: &text)
        if founding.phase != .ready { explainWhatIsMissing(policy, into: &text) }
        if let alarm = founding.alarm {
            text.facts.insert("ALARM: \(alarm).", at: 0)
        }
        return text
    }

    private func name(_ node: NodeID) -> String {
        if node == id { return "this machine" }
        return names[node].map { "\($0) (\(node.short))" } ?? node.short
    }

    private func list(_ nodes: [NodeID]) -> String {
        nodes.map { name($0) }.joined(separator: ", ")
    }

    private func explainCourse(_ policy: GenesisPolicy, into text: inout FoundingExplanation) {
        let owner = founding.owner.map { name($0) } ?? "nobody"
        switch founding.phase {
        case .ready:
            text.facts.append(
                "The cluster exists: \(owner) founded it. This is final and proven by "
                    + "\(founding.readyCertificate?.votes.count ?? 0) signatures.")
            text.next.append(
                "Give later machines what `token grow` prints; no machine founds again.")
        case .starting, .claiming, .fenced:
            text.facts.append(
                founding.owner == nil
                    ? "The voters are deciding who founds." : "\(owner) has the claim to found.")
        case .waiting, .refused, .none, .alarm:
            text.facts.append(
                founding.owner == nil
                    ? "No cluster has been founded yet." : "\(owner) has the claim to found.")
        }
        if founding.generation > 1 {
            text.facts.append(
                founding.reset == nil
                    ? "This is attempt \(founding.generation); the one before was given up."
                    : "This is attempt \(founding.generation); an operator reset the founding.")
        }
        if !founding.reason.isEmpty { text.facts.append("Now: \(founding.reason).") }
        if !cluster.reason.isEmpty, cluster.reason != founding.reason {
            text.facts.append("The datastore here: \(cluster.reason).")
        }
        text.facts.append(
            "\(policy.voterLimit) machines may vote, \(policy.quorum) must agree, "
                + "\(policy.diskLosses) may lose their disk.")
    }

    private func explainVoters(_ policy: GenesisPolicy, into text: inout FoundingExplanation) {
        for voter in founding.voters {
            var words: [String] = []
            if voter.node == id {
                words.append(founding.votingProblem.map { "does not vote: \($0)" } ?? "votes")
            } else if founding.phase == .ready {
                continue
            } else if voter.answers {
                words.append("answers")
            } else if let silence = voter.silence {
                words.append("silent for \(Int(silence.inSeconds)) s")
            } else {
                words.append("known, but never heard since this node started")
            }
            if voter.hasLocalData { words.append("has data of a datastore already") }
            text.facts.append("Voter \(name(voter.node)): \(words.joined(separator: ", ")).")
        }
    }

    private func explainWhatIsMissing(
        _ policy: GenesisPolicy, into text: inout FoundingExplanation
    ) {
        let silent = founding.voters.filter { !$0.answers && $0.node != id }.map(\.node)
        let unseen = policy.voterLimit - founding.voters.count
        let missing = policy.quorum - founding.answering
        if missing > 0 {
            text.next.append("Nothing can be decided before \(missing) more voters answer.")
            if !silent.isEmpty {
                text.next.append("Bring back or connect: \(list(silent)).")
            }
            if unseen > 0 {
                let how =
                    policy.mode == .voters
                    ? "name them with `token voter ID` and the admin key, and start them"
                    : "start them with the founding token"
                text.next.append(
                    "\(unseen) of \(policy.voterLimit) voters were never seen: \(how).")
            }
        }
        let occupied = founding.voters.filter(\.hasLocalData).map(\.node)
        if founding.owner == nil, !occupied.isEmpty {
            text.next.append(
                "Look at the datastore data on \(list(occupied)): move it away, or say "
                    + "`cluster init` on the machine that shall found in spite of it.")
        }
        if founding.owner == nil, !policy.foundsFromTokenAlone {
            text.next.append("Say `cluster init` on the one machine that shall found.")
        }
        explainTakeover(policy, into: &text)
    }

    private func explainTakeover(_ policy: GenesisPolicy, into text: inout FoundingExplanation) {
        guard let owner = founding.owner, owner != id, let silence = founding.ownerSilence,
            silence > .seconds(60)
        else { return }
        text.next.append(
            "If \(name(owner)) still exists, start it: it goes on where it was "
                + "(silent for \(Int(silence.inSeconds)) s).")
        if founding.takeoverProblem == nil {
            text.next.append(
                "If it is lost for good, say `cluster takeover` on any voter; the voters then wait "
                    + "until nothing of it can run any more.")
        } else {
            text.next.append(
                "If it is lost for good, all voters would have to agree and it is one of them: "
                    + "say `cluster reset --admin-key FILE` on any machine.")
        }
    }
}
