import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension K3sHost {
    /// Starts a cluster of one. Nothing of it leaves the machine before the release.
    func found(_ identity: HostIdentity, generation: UInt32, deadline: BootInstant) {
        do throws(HostFailure) {
            var record = try prepareFounding(identity, generation: generation)
            guard bootTime < deadline else { throw HostFailure("the deadline has passed") }
            if !service.isRunning {
                try hooks.before(.server)
                try startService(.server, deadline: deadline, isBound: true, until: deadline)
            }
            try waitForNode(identity.name, .server, until: deadline)
            service.extend(to: deadline)
            for path in [k3s.serverToken, k3s.agentToken] {
                guard K3sToken(try secretLine(path)) != nil else {
                    throw HostFailure("\(path) holds no full token")
                }
            }
            let cluster = ClusterIdentity(
                generation: generation, caHash: try authorityHash())
            if record.cluster != cluster {
                record.cluster = cluster
                try store(record)
            }
            isExpectedToRun = true
            report(.founded(cluster))
        } catch {
            service.stop()
            report(.foundingFailed(generation: generation, reason: error.description))
        }
    }

    private func secretLine(_ path: String) throws(HostFailure) -> String {
        String(try readText(path).prefix { !$0.isNewline })
    }

    /// Tokens, settings, drop-in and record; those of an earlier try are kept. The hash of the
    /// authority is unknown until K3s has made one.
    private func prepareFounding(_ identity: HostIdentity, generation: UInt32)
        throws(HostFailure) -> HostRecord
    {
        try makeDirectory(paths.directory)
        if fileExists(paths.record) {
            let record = try loadRecord()
            guard record.phase == .founding, record.cluster.generation == generation,
                record.address == identity.ipv4, record.name == identity.name
            else { throw HostFailure("other datastore data is on this machine") }
            try configure(record, role: .server, isFounding: true, server: nil)
            return record
        }
        guard !fileExists(k3s.writeAheadLog), !fileExists(k3s.sqlite) else {
            throw HostFailure("\(k3s.dataDirectory) holds data, but its record is missing")
        }
        let record = HostRecord(
            phase: .founding, cluster: ClusterIdentity(generation: generation, caHash: .zero),
            identity: identity, endpoints: [identity.ipv4])
        try store(
            secret: randomSecret(), agentSecret: randomSecret(), settings: try localSettings())
        try configure(record, role: .server, isFounding: true, server: nil)
        try store(record)
        return record
    }

    /// 32 bytes of the kernel's randomness.
    private func randomSecret() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in
            let hex = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - hex.count) + hex
        }.joined()
    }

    /// READY is certified. `cluster-init` goes first: from here on an empty data directory must
    /// never found anything again. A bare `k3s server` would; one that is to join a server, and be
    /// it itself, fails. With its data K3s does not ask that server (`shouldBootstrapLoad`).
    func release(_ cluster: ClusterIdentity) {
        do throws(HostFailure) {
            var record = try loadRecord()
            guard record.cluster == cluster else {
                throw HostFailure("the certified cluster is not the one on this machine")
            }
            record.phase = .server
            try configure(record, role: .server, server: record.address)
            try store(record)
            permit.withdraw()
            if service.isRunning { try service.release() }
            runAfterHook(.server)
        } catch {
            isExpectedToRun = false
            service.stop()
            report(.exited(reason: error.description))
        }
    }
}
