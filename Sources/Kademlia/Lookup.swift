import MeshBase
import NetAddress

/// One walk towards a target: ask the nearest nodes known, learn of nearer ones, stop when the
/// nearest of each family have all answered (BEP 5).
///
/// A node that does not answer in a short time keeps its chance and gives its slot to the next one.
struct Lookup: Sendable {
    let target: KademliaID
    let kind: Kind
    let rules: DHTRules
    private(set) var candidates: [Candidate] = []
    /// The signed value with the highest number so far.
    private(set) var best: MutableItem?
    private(set) var immutable: [UInt8]?
    private(set) var peers: [SocketAddress] = []

    enum Kind: Hashable, Sendable {
        case findNode
        case getPeers
        /// An immutable value.
        case get
        /// A mutable value: who signs it, and its salt.
        case getMutable(NodeID, salt: [UInt8])
    }

    enum State: Hashable, Sendable {
        case fresh
        /// Asked, and may still answer.
        case asked
        /// Asked, and slow: another one is asked in its stead.
        case slow
        case answered
        case failed
    }

    struct Candidate: Sendable {
        /// `nil` for an address whose name is not known yet; it counts as farthest.
        var id: KademliaID?
        var address: SocketAddress
        var state = State.fresh
        var token: [UInt8]?
        /// The number of the value that it holds.
        var sequence: Int64?
    }

    /// Candidates kept, nearest first: a walk asks 20 to 60.
    static let candidateLimit = 100
    static let concurrency = 5
    static let peerLimit = 500

    init(target: KademliaID, kind: Kind, rules: DHTRules) {
        self.target = target
        self.kind = kind
        self.rules = rules
    }

    // MARK: - Candidates

    mutating func add(_ contact: NodeContact) {
        guard rules.admits(contact) else { return }
        if let known = candidates.firstIndex(where: { $0.address == contact.address }) {
            if candidates[known].id == nil { candidates[known].id = contact.id }
            return
        }
        // The first of a neighbourhood stays: those who answered brought it, and a crowd that
        // comes later cannot push it out.
        let isCrowded = candidates.contains {
            $0.id == contact.id || rules.areNeighbours($0.address, contact.address)
        }
        guard !isCrowded else { return }
        candidates.append(Candidate(id: contact.id, address: contact.address))
        sort()
    }

    /// An address that may be a node: a bootstrap address, a remembered one.
    mutating func add(_ address: SocketAddress) {
        guard address.isUsable, !candidates.contains(where: { $0.address == address }) else {
            return
        }
        candidates.append(Candidate(id: nil, address: address))
        sort()
    }

    private mutating func sort() {
        candidates.sort { first, second in
            switch (first.id, second.id) {
            case (let first?, let second?): first ^ target < second ^ target
            case (.some, nil): true
            default: false
            }
        }
        if candidates.count > Self.candidateLimit {
            candidates.removeLast(candidates.count - Self.candidateLimit)
        }
    }

    /// The next address to ask, marked as asked; `nil` when all slots are taken or nobody is left.
    mutating func next() -> SocketAddress? {
        guard candidates.count(where: { $0.state == .asked }) < Self.concurrency else {
            return nil
        }
        for family in AddressFamily.allCases {
            for index in nearest(family) where candidates[index].state == .fresh {
                candidates[index].state = .asked
                return candidates[index].address
            }
        }
        return nil
    }

    /// The nearest of a family that did not fail: those that decide.
    private func nearest(_ family: AddressFamily) -> [Int] {
        Array(
            candidates.indices.filter {
                candidates[$0].address.family == family && candidates[$0].state != .failed
            }.prefix(RoutingTable.bucketSize))
    }

    /// Whether the nearest of every family have answered; slow ones farther away do not matter.
    var isFinished: Bool {
        AddressFamily.allCases.allSatisfy { family in
            nearest(family).allSatisfy { candidates[$0].state == .answered }
        }
    }

    mutating func mark(_ address: SocketAddress, _ state: State) {
        guard let index = candidates.firstIndex(where: { $0.address == address }),
            candidates[index].state != .answered
        else { return }
        candidates[index].state = state
    }

    // MARK: - Answers

    mutating func answered(_ response: KRPCResponse, from address: SocketAddress) {
        guard let index = candidates.firstIndex(where: { $0.address == address }) else { return }
        candidates[index].state = .answered
        candidates[index].id = response.sender
        candidates[index].token = response.token
        take(response, at: index)
        sort()
        for contact in response.nodes { add(contact) }
    }

    private mutating func take(_ response: KRPCResponse, at index: Int) {
        switch kind {
        case .findNode:
            break
        case .getPeers:
            for peer in response.peers where peers.count < Self.peerLimit && !peers.contains(peer) {
                peers.append(peer)
            }
        case .get:
            if let value = response.value, KademliaID(hashing: value) == target {
                immutable = value
            }
        case .getMutable(let key, let salt):
            guard let value = response.value, let signature = response.signature,
                let sequence = response.sequence, response.key == key
            else { return }
            let item = MutableItem(
                key: key, salt: salt, sequence: sequence, value: value, signature: signature)
            guard item.isAuthentic else { return }
            candidates[index].sequence = sequence
            if best.map({ $0.sequence < sequence }) ?? true { best = item }
        }
    }

    /// Where the value belongs: the nearest nodes of each family that gave a token.
    var storers: [Candidate] {
        AddressFamily.allCases.flatMap { family in
            candidates.filter {
                $0.address.family == family && $0.state == .answered && $0.token != nil
            }.prefix(RoutingTable.bucketSize)
        }
    }

    var answeredCount: Int { candidates.count { $0.state == .answered } }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(target.bytes)
        for candidate in candidates {
            fingerprint.mix(candidate.address.compact)
            fingerprint.mix("\(candidate.state)")
            fingerprint.mix(candidate.token ?? [])
        }
        fingerprint.mix(best?.signature ?? [])
        fingerprint.mix(peers.count)
    }
}
