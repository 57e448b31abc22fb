import ClusterPlan
import MeshBase

/// The `kubectl` within K3s or k0s, run with a kubeconfig file.
struct K3sControl {
    /// Looked up with every call: it may be installed later.
    let program: String
    let kubeconfig: String
    /// Ends a running command when readable.
    let interrupt: Int32

    /// Milliseconds. K3s' etcd elects within ten seconds.
    static let limit = 15_000
    /// One server may join at a time: who holds the place, kept in the datastore itself, so that
    /// two servers that admit at once agree.
    private static let place = "edgevpn-swift-joining"

    /// All Nodes; the read needs a quorum of the datastore.
    func nodes(limit: Int = 10_000) throws(HostFailure) -> [K3sNode] {
        let result = run(
            ["get", "nodes", "--no-headers", "-o", K3sPlan.nodeColumns], limit: limit)
        guard result.succeeded, let nodes = K3sPlan.nodes(inList: result.output) else {
            throw HostFailure("get nodes: \(result.problem)")
        }
        return nodes
    }

    /// Whether the API server finds itself ready.
    func checkReadiness() throws(HostFailure) {
        let result = run(["get", "--raw=/readyz"], limit: 5_000)
        guard result.succeeded, result.output.hasPrefix("ok") else {
            throw HostFailure("the API server is not ready: \(result.problem)")
        }
    }

    /// Deletes a Node: K3s then removes its member, and its node password and its token go, too.
    func remove(_ name: String) throws(HostFailure) {
        try removeAgentTokens(of: name)
        let result = run(
            ["delete", "node", name, "--ignore-not-found", "--timeout=20s"], limit: 25_000)
        guard result.succeeded else { throw HostFailure("delete node: \(result.problem)") }
        let password = run(
            [
                "-n", "kube-system", "delete", "secret", name + ".node-password.k3s",
                "--ignore-not-found",
            ], limit: K3sControl.limit)
        guard password.succeeded else { throw HostFailure("delete secret: \(password.problem)") }
    }

    /// The joiner that holds the place, and the identity of its reservation.
    func reservation() throws(HostFailure) -> (id: String, name: String)? {
        let result = run(
            [
                "-n", "kube-system", "get", "configmap", K3sControl.place, "--ignore-not-found",
                "--no-headers", "-o", "custom-columns=UID:.metadata.uid,NODE:.data.node",
            ], limit: K3sControl.limit)
        guard result.succeeded else { throw HostFailure("get configmap: \(result.problem)") }
        let words = result.output.split(whereSeparator: \.isWhitespace)
        return words.count == 2 ? (String(words[0]), String(words[1])) : nil
    }

    /// Takes the place; whether it was free.
    func reserve(for name: String) throws(HostFailure) -> Bool {
        let result = run(
            [
                "-n", "kube-system", "create", "configmap", K3sControl.place,
                "--from-literal=node=\(name)",
            ], limit: K3sControl.limit)
        if result.succeeded { return true }
        guard result.errors.contains("already exists") else {
            throw HostFailure("create configmap: \(result.problem)")
        }
        return false
    }

    func releaseReservation() throws(HostFailure) {
        let result = run(
            ["-n", "kube-system", "delete", "configmap", K3sControl.place, "--ignore-not-found"],
            limit: K3sControl.limit)
        guard result.succeeded else { throw HostFailure("delete configmap: \(result.problem)") }
    }

    func run(_ words: [String], limit: Int) -> CommandOutput {
        runCommand(
            [
                locateProgram(program) ?? program, "kubectl", "--kubeconfig", kubeconfig,
                "--request-timeout=\(limit / 1000)s",
            ] + words, limit: limit + 2_000, interrupt: interrupt)
    }
}
