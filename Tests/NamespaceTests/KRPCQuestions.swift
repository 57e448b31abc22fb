import Cryptography
import Kademlia
import MeshBase
import NetAddress

/// One question of KRPC, and what kind of answer it gets: the keys of an answer, the code of a
/// refusal, or silence.
struct KRPCQuestion {
    var name: String
    /// What libtorrent says.
    var expectedOfOthers: String
    /// Where we differ on purpose.
    var expected: String?
    var ask: (inout KRPCProbe) async throws -> Bencode?

    init(
        _ name: String, _ expectedOfOthers: String, ours expected: String? = nil,
        _ ask: @escaping (inout KRPCProbe) async throws -> Bencode?
    ) {
        self.name = name
        self.expectedOfOthers = expectedOfOthers
        self.expected = expected
        self.ask = ask
    }

    func outcome(_ probe: inout KRPCProbe) async throws -> String {
        guard let answer = try await ask(&probe) else { return "silence" }
        if let failure = answer["e"]?.listValue {
            return "error \(failure.first?.integerValue ?? 0)"
        }
        guard case .dictionary(let entries)? = answer["r"] else { return "neither" }
        // `p` is libtorrent's own; `ip` stands outside of the answer.
        let keys = entries.map { String(decoding: $0.key, as: UTF8.self) }
        let seen = answer["ip"]?.bytesValue.map { $0.count == 6 } == true ? ["ip"] : []
        return (keys.filter { $0 != "p" && $0 != "nodes" && $0 != "nodes6" } + seen)
            .joined(separator: " ")
    }
}

enum KRPCQuestions {
    static func all(signer: SigningKey) -> [KRPCQuestion] {
        basics + peers + immutable + mutable(signer)
    }

    private static let target = KademliaID(hashing: Array("somewhere".utf8))

    private static var basics: [KRPCQuestion] {
        [
            KRPCQuestion("ping", "id ip") { try await $0.ask(.ping) },
            KRPCQuestion("ping of a server", "id ip") {
                try await $0.ask(.ping, isReadOnly: false)
            },
            KRPCQuestion("find_node", "id ip") {
                try await $0.ask(.findNode(target: target))
            },
            KRPCQuestion("find_node in both families", "id ip") {
                try await $0.ask(.findNode(target: target), want: [.v4, .v6])
            },
            KRPCQuestion("a method of the future with a target", "id ip") {
                let id = String(decoding: [UInt8](repeating: 0x61, count: 20), as: UTF8.self)
                return try await $0.exchange(
                    Array("d1:ad2:id20:\(id)6:target20:\(id)e1:q6:future1:t2:aa1:y1:qe".utf8))
            },
            KRPCQuestion("a method of the future without", "error 203", ours: "error 204") {
                try await $0.exchange(
                    Array(
                        "d1:ad2:id20:abcdefghij0123456789e1:q6:future1:t2:aa1:y1:qe".utf8))
            },
            KRPCQuestion("no name", "error 203") {
                try await $0.exchange(Array("d1:ade1:q4:ping1:t2:aa1:y1:qe".utf8))
            },
            KRPCQuestion("a kind that is none", "silence") {
                try await $0.exchange(
                    Array("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aae".utf8))
            },
            KRPCQuestion("something behind it", "silence") {
                try await $0.exchange(
                    Array("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qexx".utf8))
            },
        ]
    }

    private static var peers: [KRPCQuestion] {
        func token(_ probe: inout KRPCProbe) async throws -> [UInt8] {
            let answer = try await probe.ask(.getPeers(infoHash: target))
            return answer?["r"]?["token"]?.bytesValue ?? []
        }
        return [
            KRPCQuestion("get_peers", "id token ip") {
                try await $0.ask(.getPeers(infoHash: target))
            },
            KRPCQuestion("announce_peer with a token that is none", "error 203") {
                try await $0.ask(
                    .announcePeer(infoHash: target, port: 1, isImplied: true, token: [1, 2, 3, 4]))
            },
            KRPCQuestion("announce_peer", "id ip") { probe in
                let token = try await token(&probe)
                return try await probe.ask(
                    .announcePeer(infoHash: target, port: 1, isImplied: true, token: token))
            },
            KRPCQuestion("get_peers of one that is there", "id token values ip") {
                try await $0.ask(.getPeers(infoHash: target))
            },
        ]
    }

    private static var immutable: [KRPCQuestion] {
        let value = StoredValue.immutable(Bencode.text("never changes").encoded)
        let big = StoredValue.immutable(Bencode.bytes([UInt8](repeating: 1, count: 998)).encoded)
        return [
            KRPCQuestion("get of nothing", "id token ip") {
                try await $0.ask(.get(target: value.target, sequence: nil))
            },
            KRPCQuestion("put with a token that is none", "error 203") {
                try await $0.ask(.put(value, comparing: nil, token: [1, 2, 3, 4]))
            },
            put("put", "id ip", value),
            put("put of too much", "error 205", big),
            KRPCQuestion("get of something", "id token v ip") {
                try await $0.ask(.get(target: value.target, sequence: nil))
            },
        ]
    }

    /// Gets a token, and puts.
    private static func put(
        _ name: String, _ outcome: String, _ value: StoredValue, comparing: Int64? = nil
    ) -> KRPCQuestion {
        KRPCQuestion(name, outcome) { probe in
            let answer = try await probe.ask(.get(target: value.target, sequence: nil))
            let token = answer?["r"]?["token"]?.bytesValue ?? []
            return try await probe.ask(.put(value, comparing: comparing, token: token))
        }
    }

    private static func mutable(_ signer: SigningKey) -> [KRPCQuestion] {
        func item(_ text: String, _ sequence: Int64) -> MutableItem {
            MutableItem(
                signing: .text(text), with: signer, salt: Array("spice".utf8), sequence: sequence)
        }
        func value(_ text: String, _ sequence: Int64) -> StoredValue {
            .mutable(item(text, sequence))
        }
        var forged = item("two", 2)
        forged.signature[0] ^= 1
        var spicy = item("two", 2)
        spicy.salt = [UInt8](repeating: 1, count: 65)
        let target = item("", 0).target
        return [
            put("put of the first", "id ip", value("one", 1)),
            put("put with a forged signature", "error 206", .mutable(forged)),
            put("put with too much salt", "error 207", .mutable(spicy)),
            put(
                "put of the second where the first was seen", "id ip", value("two", 2), comparing: 1
            ),
            put("put where the first was expected", "error 301", value("three", 3), comparing: 1),
            put("put of the first again", "error 302", value("one", 1)),
            put("put where nothing was expected", "error 301", value("three", 3), comparing: 0),
            KRPCQuestion("get of a signed value", "id k seq sig token v ip") {
                try await $0.ask(.get(target: target, sequence: nil))
            },
            KRPCQuestion("get of a newer one", "id k seq sig token v ip") {
                try await $0.ask(.get(target: target, sequence: 1))
            },
            KRPCQuestion("get of a newer one that is not there", "id seq token ip") {
                try await $0.ask(.get(target: target, sequence: 2))
            },
        ]
    }
}
