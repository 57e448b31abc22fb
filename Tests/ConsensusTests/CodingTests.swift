import Consensus
import MeshBase
import Simulator
import Testing

@Suite struct CodingTests {
    static let ballot = Ballot(round: 7, node: nodeID(1))
    static let claim = RegisterValue.claim(Claim(owner: nodeID(1)))
    static let ready = RegisterValue.outcome(
        .ready(owner: nodeID(1), caHash: nodeID(9).bytes, facts: [UInt8](repeating: 5, count: 64)))
    static let abandoned = RegisterValue.outcome(.abandoned(by: nodeID(2)))

    static var bodies: [FoundingMessage.Body] {
        let statement = VoteStatement(generation: 3, ballot: ballot, value: ready)
        let accepted = AcceptedValue(ballot: ballot, value: abandoned)
        let votes = (0..<FoundingMessage.votesPerMessage).map {
            Vote(voter: nodeID($0), signature: [UInt8](repeating: UInt8($0), count: 64))
        }
        return [
            .prepare(.claim, ballot), .promise(.claim, ballot, accepted: nil),
            .promise(.outcome, ballot, accepted: accepted), .accept(ballot, claim),
            .accept(ballot, ready),
            .accepted(
                .outcome, ballot, valueHash: ready.hash, vote: [UInt8](repeating: 3, count: 64)),
            .refusal(.claim, ballot, .held),
            .refusal(.claim, ballot, .promisedHigher(Ballot(round: 9, node: nodeID(2)))),
            .hold(nonce: 12, milliseconds: 600_000), .holdGrant(nonce: 12),
            .holdRefusal(nonce: 13), .votes(statement, votes),
        ]
    }

    private func encode(_ body: FoundingMessage.Body) -> [UInt8] {
        let message = FoundingMessage(policyHash: nodeID(3).bytes, generation: 3, body: body)
        return message.encode(meshID: testMesh, signer: KeyedHashSigner(node: nodeID(0)))
    }

    @Test(arguments: bodies) func messageSurvives(_ body: FoundingMessage.Body) throws {
        let bytes = encode(body)
        #expect(bytes.count <= FoundingMessage.encodedLimit)
        #expect(try FoundingMessage(decoding: bytes).body == body)
        for count in 0..<bytes.count {
            _ = try? FoundingMessage(decoding: Array(bytes.prefix(count)))
        }
    }

    @Test func largestMessageIsAsLargeAsTheCommentSays() {
        #expect(Self.bodies.map { encode($0).count }.max() == 1_138)
    }

    @Test func garbledMessagesNeverTrap() {
        var dice = Dice(1)
        for body in Self.bodies {
            let bytes = encode(body)
            for _ in 0..<300 {
                var garbled = bytes
                for _ in 0..<dice.pick(1..<4) {
                    garbled[dice.pick(0..<garbled.count)] = UInt8(dice.pick(0..<256))
                }
                if let message = try? FoundingMessage(decoding: garbled) {
                    #expect((1...0x7FFF_FFFF).contains(message.generation))
                }
            }
        }
    }

    @Test func valuesHaveOneSpelling() throws {
        for value in [Self.claim, Self.ready, Self.abandoned] {
            #expect(try RegisterValue(decoding: value.encoded) == value)
            #expect(throws: DecodingFailure.self) {
                try RegisterValue(decoding: value.encoded + [0])
            }
        }
        #expect(Set([Self.claim, Self.ready, Self.abandoned].map(\.hash)).count == 3)
    }

    @Test func acceptorKeepsItsWord() {
        var acceptor = Acceptor()
        let low = Ballot(round: 1, node: nodeID(1))
        let high = Ballot(round: 1, node: nodeID(2))
        let rules = FoundingRules()
        let other = RegisterValue.claim(Claim(owner: nodeID(5)))
        let promises = [low, low, high, low].map { acceptor.prepare($0) }
        #expect(promises == [.yes, .again, .yes, .promisedHigher(high)])
        let late = acceptor.accept(low, Self.claim, rules: rules)
        #expect(late == .promisedHigher(high))
        #expect(acceptor.accepted == nil)
        let votes = [Self.claim, Self.claim, other].map { acceptor.accept(high, $0, rules: rules) }
        #expect(votes == [.yes, .again, .contradiction])
        let higher = Ballot(round: 2, node: nodeID(1))
        let newer = acceptor.accept(higher, Self.claim, rules: rules)
        #expect(newer == .yes)
        #expect(acceptor.promised == higher)
    }

    @Test func proposerGoesOnWithTheNewestValue() {
        let ballot = Ballot(round: 9, node: nodeID(0))
        var proposer = Proposer(generation: 1, ballot: ballot, wanted: Self.claim, quorum: 3)
        let rules = FoundingRules()
        let old = RegisterValue.claim(Claim(owner: nodeID(7)))
        let new = RegisterValue.claim(Claim(owner: nodeID(8)))
        let oldValue = AcceptedValue(ballot: Ballot(round: 2, node: nodeID(7)), value: old)
        let newValue = AcceptedValue(ballot: Ballot(round: 3, node: nodeID(1)), value: new)
        let reports: [(Int, AcceptedValue?)] = [
            (0, newValue), (0, newValue), (1, oldValue), (2, nil),
        ]
        let isComplete = reports.map {
            proposer.promised(by: nodeID($0.0), accepted: $0.1, rules: rules)
        }
        #expect(isComplete == [false, false, false, true])
        #expect(proposer.value == new)
        let vote = [UInt8](repeating: 1, count: 64)
        let proofs = [0, 0, 1, 2].map { proposer.accepted(by: nodeID($0), vote: vote) }
        #expect(proofs.map { $0 == nil } == [true, true, true, false])
        #expect(proofs.last??.statement.value == new)
    }
}
