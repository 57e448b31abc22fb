import ClusterPlan
import Glibc
import MeshBase
import NetAddress

/// etcd's own client program, run with certificate files. It is the only thing here that speaks
/// etcd's protocol, so the daemon needs no gRPC.
struct EtcdControl {
    let program: String
    let paths: HostPaths
    /// Ends a running command when readable.
    let interrupt: Int32

    /// Milliseconds. Two elections fit; a datastore that needs longer is not healthy.
    private static let limit = 15_000

    func members(at endpoints: [IPAddress], limit: Int = EtcdControl.limit)
        throws(HostFailure) -> [DatastoreMember]
    {
        let result = run(["member", "list", "--write-out=simple"], endpoints, limit: limit)
        guard result.succeeded, let members = EtcdPlan.members(inList: result.output) else {
            throw HostFailure("member list: \(result.problem)")
        }
        return members
    }

    /// The registered agents. The read goes through the leader, so an answer means that the
    /// datastore has a quorum.
    func agents(at endpoints: [IPAddress]) throws(HostFailure) -> [ClusterAgent] {
        let result = run(["get", "--prefix", EtcdPlan.agentPrefix], endpoints, limit: 5_000)
        guard result.succeeded else { throw HostFailure(result.problem) }
        return EtcdPlan.agents(inOutput: result.output)
    }

    func registerAgent(_ node: NodeID, name: String, at endpoints: [IPAddress])
        throws(HostFailure)
    {
        let key = EtcdPlan.agentPrefix + node.description
        let result = run(["put", "--", key, name], endpoints, limit: 5_000)
        guard result.succeeded else { throw HostFailure("register: \(result.problem)") }
    }

    func removeAgent(_ node: NodeID, at endpoints: [IPAddress]) throws(HostFailure) {
        let key = EtcdPlan.agentPrefix + node.description
        let result = run(["del", "--", key], endpoints, limit: 5_000)
        guard result.succeeded else { throw HostFailure("del: \(result.problem)") }
    }

    func addLearner(_ name: String, address: IPAddress, at endpoints: [IPAddress])
        -> CommandOutput
    {
        run(
            ["member", "add", name, "--learner", "--peer-urls=\(EtcdPlan.peerURL(address))"],
            endpoints, limit: EtcdControl.limit)
    }

    func promote(_ id: UInt64, at endpoints: [IPAddress]) -> CommandOutput {
        run(["member", "promote", String(id, radix: 16)], endpoints, limit: 5_000)
    }

    func remove(_ id: UInt64, at endpoints: [IPAddress]) -> CommandOutput {
        run(["member", "remove", String(id, radix: 16)], endpoints, limit: EtcdControl.limit)
    }

    private func run(_ command: [String], _ endpoints: [IPAddress], limit: Int) -> CommandOutput {
        let urls = endpoints.map { EtcdPlan.clientURL($0) }.joined(separator: ",")
        let options = [
            "--endpoints=\(urls)", "--cacert=\(paths.authorityCertificate)",
            "--cert=\(paths.certificate)", "--key=\(paths.key)",
            "--command-timeout=\(limit / 1000)s",
        ]
        return runCommand(
            [program] + options + command, environment: ["ETCDCTL_API=3"], limit: limit + 1_000,
            interrupt: interrupt)
    }
}
