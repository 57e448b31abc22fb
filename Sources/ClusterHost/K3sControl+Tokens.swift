import ClusterPlan
import MeshBase
import NetAddress

/// Each agent has a token of its own, which does not expire, since the agent needs it at every
/// start, and is deleted with its Node.
extension K3sControl {
    /// A new token in the place of former ones; `nil` where K3s makes none.
    func makeAgentToken(
        for node: String, dataDirectory: String
    ) throws(HostFailure) -> K3sBootstrapToken? {
        let help = runCommand(
            [program, "token", "create", "--help"], limit: K3sControl.limit, interrupt: interrupt)
        guard help.output.contains("--ttl") else { return nil }
        try removeAgentTokens(of: node)
        let made = runCommand(
            [
                program, "token", "create", "--kubeconfig", kubeconfig, "--data-dir",
                dataDirectory, "--ttl", "0", "--description",
                K3sBootstrapToken.description(of: node),
            ], limit: K3sControl.limit, interrupt: interrupt)
        let line = made.output.split(whereSeparator: \.isNewline).last
        guard made.succeeded, let token = line.flatMap({ K3sBootstrapToken($0) }) else {
            throw HostFailure("token create: \(made.problem)")
        }
        return token
    }

    /// Whether a ready server says that the token is none. One that starts does not know its tokens
    /// yet and refuses them all; so the kubelet's certificate asks first whether it is ready, which
    /// includes that.
    ///
    /// - Parameters:
    ///   - authority: the file with the certificate that the server must show.
    ///   - file: where the token stands meanwhile; no argument holds it.
    func isRefused(
        _ token: K3sBootstrapToken, by server: IPAddress, authority: String, file: String
    ) -> Bool {
        let isReady = run(
            ["--server", K3sPlan.serverURL(server), "get", "--raw=/readyz"], limit: 5_000)
        guard isReady.succeeded, isReady.output.hasPrefix("ok") else { return false }
        let text = """
            apiVersion: v1
            kind: Config
            clusters:
            - name: default
              cluster:
                certificate-authority: \(authority)
                server: \(K3sPlan.serverURL(server))
            users:
            - name: default
              user:
                token: \(token.text)
            contexts:
            - name: default
              context:
                cluster: default
                user: default
            current-context: default

            """
        guard (try? writeFile(file, Array(text.utf8))) != nil else { return false }
        defer { removeFile(file) }
        let result = runCommand(
            [
                program, "kubectl", "--kubeconfig", file, "--request-timeout=5s", "get",
                "--raw=/apis",
            ],
            limit: 7_000, interrupt: interrupt)
        // What kubectl says of an answer 401.
        return !result.succeeded && result.errors.contains("must be logged in to the server")
    }

    /// Whoever has a copy of them gets in no more.
    func removeAgentTokens(of node: String) throws(HostFailure) {
        let listed = run(
            [
                "-n", "kube-system", "get", "secrets", "--no-headers", "--field-selector",
                "type=bootstrap.kubernetes.io/token", "-o",
                "custom-columns=NAME:.metadata.name,DESCRIPTION:.data.description",
            ], limit: K3sControl.limit)
        guard listed.succeeded else { throw HostFailure("get secrets: \(listed.problem)") }
        let description = Array(K3sBootstrapToken.description(of: node).utf8).base64
        for line in listed.output.split(whereSeparator: \.isNewline) {
            let words = line.split(separator: " ")
            guard words.count == 2, words[1] == description,
                words[0].hasPrefix("bootstrap-token-")
            else { continue }
            let deleted = run(
                ["-n", "kube-system", "delete", "secret", String(words[0]), "--ignore-not-found"],
                limit: K3sControl.limit)
            guard deleted.succeeded else {
                throw HostFailure("delete secret: \(deleted.problem)")
            }
        }
    }
}
