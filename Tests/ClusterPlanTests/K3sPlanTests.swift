import ClusterPlan
import Cryptography
import MeshBase
import NetAddress
import Testing

@Suite struct K3sPlanTests {
    private let identity = HostIdentity(
        name: "pi-1a2b3c",
        node: NodeID(Bytes32(word0: 0x1A2B_3C << 40, word1: 0, word2: 0, word3: 0)),
        ipv4: .v4(10 << 24 | 1 << 16 | 5), ipv6: .v6(0xFD00 << 48, 5),
        dnsName: "pi.mesh.internal")
    private let hash = Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)

    // MARK: - Configuration

    @Test func theFoundersDropInIsWhatK3sDocuments() {
        var dropIn = K3sPlan.DropIn(
            role: .server, identity: identity, interface: "edgevpn0", tokenFile: "/s/server-token")
        dropIn.isFounding = true
        dropIn.agentTokenFile = "/s/agent-token"
        dropIn.names = ["api.mesh.internal", "10.1.255.254"]
        dropIn.settings = ["cluster-cidr: 10.52.0.0/16"]
        #expect(
            dropIn.text
                == """
                # Written by edgevpn-swift; changes here are lost.
                cluster-init: true
                token-file: '/s/server-token'
                agent-token-file: '/s/agent-token'
                node-name: 'pi-1a2b3c'
                node-ip: '10.1.0.5'
                flannel-iface: 'edgevpn0'
                advertise-address: '10.1.0.5'
                tls-san:
                  - '10.1.0.5'
                  - 'fd00:0:0:0:0:0:0:5'
                  - 'pi.mesh.internal'
                  - 'api.mesh.internal'
                  - '10.1.255.254'
                cluster-cidr: 10.52.0.0/16

                """.replacing("fd00:0:0:0:0:0:0:5", with: "\(identity.ipv6)"))
    }

    @Test func anAgentsDropInHoldsNothingOfServers() {
        var dropIn = K3sPlan.DropIn(
            role: .agent, identity: identity, interface: "edgevpn0", tokenFile: "/s/agent's")
        dropIn.server = "https://10.1.0.9:6443"
        dropIn.settings = ["cluster-cidr: 10.52.0.0/16"]
        dropIn.dataDirectory = "/d"
        #expect(
            dropIn.text == """
                # Written by edgevpn-swift; changes here are lost.
                server: 'https://10.1.0.9:6443'
                token-file: '/s/agent''s'
                node-name: 'pi-1a2b3c'
                node-ip: '10.1.0.5'
                flannel-iface: 'edgevpn0'
                data-dir: '/d'

                """)
    }

    @Test func tokensAreK3sFullForm() throws {
        let token = K3sToken(caHash: hash, user: "server", secret: "a:b")
        #expect(token.text == "K10\(hash)::server:a:b")
        #expect(K3sToken(token.text) == token)
        for text in [
            "secret", "K10::server:x", "K10\(hash)::server:", "K10\(hash):server:x",
            "K10\(hash)::x", "K10zz\(String(repeating: "0", count: 62))::server:x", "",
        ] {
            #expect(K3sToken(text) == nil, "\(text)")
        }
    }

    // MARK: - Nodes

    /// As `kubectl` 1.32 and 1.20 print the columns; the addresses of dual stack share one.
    @Test func nodesAreReadAsKubectlPrintsThem() {
        let text = """
            n1-1a2b3c   5d9ab0aa-7e2f-4b4c-9c56-0123456789ab   10.1.0.1,fd00::1   true     True     True
            n2-aaaaaa   15d9ab0a-7e2f-4b4c-9c56-0123456789ab   10.1.0.2           true     False    Unknown
            n3-bbbbbb   25d9ab0a-7e2f-4b4c-9c56-0123456789ab   10.1.0.3           true     <none>   True
            n4-cccccc   35d9ab0a-7e2f-4b4c-9c56-0123456789ab   <none>             <none>   <none>   False

            """
        #expect(
            K3sPlan.nodes(inList: text) == [
                K3sNode(
                    id: 0x5D9A_B0AA_7E2F_4B4C, name: "n1-1a2b3c", ipv4: IPAddress("10.1.0.1"),
                    isServer: true, isVoter: true, isReady: true),
                K3sNode(
                    id: 0x15D9_AB0A_7E2F_4B4C, name: "n2-aaaaaa", ipv4: IPAddress("10.1.0.2"),
                    isServer: true, isVoter: false, isReady: false),
                K3sNode(
                    id: 0x25D9_AB0A_7E2F_4B4C, name: "n3-bbbbbb", ipv4: IPAddress("10.1.0.3"),
                    isServer: true, isVoter: true, isReady: true),
                K3sNode(
                    id: 0x35D9_AB0A_7E2F_4B4C, name: "n4-cccccc", ipv4: nil,
                    isServer: false, isVoter: false, isReady: false),
            ])
        #expect(K3sPlan.nodes(inList: "") == [])
        #expect(K3sPlan.nodes(inList: "Error from server") == nil)
        #expect(K3sPlan.nodes(inList: "a zz 10.1.0.1 true True True") == nil)
    }

    // MARK: - Admission

    private func node(
        _ name: String, _ last: UInt32, server: Bool = true, voter: Bool = true,
        ready: Bool = true
    ) -> K3sNode {
        K3sNode(
            id: UInt64(last), name: name, ipv4: .v4(10 << 24 | 1 << 16 | last), isServer: server,
            isVoter: server && voter, isReady: ready)
    }

    private func step(
        _ nodes: [K3sNode], wish: RoleWish = .auto, replaces: UInt64 = 0,
        reservation: String? = nil, living: Set<String> = []
    ) -> K3sPlan.AdmissionStep {
        var admission = Admission(
            nonce: Array(0..<16), joiner: identity,
            joinerKey: StaticPublicKey(Bytes32(word0: 1, word1: 1, word2: 1, word3: 1)),
            request: [1], wish: wish, serverLimit: 3, replaces: replaces,
            cluster: ClusterIdentity(generation: 1, caHash: hash))
        admission.livingNamesakes = living
        return K3sPlan.admissionStep(admission, nodes: nodes, reservation: reservation)
    }

    @Test func serversJoinOneAtATime() {
        let founder = node("a-000001", 1)
        #expect(step([founder]) == .reserve)
        #expect(step([founder], reservation: "pi-1a2b3c") == .grantServer)
        #expect(step([founder], reservation: "other-aaaaaa") == .postpone(.anotherJoining))
        let learner = node("b-000002", 2, voter: false)
        #expect(step([founder, learner]) == .postpone(.anotherJoining))
        // An agent disturbs nobody.
        #expect(step([founder, learner], wish: .agent) == .grantAgent)
    }

    @Test func whoComesAfterTheLastServersPlaceIsAnAgent() {
        let three = [node("a-000001", 1), node("b-000002", 2), node("c-000003", 3)]
        #expect(step(three) == .grantAgent)
        #expect(step(three, wish: .server) == .postpone(.full))
        // A place that may become free again is no reason to be an agent for ever.
        let unsettled = three[..<2] + [node("c-000003", 3, voter: false)]
        #expect(step(Array(unsettled)) == .postpone(.anotherJoining))
    }

    @Test func aMachineUnderItsOldNameReplacesItsFormerSelf() {
        let others = [node("a-000001", 1), node("b-000002", 2)]
        // Same identity, data and node password lost: it must say so itself.
        let own = node("pi-1a2b3c", 5, ready: false)
        #expect(step(others + [own]) == .confirm(own.id))
        #expect(step(others + [own], replaces: own.id) == .remove("pi-1a2b3c"))
        #expect(step(others + [own], replaces: own.id + 1) == .confirm(own.id))
        // New identity, old host name: once Kubernetes misses the old one.
        let old = node("pi-ffffff", 6, ready: false)
        #expect(step(others + [old]) == .remove("pi-ffffff"))
        #expect(step(others + [node("pi-ffffff", 6)]) == .postpone(.anotherJoining))
        // Another living machine may have the same host name.
        #expect(step(others + [old], living: ["pi-ffffff"]) == .grantAgent)
        #expect(step([others[0], old], living: ["pi-ffffff"]) == .reserve)
    }

    @Test func aForeignNodeAtTheJoinersAddressIsNotOverwrittenWhileItLives() {
        let rival = node("rival-000009", 5)
        #expect(step([node("a-000001", 1), rival]) == .refuse(.addressInUse))
        let dead = node("rival-000009", 5, ready: false)
        #expect(step([node("a-000001", 1), dead]) == .remove("rival-000009"))
    }
}
