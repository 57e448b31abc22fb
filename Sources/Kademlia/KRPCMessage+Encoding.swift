import MeshBase
import NetAddress

extension KRPCMessage {
    package var encoded: [UInt8] {
        var pairs: [(String, Bencode?)] = [
            ("t", .bytes(transaction)), ("v", version.map { .bytes($0) }),
            ("ip", observed.map { .bytes($0.compact) }),
            ("ro", isReadOnly ? .integer(1) : nil),
        ]
        switch body {
        case .query(let query):
            pairs += [("y", .text("q")), ("q", .text(query.name)), ("a", query.arguments)]
        case .response(let response):
            pairs += [("y", .text("r")), ("r", response.fields)]
        case .failure(let failure):
            pairs += [
                ("y", .text("e")), ("e", .list([.integer(failure.code), .text(failure.text)])),
            ]
        }
        return Bencode.dictionary(pairs).encoded
    }
}

extension KRPCQuery {
    fileprivate var name: String {
        switch method {
        case .ping: "ping"
        case .findNode, .unknown: "find_node"
        case .getPeers: "get_peers"
        case .announcePeer: "announce_peer"
        case .get: "get"
        case .put: "put"
        }
    }

    fileprivate var arguments: Bencode {
        var pairs: [(String, Bencode?)] = [("id", .bytes(sender.bytes))]
        if !want.isEmpty { pairs.append(("want", .list(want.map { .text($0.rawValue) }))) }
        switch method {
        case .ping: break
        case .findNode(let target), .unknown(let target):
            pairs.append(("target", .bytes(target.bytes)))
        case .getPeers(let infoHash):
            pairs.append(("info_hash", .bytes(infoHash.bytes)))
        case .announcePeer(let infoHash, let port, let isImplied, let token):
            pairs += [
                ("info_hash", .bytes(infoHash.bytes)), ("port", .integer(Int64(port))),
                ("implied_port", isImplied ? .integer(1) : nil), ("token", .bytes(token)),
            ]
        case .get(let target, let sequence):
            pairs += [("target", .bytes(target.bytes)), ("seq", sequence.map { .integer($0) })]
        case .put(let stored, let comparing, let token):
            pairs.append(("token", .bytes(token)))
            pairs.append(("v", try? Bencode(decoding: stored.value)))
            if case .mutable(let item) = stored {
                pairs += [
                    ("k", .bytes(item.key.bytes.bytes)), ("seq", .integer(item.sequence)),
                    ("sig", .bytes(item.signature)), ("cas", comparing.map { .integer($0) }),
                    ("salt", item.salt.isEmpty ? nil : .bytes(item.salt)),
                ]
            }
        }
        return .dictionary(pairs)
    }
}

extension KRPCResponse {
    fileprivate var fields: Bencode {
        func list(_ family: AddressFamily) -> Bencode? {
            let found = nodes.filter { $0.address.family == family }
            return found.isEmpty ? nil : .bytes(found.flatMap(\.compact))
        }
        return .dictionary([
            ("id", .bytes(sender.bytes)), ("nodes", list(.v4)), ("nodes6", list(.v6)),
            ("token", token.map { .bytes($0) }),
            ("values", peers.isEmpty ? nil : .list(peers.map { .bytes($0.compact) })),
            ("v", value.flatMap { try? Bencode(decoding: $0) }),
            ("k", key.map { .bytes($0.bytes.bytes) }), ("sig", signature.map { .bytes($0) }),
            ("seq", sequence.map { .integer($0) }),
        ])
    }
}

// MARK: - Decoding

/// Why a datagram got no further, and what the asker may be told.
package enum KRPCProblem: Error, Hashable, Sendable {
    /// Not a message at all: no answer.
    case notKRPC
    /// A query that names its transaction and is wrong: it may be refused.
    case refused(transaction: [UInt8], KRPCFailure)
}

extension KRPCMessage {
    /// Longer datagrams are not read; BEP 32 lets us send 1,024 and take more.
    package static let sizeLimit = 2_040
    /// Everyone sends 2 to 8 bytes; one of 40 was seen.
    static let transactionLimit = 64
    static let tokenLimit = 64
    static let peerLimit = 128

    package init(decoding datagram: [UInt8]) throws(KRPCProblem) {
        guard datagram.count <= Self.sizeLimit, let root = try? Bencode(decoding: datagram),
            let transaction = root["t"]?.bytesValue, transaction.count <= Self.transactionLimit,
            let kind = root["y"]?.bytesValue
        else { throw .notKRPC }
        self.transaction = transaction
        version = root["v"]?.bytesValue.flatMap { $0.count <= 16 ? $0 : nil }
        observed = root["ip"]?.bytesValue.flatMap { SocketAddress(compact: $0) }
        isReadOnly = root["ro"]?.integerValue == 1
        switch kind {
        case [UInt8(ascii: "q")]:
            do throws(KRPCFailure) {
                body = .query(try KRPCQuery(root))
            } catch {
                throw .refused(transaction: transaction, error)
            }
        case [UInt8(ascii: "r")]:
            guard let response = root["r"].flatMap({ KRPCResponse($0) }) else { throw .notKRPC }
            body = .response(response)
        case [UInt8(ascii: "e")]:
            guard let parts = root["e"]?.listValue, parts.count >= 2,
                let code = parts[0].integerValue, let text = parts[1].bytesValue,
                text.count <= 512
            else { throw .notKRPC }
            body = .failure(KRPCFailure(code: code, text: String(decoding: text, as: UTF8.self)))
        default:
            throw .notKRPC
        }
    }
}

