import CProcess
import ClusterPlan
import MeshBase

/// The one place for a server that joins: who holds it is admitted, others wait.
protocol JoinersPlace: AnyObject {
    /// Who holds it, after it was given up by whoever votes already or has not come for too long.
    func holder(_ nodes: [K3sNode]) throws(HostFailure) -> String?
    /// Takes it; whether it was free.
    func take(for name: String) throws(HostFailure) -> Bool
}

/// A joiner gives up earlier by itself.
private let placeLimit = Duration.seconds(200)

private func bootTime() -> BootInstant { BootInstant(nanoseconds: cprocess_boot_time()) }

/// Kept by this machine alone: the datastore itself takes one learner at a time, and lists it from its
/// grant on.
final class OwnPlace: JoinersPlace {
    private var held: (name: String, since: BootInstant)?

    func holder(_ nodes: [K3sNode]) -> String? {
        guard let current = held else { return nil }
        let hasArrived = nodes.contains { $0.name == current.name && $0.isVoter }
        if hasArrived || bootTime() - current.since > placeLimit { held = nil }
        return held?.name
    }

    func take(for name: String) -> Bool {
        held = (name, bootTime())
        return true
    }
}

/// Kept in Kubernetes, which lists a server only once it has joined: two servers that admit at once
/// agree, and so does one that admits after another.
final class KubernetesPlace: JoinersPlace {
    private let control: K3sControl
    /// The reservation that was seen last, and since when: a joiner that died gives its place up.
    private var seen: (id: String, since: BootInstant)?

    init(_ control: K3sControl) {
        self.control = control
    }

    func holder(_ nodes: [K3sNode]) throws(HostFailure) -> String? {
        guard let held = try control.reservation() else {
            seen = nil
            return nil
        }
        if seen?.id != held.id { seen = (held.id, bootTime()) }
        let hasArrived = nodes.contains { $0.name == held.name && $0.isVoter }
        let isOld = seen.map { bootTime() - $0.since > placeLimit } ?? false
        guard hasArrived || isOld else { return held.name }
        try control.releaseReservation()
        seen = nil
        return nil
    }

    func take(for name: String) throws(HostFailure) -> Bool {
        try control.reserve(for: name)
    }
}
