import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension EtcdHost {
    /// Starts a cluster of one. Nothing of it leaves the machine before the release.
    func found(_ identity: HostIdentity, generation: UInt32, deadline: BootInstant) {
        do throws(HostFailure) {
            let cluster = try prepareFounding(identity, generation: generation)
            guard bootTime < deadline else { throw HostFailure("the deadline has passed") }
            if !service.isRunning {
                try hooks.before(.server)
                try startService(deadline: deadline)
            }
            try waitForHealth(at: identity.ipv4, until: deadline)
            isExpectedToRun = true
            report(.founded(cluster))
        } catch {
            service.stop()
            report(.foundingFailed(generation: generation, reason: error.description))
        }
    }

    /// Authority, certificate, configuration and record; those of an earlier try are kept.
    private func prepareFounding(_ identity: HostIdentity, generation: UInt32)
        throws(HostFailure) -> ClusterIdentity
    {
        let key = try hostKey()
        if fileExists(paths.record) {
            let record = try loadRecord()
            guard record.phase == .founding, record.cluster.generation == generation,
                record.address == identity.ipv4, record.name == identity.name
            else { throw HostFailure("other datastore data is on this machine") }
            return record.cluster
        }
        guard !fileExists(paths.writeAheadLog) else {
            throw HostFailure("\(paths.data) holds data, but its record is missing")
        }
        let authority = try CertificateAuthority(
            name: "\(settings.clusterToken) cluster g\(generation)")
        guard let request = SigningRequest(der: try key.request(for: identity)) else {
            throw HostFailure("this machine's own certificate request is not valid")
        }
        let certificate = try authority.issue(for: identity, request: request, role: .server)
        let authorityCertificate = try derBytes(of: authority)
        let cluster = ClusterIdentity(
            generation: generation, caHash: sha256(authorityCertificate))
        try storeAuthority(authorityCertificate, key: authority.rawKey)
        try writeFile(paths.certificate, Array(certificatePEM(certificate).utf8))
        try writeConfiguration(
            name: identity.name, address: identity.ipv4,
            initialCluster: "\(identity.name)=\(EtcdPlan.peerURL(identity.ipv4))", isNew: true,
            cluster: cluster)
        try store(
            HostRecord(
                phase: .founding, cluster: cluster, identity: identity,
                endpoints: [identity.ipv4]))
        return cluster
    }

    func storeAuthority(_ certificate: [UInt8], key: [UInt8]) throws(HostFailure) {
        var key = key
        defer { zeroize(&key) }
        try writeFile(paths.authorityCertificate, Array(certificatePEM(certificate).utf8))
        try writeFile(paths.authorityKey, key)
    }

    func derBytes(of authority: CertificateAuthority) throws(HostFailure) -> [UInt8] {
        guard let bytes = try? authority.certificate.derBytes else {
            throw HostFailure("the authority's certificate cannot be written")
        }
        return bytes
    }

    /// READY is certified. The record comes first: a daemon that dies between the two steps finds
    /// a certified member whose process the kernel stopped, and starts it again.
    func release(_ cluster: ClusterIdentity) {
        do throws(HostFailure) {
            var record = try loadRecord()
            guard record.cluster == cluster else {
                throw HostFailure("the certified cluster is not the one on this machine")
            }
            record.phase = .server
            // From here on an empty data directory must never found anything again.
            try writeConfiguration(
                name: record.name, address: record.address,
                initialCluster: "\(record.name)=\(EtcdPlan.peerURL(record.address))",
                isNew: false, cluster: cluster)
            try store(record)
            if service.isRunning { try service.release() }
            runAfterHook(.server)
        } catch {
            isExpectedToRun = false
            service.stop()
            report(.exited(reason: error.description))
        }
    }
}