extension KRPCQuery {
    fileprivate init(_ root: Bencode) throws(KRPCFailure) {
        guard let name = root["q"]?.bytesValue, let arguments = root["a"],
            let sender = arguments.identifier("id")
        else { throw .malformed }
        self.sender = sender
        want = (arguments["want"]?.listValue ?? []).compactMap { entry in
            entry.bytesValue.flatMap {
                AddressFamily(rawValue: String(decoding: $0, as: UTF8.self))
            }
        }
        let token = arguments["token"]?.bytesValue ?? []
        guard token.count <= KRPCMessage.tokenLimit else { throw .badToken }
        switch String(decoding: name, as: UTF8.self) {
        case "ping":
            method = .ping
        case "find_node":
            guard let target = arguments.identifier("target") else { throw .malformed }
            method = .findNode(target: target)
        case "get_peers":
            guard let infoHash = arguments.identifier("info_hash") else { throw .malformed }
            method = .getPeers(infoHash: infoHash)
        case "announce_peer":
            guard let infoHash = arguments.identifier("info_hash") else { throw .malformed }
            let isImplied = arguments["implied_port"]?.integerValue.map { $0 != 0 } ?? false
            let port = arguments["port"]?.integerValue.flatMap { UInt16(exactly: $0) } ?? 0
            guard isImplied || port != 0 else { throw .malformed }
            method = .announcePeer(
                infoHash: infoHash, port: port, isImplied: isImplied, token: token)
        case "get":
            guard let target = arguments.identifier("target") else { throw .malformed }
            method = .get(target: target, sequence: arguments["seq"]?.integerValue)
        case "put":
            let value = try StoredValue(arguments)
            method = .put(value, comparing: arguments["cas"]?.integerValue, token: token)
        default:
            guard let target = arguments.identifier("target") ?? arguments.identifier("info_hash")
            else { throw .unknownMethod }
            method = .unknown(target: target)
        }
    }
}

extension StoredValue {
    /// The arguments of a `put`, checked as far as that needs no state.
    fileprivate init(_ arguments: Bencode) throws(KRPCFailure) {
        guard let value = arguments["v"]?.encoded else { throw .malformed }
        guard value.count <= MutableItem.valueLimit else { throw .tooBig }
        guard let keyBytes = arguments["k"]?.bytesValue else {
            self = .immutable(value)
            return
        }
        guard let key = Bytes32(keyBytes), let sequence = arguments["seq"]?.integerValue,
            sequence >= 0, let signature = arguments["sig"]?.bytesValue
        else { throw .malformed }
        let salt = arguments["salt"]?.bytesValue ?? []
        guard salt.count <= MutableItem.saltLimit else { throw .saltTooBig }
        guard signature.count == 64 else { throw .badSignature }
        self = .mutable(
            MutableItem(
                key: NodeID(key), salt: salt, sequence: sequence, value: value,
                signature: signature))
    }
}

extension KRPCResponse {
    fileprivate init?(_ fields: Bencode) {
        guard let sender = fields.identifier("id") else { return nil }
        self.init(sender: sender)
        for (key, family) in [("nodes", AddressFamily.v4), ("nodes6", .v6)] {
            guard let bytes = fields[key]?.bytesValue else { continue }
            guard let contacts = NodeContact.list(bytes, family: family) else { return nil }
            nodes += contacts
        }
        token = fields["token"]?.bytesValue.flatMap {
            $0.count <= KRPCMessage.tokenLimit ? $0 : nil
        }
        peers = (fields["values"]?.listValue ?? []).prefix(KRPCMessage.peerLimit).compactMap {
            $0.bytesValue.flatMap { SocketAddress(compact: $0) }
        }.filter(\.isUsable)
        if let encoded = fields["v"]?.encoded, encoded.count <= MutableItem.valueLimit {
            value = encoded
        }
        key = fields["k"]?.bytesValue.flatMap { Bytes32($0) }.map { NodeID($0) }
        signature = fields["sig"]?.bytesValue.flatMap { $0.count == 64 ? $0 : nil }
        sequence = fields["seq"]?.integerValue
    }
}

extension Bencode {
    fileprivate func identifier(_ key: String) -> KademliaID? {
        self[key]?.bytesValue.flatMap { KademliaID($0) }
    }
}
