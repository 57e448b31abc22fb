import Consensus
import MeshBase
import MeshNode
import Testing

/// As `edgevpn -g -b` prints it, with keys of our own.
private let yaml = """
    otp:
      dht:
        interval: 360
        key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        length: 43
      crypto:
        interval: 360
        key: BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB
        length: 43
    room: CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC
    rendezvous: DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD
    mdns: EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE
    max_message_size: 20971520

    """

@Suite("A token of edgevpn as a seed")
struct PredecessorTokenTests {
    private let text = Array(yaml.utf8).base64

    /// Another release must derive the same mesh, so these values never change.
    @Test func everyMachineDerivesTheSameMesh() throws {
        let token = try #require(try PredecessorToken.token(from: text))
        #expect(token.isDerived)
        #expect(token.meshID.hex == "92abbb9f17396d2f869b53336972ef61")
        #expect(
            "\(token.root)" == "adfd990ecb43a2db7ad445f578a30b25214c96354349f425bb5afae739d6cb3e")
        #expect(token.policy == nil && token.grantsVoters)
        var wrapped = text
        wrapped.insert("\n", at: wrapped.index(wrapped.startIndex, offsetBy: 76))
        #expect(try PredecessorToken.token(from: " \(wrapped)\n")?.text == token.text)
        // What it becomes is an ordinary token.
        #expect(try NetworkToken(parsing: token.text).text == token.text)
    }

    @Test func thePolicyIsTheRequestsAndTheMeshIsNot() throws {
        var request = TokenRequest()
        request.policy = GenesisPolicy(voterLimit: 3)
        let three = try #require(try PredecessorToken.token(from: text, request: request))
        request.policy = GenesisPolicy(voterLimit: 5)
        let five = try #require(try PredecessorToken.token(from: text, request: request))
        #expect(three.policy == GenesisPolicy(voterLimit: 3))
        #expect(three.meshID == five.meshID && three.root == five.root)
        #expect(three.discoverySecret.exposedCopy() == five.discoverySecret.exposedCopy())
        #expect(three.text != five.text)
    }

    @Test func anotherTokenIsAnotherMesh() throws {
        let other = Array(yaml.replacing("AAAA", with: "AAAB").utf8).base64
        let token = try #require(try PredecessorToken.token(from: text))
        let second = try #require(try PredecessorToken.token(from: other))
        #expect(token.meshID != second.meshID && token.root != second.root)
    }

    @Test func nothingElseIsTaken() throws {
        let short = yaml.replacing(String(repeating: "B", count: 43), with: "BBBB")
        let others = [
            "", "evpn1abc", "hello", Array("otp:\n  key: x\n".utf8).base64,
            Array(short.utf8).base64, Array(yaml.utf8.prefix(60)).base64, yaml,
            String(repeating: "QUFB", count: 20_000),
        ]
        for text in others { #expect(try PredecessorToken.token(from: text) == nil) }
    }
}
