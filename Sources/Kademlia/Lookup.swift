import MeshBase
import NetAddress

/// One walk towards a target: ask the nearest nodes known, learn of nearer ones, stop when the
/// nearest of each family have all answered (BEP 5).
///
/// A node that does not answer in a short time keeps its chance and gives its slot to the next one.
///
/// Among strangers the walk has two halves that share no node: each follows only what its own nodes
/// told, so that one node that lies cannot lead both astray. And where the target's neighbourhood
/// is denser than chance makes it, more than a bucketful is asked and written to: a crowd that
/// settled there does not keep everybody else out.
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

        var isGet: Bool {
            switch self {
            case .get, .getMutable: true
            case .findNode, .getPeers: false
            }
        }
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
        /// Which half of the walk it belongs to.
        var branch = 0
        var state = State.fresh
        var token: [UInt8]?
        /// The number of the value that it holds.
        var sequence: Int64?
    }

    /// Candidates kept, nearest first: a walk asks 20 to 60.
    static let candidateLimit = 100
    /// In each branch.
    let concurrency: Int
    static let peerLimit = 500
    /// What a crowd around the target may make us ask and write to, per branch and in all: as many
    /// as the mainline crate always does.
    static let crowdLimit = 20
    /// See ``SizeEstimate/crowdRadius``; nothing for rules that expect no crowds.
    var crowdRadius: [AddressFamily: Double] = [:]

    init(target: KademliaID, kind: Kind, rules: DHTRules) {
        self.target = target
        self.kind = kind
        self.rules = rules
        concurrency = rules.branches == 1 ? 5 : 3
    }

    // MARK: - Candidates

    mutating func add(_ contact: NodeContact, branch: Int? = nil) {
        guard rules.admits(contact) else { return }
        if let known = candidates.firstIndex(where: { $0.address == contact.address }) {
            if candidates[known].id == nil {
                candidates[known].id = contact.id
                insert(candidates.remove(at: known))
            }
            return
        }
        // The first of a neighbourhood stays: those who answered brought it, and a crowd that
        // comes later cannot push it out.
        let isCrowded = candidates.contains {
            $0.id == contact.id || rules.areNeighbours($0.address, contact.address)
        }
        guard !isCrowded else { return }
        insert(
            Candidate(id: contact.id, address: contact.address, branch: branch ?? nextBranch))
    }

    /// An address that may be a node: a bootstrap address, a remembered one.
    mutating func add(_ address: SocketAddress) {
        guard address.isUsable, !candidates.contains(where: { $0.address == address }) else {
            return
        }
        insert(Candidate(id: nil, address: address, branch: nextBranch))
    }

    /// What we know ourselves goes to the branches in turn.
    private var nextBranch: Int { candidates.count % rules.branches }

    /// Nearest first; those without a name last, in the order in which they came.
    private mutating func insert(_ candidate: Candidate) {
        var (low, high) = (0, candidates.count)
        while low < high {
            let middle = (low + high) / 2
            if isNearer(candidate, than: candidates[middle]) {
                high = middle
            } else {
                low = middle + 1
            }
        }
        candidates.insert(candidate, at: low)
        if candidates.count > Self.candidateLimit { candidates.removeLast() }
    }

    private func isNearer(_ first: Candidate, than second: Candidate) -> Bool {
        switch (first.id, second.id) {
        case (let first?, let second?): first ^ target < second ^ target
        case (.some, nil): true
        default: false
        }
    }

    mutating func nextUnlessFinished() -> SocketAddress? { isFinished ? nil : next() }

    /// The next address to ask, marked as asked; `nil` when all slots are taken or nobody is left.
    mutating func next() -> SocketAddress? {
        for branch in 0..<rules.branches {
            let running = candidates.count { $0.state == .asked && $0.branch == branch }
            guard running < concurrency else { continue }
            for family in AddressFamily.allCases {
                for index in nearest(family, branch) where candidates[index].state == .fresh {
                    candidates[index].state = .asked
                    return candidates[index].address
                }
            }
        }
        return nil
    }

    /// The nearest of a family and branch that did not fail: those that decide.
    private func nearest(_ family: AddressFamily, _ branch: Int) -> [Int] {
        around(family) { $0.branch == branch && $0.state != .failed }
    }

    /// The nearest of those that `counts` lets through: a bucketful, and more in a crowd.
    private func around(_ family: AddressFamily, _ counts: (Candidate) -> Bool) -> [Int] {
        let radius = crowdRadius[family] ?? 0
        var result: [Int] = []
        for index in candidates.indices
        where candidates[index].address.family == family && counts(candidates[index]) {
            if result.count >= RoutingTable.bucketSize {
                let isCrowd = result.last.flatMap { distance($0) }.map { $0 < radius } ?? false
                guard isCrowd, result.count < Self.crowdLimit else { break }
            }
            result.append(index)
        }
        return result
    }

    private func distance(_ index: Int) -> Double? {
        candidates[index].id.map { ($0 ^ target).fraction }
    }

    /// How far the nearest are that answered, ascending.
    func nearestDistances(_ family: AddressFamily) -> [Double] {
        Array(
            candidates.indices.filter {
                candidates[$0].address.family == family && candidates[$0].state == .answered
            }.compactMap(distance).prefix(RoutingTable.bucketSize))
    }

    /// Whether the nearest of every family have answered; slow ones farther away do not matter.
    var isFinished: Bool {
        (0..<rules.branches).allSatisfy { branch in
            AddressFamily.allCases.allSatisfy { family in
                nearest(family, branch).allSatisfy { candidates[$0].state == .answered }
            }
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
        let branch = candidates[index].branch
        insert(candidates.remove(at: index))
        for contact in response.nodes { add(contact, branch: branch) }
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
            around(family) { $0.state == .answered && $0.token != nil }.map { candidates[$0] }
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
