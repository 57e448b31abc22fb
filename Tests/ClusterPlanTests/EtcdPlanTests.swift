import ClusterPlan
import Cryptography
import MeshBase
import NetAddress
import Testing

@Suite struct EtcdPlanTests {
    private let node = NodeID(Bytes32(word0: 0x1A2B_3C4D << 32, word1: 0, word2: 0, word3: 0))

    @Test func namesAreLabelsWithSixDigitsOfTheNode() {
        #expect(EtcdPlan.memberName(hostname: "Pi One.local", node: node) == "pi-one-local-1a2b3c")
        #expect(EtcdPlan.memberName(hostname: "--", node: node) == "node-1a2b3c")
        let long = EtcdPlan.memberName(hostname: String(repeating: "x", count: 300), node: node)
        #expect(long.utf8.count == EtcdPlan.nameLimit)
    }

    @Test func theMemberListIsReadAsEtcdctlPrintsIt() {
        let text = """
            8992d2ad98f95e77, unstarted, , https://10.1.0.2:2380, , true
            9b3a086a2dfd84a0, started, a-1, https://10.1.0.1:2380, https://10.1.0.1:2379, false

            """
        let expected = [
            DatastoreMember(
                id: 0x8992_D2AD_98F9_5E77, name: "", ipv4: IPAddress("10.1.0.2"),
                isStarted: false, isLearner: true),
            DatastoreMember(
                id: 0x9B3A_086A_2DFD_84A0, name: "a-1", ipv4: IPAddress("10.1.0.1"),
                isStarted: true, isLearner: false),
        ]
        #expect(EtcdPlan.members(inList: text) == expected)
        #expect(EtcdPlan.members(inList: "") == nil)
        #expect(EtcdPlan.members(inList: "Error: context deadline exceeded") == nil)
        let line = "9b, started, a, https://10.1.0.1:2380, , false\n"
        #expect(EtcdPlan.members(inList: String(repeating: line, count: 65)) == nil)
    }

    @Test func anAdditionNamesTheMembershipAfterIt() throws {
        let text = """
            Member 8992d2ad98f95e77 added to cluster d02c4456d28c2a0c

            ETCD_NAME="b-2"
            ETCD_INITIAL_CLUSTER="b-2=https://10.1.0.2:2380,a-1=https://10.1.0.1:2380"
            ETCD_INITIAL_CLUSTER_STATE="existing"
            """
        let addition = try #require(EtcdPlan.addition(inOutput: text))
        #expect(addition.id == 0x8992_D2AD_98F9_5E77)
        #expect(addition.initialCluster == "b-2=https://10.1.0.2:2380,a-1=https://10.1.0.1:2380")
        #expect(addition.count == 2)
        #expect(EtcdPlan.addition(inOutput: "Error: etcdserver: unhealthy cluster") == nil)
    }

    @Test func agentsAreReadAndForeignKeysSkipped() {
        let key = EtcdPlan.agentPrefix + node.description
        let text = "\(key)\npi-1a2b3c\n\(EtcdPlan.agentPrefix)zz\nx\nstray\n"
        #expect(
            EtcdPlan.agents(inOutput: text) == [ClusterAgent(name: "pi-1a2b3c", node: node)])
        #expect(EtcdPlan.agents(inOutput: "") == [])
    }

    @Test func aNameCannotEscapeFromTheConfigurationFile() {
        let configuration = EtcdPlan.Configuration(
            name: "it's", address: .v4(0x0A01_0001), dataDirectory: "/d", authorityFile: "/a",
            certificateFile: "/c", keyFile: "/k", initialCluster: "x=https://10.1.0.1:2380",
            isNewCluster: true, clusterToken: "m-g1")
        #expect(configuration.text.contains("name: 'it''s'\n"))
        #expect(configuration.text.contains("initial-cluster-state: new\n"))
        #expect(configuration.text.contains("client-cert-auth: true"))
    }

    private func admission(
        wish: RoleWish = .auto, limit: Int = 3, replaces: UInt64 = 0
    ) -> Admission {
        Admission(
            nonce: Array(repeating: 1, count: 16),
            joiner: HostIdentity(
                name: "b-2", node: node, ipv4: .v4(2), ipv6: .v6(0, 2), dnsName: "b.mesh"),
            joinerKey: StaticPublicKey(.zero), request: [1], wish: wish, serverLimit: limit,
            replaces: replaces, cluster: ClusterIdentity(generation: 1, caHash: .zero))
    }

    private func member(
        _ id: UInt64, _ name: String, at address: UInt32, started: Bool = true,
        learner: Bool = false
    ) -> DatastoreMember {
        DatastoreMember(
            id: id, name: name, ipv4: .v4(address), isStarted: started, isLearner: learner)
    }

    @Test func anAdmissionDependsOnWhoIsThereAlready() {
        let founder = member(1, "a-1", at: 1)
        let third = member(3, "c-3", at: 3)
        let step = { (admission: Admission, members: [DatastoreMember]) in
            EtcdPlan.admissionStep(admission, members: members)
        }
        #expect(step(admission(), [founder]) == .addLearner)
        #expect(step(admission(wish: .agent), [founder]) == .grantAgent)
        #expect(step(admission(limit: 1), [founder]) == .grantAgent)
        #expect(step(admission(wish: .server, limit: 1), [founder]) == .postpone(.full))
        // A learner on its way: neither a second one nor an agent for ever.
        let learner = member(3, "c-3", at: 3, learner: true)
        #expect(step(admission(), [founder, learner]) == .postpone(.anotherJoining))
        #expect(step(admission(limit: 2), [founder, learner]) == .postpone(.anotherJoining))
        // Left-overs of the joiner's own earlier try.
        let left = member(2, "", at: 2, started: false, learner: true)
        #expect(step(admission(), [founder, left]) == .remove(2))
        // A started member of this name goes only when the joiner names its id.
        let own = member(2, "b-2", at: 2)
        #expect(step(admission(), [founder, own, third]) == .confirm(2))
        #expect(step(admission(replaces: 7), [founder, own, third]) == .confirm(2))
        #expect(step(admission(replaces: 2), [founder, own, third]) == .remove(2))
        // Another machine's address is never taken over.
        let other = member(4, "d-4", at: 2)
        #expect(step(admission(replaces: 4), [founder, other]) == .refuse(.addressInUse))
    }

    /// A machine that was installed anew gets its place back, once its former self has been silent
    /// for long.
    @Test func aSilentNamesakeMakesRoom() {
        var admission = admission()
        admission.joiner.name = "b-222222"
        let former = member(9, "b-999999", at: 9)
        let members = [member(1, "a-111111", at: 1), former, member(3, "c-333333", at: 3)]
        func step(_ silence: [UInt64: Duration]) -> EtcdPlan.AdmissionStep {
            EtcdPlan.admissionStep(admission, members: members, silence: silence)
        }
        #expect(step([:]) == .grantAgent)
        #expect(step([9: .zero]) == .postpone(.anotherJoining))
        #expect(step([9: EtcdPlan.silenceLimit]) == .remove(9))
        // Another host's silence says nothing.
        #expect(step([3: EtcdPlan.silenceLimit]) == .grantAgent)
        admission.wish = .agent
        #expect(step([9: EtcdPlan.silenceLimit]) == .grantAgent)
    }
}

