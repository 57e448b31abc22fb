import ClusterPlan
import Cryptography
import MeshBase
import Testing

/// The settings that all servers share: read as K3s reads them, and certified with READY.
@Suite struct GenesisSettingsTests {
    @Test func criticalSettingsAreReadAsK3sMergesThem() {
        let main = """
            # cluster-cidr: 10.9.0.0/16
            cluster-cidr: 10.42.0.0/16
            node-taint:
              - a=b:NoSchedule
            cluster-dns:
              - 10.43.0.10
              - fd00::10
            token: very-secret
            disable: traefik
            """
        let later = """
            cluster-cidr: '10.52.0.0/16'   # for pods
            flannel-backend:   host-gw
            disable+: ["servicelb", traefik]
            service-cidr:
            """
        #expect(
            K3sPlan.criticalSettings(inFiles: [main, later]) == [
                "cluster-cidr: 10.52.0.0/16", "cluster-dns: [10.43.0.10, fd00::10]",
                "disable: [traefik, servicelb]", "flannel-backend: host-gw",
            ])
        #expect(K3sPlan.criticalSettings(inFiles: []) == [])
    }

    /// A grant comes from another machine: it may set what servers share and nothing else.
    @Test(arguments: [
        "cluster-init: true", "cluster-cidr: x\ndata-dir: /", "nothing", "cluster-cidr: \u{1}",
        "cluster-cidr: " + String(repeating: "x", count: K3sPlan.settingsLimit),
    ])
    func aGrantSetsOnlyWhatServersShare(text: String) {
        #expect(K3sPlan.settings(granted: text) == nil)
        #expect(K3sPlan.settings(granted: "cluster-cidr: 10.52.0.0/16\n")?.count == 1)
        #expect(K3sPlan.settings(granted: "") == [])
    }

    @Test func whatDiffersFromTheFoundersIsNamed() {
        let certified = ["cluster-cidr: 10.52.0.0/16", "disable: [servicelb, traefik]"]
        let dropIn = certified.joined(separator: "\n")
        func stray(before: String = "", after: String = "") -> String? {
            K3sPlan.strayKey(inFiles: [before, dropIn, after], certified: certified)
        }
        #expect(stray() == nil)
        #expect(stray(before: "cluster-cidr: 10.9.0.0/16\ndisable: []\nnode-ip: 1.2.3.4") == nil)
        #expect(stray(after: "disable+: [traefik]\ncluster-cidr: \"10.52.0.0/16\"") == nil)
        #expect(stray(before: "flannel-backend: none") == "flannel-backend")
        #expect(stray(after: "cluster-cidr: 10.9.0.0/16") == "cluster-cidr")
        #expect(stray(after: "disable+: metrics-server") == nil)
        #expect(stray(after: "disable: servicelb") == nil)
        #expect(stray(after: "disable: traefik") == "disable")
        #expect(K3sPlan.strayKey(inFiles: ["disable: traefik"], certified: []) == nil)
        #expect(K3sPlan.strayKey(inFiles: ["disable: servicelb"], certified: []) == "disable")
        #expect(K3sPlan.strayKey(inFiles: [""], certified: certified) == "cluster-cidr")
    }

    /// The hashes are from another implementation of SHA-256.
    @Test(arguments: [
        ("", "040cfd6495184379089a72a93952b7ebeecb0de9fce1334a5dd76f1b7d5436ca"),
        (
            "cluster-cidr: 10.52.0.0/16\ndisable: [servicelb, traefik]\n",
            "79f771e249f2a7cfbcaa7e34fde68bbf18dfcb7412249dc03fc6cc734f9410b6"
        ),
    ])
    func theHashIsTheDocumentedOne(text: String, hash: String) {
        #expect("\(K3sPlan.hash(ofSettings: text))" == hash)
    }

    @Test func factsAreTheDocumentedBytes() {
        let hash = Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)
        let facts = GenesisFacts(settings: hash)
        #expect(facts.encoded == [1, 32] + hash.bytes)
        #expect(GenesisFacts(certified: facts.encoded) == facts)
        #expect(GenesisFacts().encoded == [] && GenesisFacts(certified: []) == GenesisFacts())
        // A later release certifies more; what is cut short says nothing.
        let later: [UInt8] = [0, 1, 9] + facts.encoded + [7, 2, 1, 1]
        #expect(GenesisFacts(certified: later) == facts)
        #expect(GenesisFacts(certified: Array(facts.encoded.dropLast())) == GenesisFacts())
        #expect(GenesisFacts(certified: [1, 2, 3, 4]) == GenesisFacts())
    }

    /// What the founder reports of itself is what joiners are held to, whoever grants.
    @Test func theCertifiedFactsReachEveryJoiner() {
        var mesh = SimulatedMesh(roles: [.auto, .auto, .auto])
        let facts = GenesisFacts(settings: Bytes32(word0: 5, word1: 6, word2: 7, word3: 8))
        mesh.hosts[0].genesis = facts
        mesh.foundByNode0()
        #expect(mesh.readyFacts == facts)
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 3, agents: 0) })
        #expect(mesh.hosts[1].facts == facts && mesh.hosts[2].facts == facts)
    }
}
