import MeshBase
import NetAddress

/// One datagram of the Mainline DHT (BEP 5): a query, its answer or its refusal.
package struct KRPCMessage: Hashable, Sendable {
    /// Chosen by the asker, echoed by the answerer.
    package var transaction: [UInt8]
    package var body: Body
    /// The program that speaks (`v`).
    package var version: [UInt8]?
    /// The receiver's address as the sender sees it (`ip`, BEP 42).
    package var observed: SocketAddress?
    /// Set on queries of a node that answers none (`ro`, BEP 43).
    package var isReadOnly: Bool

    package enum Body: Hashable, Sendable {
        case query(KRPCQuery)
        case response(KRPCResponse)
        case failure(KRPCFailure)
    }

    package init(
        transaction: [UInt8], body: Body, version: [UInt8]? = nil, observed: SocketAddress? = nil,
        isReadOnly: Bool = false
    ) {
        self.transaction = transaction
        self.body = body
        self.version = version
        self.observed = observed
        self.isReadOnly = isReadOnly
    }
}

package struct KRPCQuery: Hashable, Sendable {
    package var sender: KademliaID
    package var method: Method
    /// Which families of nodes the asker wants (BEP 32); empty means that of the transport.
    package var want: [AddressFamily]

    package enum Method: Hashable, Sendable {
        case ping
        case findNode(target: KademliaID)
        case getPeers(infoHash: KademliaID)
        /// With `isImplied` the port that the query came from counts (`implied_port`); some
        /// programs do not know that and take `port`.
        case announcePeer(infoHash: KademliaID, port: UInt16, isImplied: Bool, token: [UInt8])
        /// BEP 44; with `sequence` only a newer value is wanted.
        case get(target: KademliaID, sequence: Int64?)
        case put(StoredValue, comparing: Int64?, token: [UInt8])
        /// A method of the future that names a target: answered like `find_node`.
        case unknown(target: KademliaID)
    }

    package init(sender: KademliaID, method: Method, want: [AddressFamily] = []) {
        self.sender = sender
        self.method = method
        self.want = want
    }
}

package struct KRPCResponse: Hashable, Sendable {
    package var sender: KademliaID
    package var nodes: [NodeContact] = []
    package var token: [UInt8]?
    package var peers: [SocketAddress] = []
    /// The value of a `get`, bencoded; what belongs to a mutable one stands beside it.
    package var value: [UInt8]?
    package var key: NodeID?
    package var signature: [UInt8]?
    package var sequence: Int64?

    package init(sender: KademliaID) {
        self.sender = sender
    }
}

package struct KRPCFailure: Error, Hashable, Sendable {
    package var code: Int64
    package var text: String

    package init(code: Int64, text: String) {
        self.code = code
        self.text = text
    }

    // BEP 5 and BEP 44.
    package static let generic: Int64 = 201
    package static let malformed = KRPCFailure(code: 203, text: "malformed query")
    package static let badToken = KRPCFailure(code: 203, text: "invalid token")
    package static let unknownMethod = KRPCFailure(code: 204, text: "unknown method")
    package static let tooBig = KRPCFailure(code: 205, text: "value is too big")
    package static let badSignature = KRPCFailure(code: 206, text: "invalid signature")
    package static let saltTooBig = KRPCFailure(code: 207, text: "salt is too big")
    package static let compareFailed = KRPCFailure(
        code: 301, text: "the stored sequence number is not the expected one")
    package static let staleSequence = KRPCFailure(
        code: 302, text: "sequence number is not newer than the stored one")
}

package enum AddressFamily: String, Hashable, Sendable, CaseIterable {
    case v4 = "n4"
    case v6 = "n6"
}

extension SocketAddress {
    package var family: AddressFamily { ip.isIPv4 ? .v4 : .v6 }
}

/// A node of the DHT: its name and where it is.
package struct NodeContact: Hashable, Sendable {
    package var id: KademliaID
    package var address: SocketAddress

    package init(id: KademliaID, address: SocketAddress) {
        self.id = id
        self.address = address
    }
}

// MARK: - Compact forms

extension SocketAddress {
    /// 6 bytes or 18: address and port (BEP 5, BEP 32).
    package var compact: [UInt8] {
        ip.bytes + [UInt8(truncatingIfNeeded: port >> 8), UInt8(truncatingIfNeeded: port)]
    }

    package init?(compact bytes: some Collection<UInt8>) {
        guard let ip = IPAddress(bytes: bytes.dropLast(2)) else { return nil }
        let port = bytes.suffix(2).reduce(UInt16(0)) { $0 << 8 | UInt16($1) }
        self.init(ip: ip.unmapped, port: port)
    }

    /// Whether a datagram may be sent there at all.
    var isUsable: Bool { port != 0 && !ip.isUnspecified && !ip.isMulticast }
}

extension NodeContact {
    package var compact: [UInt8] { id.bytes + address.compact }

    /// Every contact of a list whose entries have 26 or 38 bytes; `nil` for another length.
    static func list(_ bytes: [UInt8], family: AddressFamily) -> [NodeContact]? {
        let size = family == .v4 ? 26 : 38
        guard bytes.count.isMultiple(of: size) else { return nil }
        return stride(from: 0, to: bytes.count, by: size).compactMap { start in
            guard let id = KademliaID(bytes[start..<start + 20]),
                let address = SocketAddress(compact: bytes[start + 20..<start + size]),
                address.isUsable
            else { return nil }
            return NodeContact(id: id, address: address)
        }
    }
}