@Suite struct CodingTests {
    private let cluster = ClusterIdentity(
        generation: 3, caHash: Bytes32(word0: 1, word1: 2, word2: 3, word3: 4))
    private let nonce = Array(UInt8(0)..<16)

    @Test func messagesSurviveTheirEncoding() throws {
        let request = JoinRequest(
            nonce: nonce, cluster: cluster, wish: .server, replaces: 77,
            signingRequest: [UInt8](repeating: 5, count: JoinMessage.requestLimit))
        let part = GrantPart(
            nonce: nonce, role: .agent, index: 2, count: 3,
            bytes: [UInt8](repeating: 6, count: JoinMessage.partSize))
        var messages: [JoinMessage] = [
            .request(request), .part(part), .confirm(nonce: nonce, memberID: .max),
            .leave(nonce: nonce), .left(nonce: nonce),
        ]
        for reason in PostponeReason.allCases { messages.append(.wait(nonce: nonce, reason)) }
        for reason in RefusalReason.allCases { messages.append(.refusal(nonce: nonce, reason)) }
        for message in messages {
            let bytes = message.encoded
            #expect(bytes.count <= JoinMessage.limit)
            #expect(try JoinMessage(decoding: bytes) == message)
            for count in bytes.indices {
                #expect(throws: DecodingFailure.self) {
                    try JoinMessage(decoding: Array(bytes[..<count]))
                }
            }
            #expect(throws: DecodingFailure.self) { try JoinMessage(decoding: bytes + [0]) }
        }
    }

    @Test func aGrantIsCutWithinBounds() throws {
        let sealed: [UInt8] = (0..<2500).map { (index: Int) in UInt8(truncatingIfNeeded: index) }
        let parts = try #require(grantParts(sealed, nonce: nonce, role: .server))
        let sizes: [Int] = parts.map { $0.bytes.count }
        #expect(sizes == [1100, 1100, 300])
        let joined: [UInt8] = parts.flatMap { $0.bytes }
        #expect(joined == sealed)
        #expect(grantParts([], nonce: nonce, role: .server) == nil)
        let tooLarge = [UInt8](
            repeating: 0, count: JoinMessage.partSize * JoinMessage.partLimit + 1)
        #expect(grantParts(tooLarge, nonce: nonce, role: .server) == nil)
    }

    @Test func factsSurviveTheirEncodingAndStayUnderTheLedgersLimit() throws {
        let role = RoleFact(cluster: cluster, role: .server, isReady: true, name: "pi-1a2b3c")
        #expect(try RoleFact(decoding: role.encoded) == role)
        let name = String(repeating: "m", count: EtcdPlan.nameLimit)
        var members: [DatastoreMember] = []
        for index in 0..<40 {
            let address: IPAddress? = index == 0 ? nil : .v4(UInt32(index))
            members.append(
                DatastoreMember(
                    id: UInt64(index), name: name, ipv4: address,
                    isStarted: index.isMultiple(of: 2), isLearner: index.isMultiple(of: 3)))
        }
        let list = MemberListFact(cluster: cluster, members: members)
        #expect(list.members.count == MemberListFact.memberLimit)
        #expect(list.encoded.count <= 4096)
        #expect(try MemberListFact(decoding: list.encoded) == list)
    }

    @Test func randomBytesNeverTrap() {
        var random = SeededGenerator(seed: 5)
        for _ in 0..<20_000 {
            var bytes = random.bytes(Int(random.next() % 200))
            if bytes.count > 2 { bytes[0] = 1 }
            _ = try? JoinMessage(decoding: bytes)
            _ = try? RoleFact(decoding: bytes)
            _ = try? MemberListFact(decoding: bytes)
        }
    }
}
