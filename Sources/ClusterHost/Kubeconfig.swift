import ClusterPlan

/// The administrator's kubeconfig of this server, with its mesh address in place of loopback.
///
/// - Throws: on a machine that is no server, or for a reader that may not read the file.
package func serverKubeconfig(
    directory: String, k3s: K3sSettings
) throws(HostFailure) -> String {
    let record = try HostRecord(parsing: try readText(HostPaths(directory: directory).record))
    guard record.phase == .server else {
        throw HostFailure("this machine is no server of the cluster")
    }
    let lines = try readText(k3s.kubeconfig).split(
        separator: "\n", omittingEmptySubsequences: false)
    return lines.map { line in
        let key = line.prefix { $0 == " " } + "server: "
        return line.hasPrefix(key) ? key + K3sPlan.serverURL(record.address) : String(line)
    }.joined(separator: "\n")
}
