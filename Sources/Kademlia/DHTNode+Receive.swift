import MeshBase
import NetAddress

extension DHTNode {
    /// Takes one KRPC datagram.
    ///
    /// - Parameter room: bytes that arrived, padding included; `nil` when there was none.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, room: Int? = nil,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        let replyLimit = rules.trimsReplies ? room ?? datagram.count : nil
        guard source.isUsable, tables[source.family] != nil else {
            actions.append(.dropped(.malformed))
            return
        }
        let message: KRPCMessage
        do throws(KRPCProblem) {
            message = try KRPCMessage(decoding: datagram)
        } catch {
            guard case .refused(let transaction, let failure) = error, reachability.serves,
                limiter.admitsQuery(from: source.ip, at: now)
            else {
                actions.append(.dropped(.malformed))
                return
            }
            let answer = KRPCMessage(
                transaction: transaction, body: .failure(failure),
                version: DHTConfiguration.version, observed: source)
            reply(answer, to: source, limit: replyLimit, at: now, into: &actions)
            return
        }
        switch message.body {
        case .query(let query):
            receiveQuery(
                query, message, from: source, replyLimit: replyLimit, at: now, random: &random,
                into: &actions)
        case .response(let response):
            guard !message.isReadOnly, let query = takePending(message, from: source) else {
                actions.append(.dropped(.unexpected))
                return
            }
            note(message, answering: query, at: now, into: &actions)
            receiveResponse(response, to: query, at: now, random: &random, into: &actions)
        case .failure(let failure):
            guard let query = takePending(message, from: source) else {
                actions.append(.dropped(.unexpected))
                return
            }
            note(message, answering: query, at: now, into: &actions)
            receiveFailure(failure, to: query, at: now, random: &random, into: &actions)
        }
    }

    /// An answer counts only from the address that was asked, with the transaction we chose.
    private mutating func takePending(_ message: KRPCMessage, from source: SocketAddress)
        -> PendingQuery?
    {
        guard message.transaction.count == 4 else { return nil }
        let transaction = message.transaction.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard let query = pending[transaction], query.address == source else { return nil }
        pending[transaction] = nil
        return query
    }

    private mutating func note(
        _ message: KRPCMessage, answering query: PendingQuery, at now: BootInstant,
        into actions: inout [DHTAction]
    ) {
        if !query.wasRepeated { roundTrip.add(now - query.sentAt) }
        if query.isGet { mute.answered(query.address, at: now) }
        upkeep.heardAt = now
        guard let observed = message.observed else { return }
        votes.add(observed, by: query.address)
        let family = query.address.family
        guard let address = votes.believed(family), address != believed[family] else { return }
        believed[family] = address
        actions.append(.observed(address))
        noteReachability(at: now)
    }

    private mutating func receiveResponse(
        _ response: KRPCResponse, to query: PendingQuery, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        let contact = NodeContact(id: response.sender, address: query.address)
        let family = query.address.family
        // In the open, who is asked by everybody is no neighbour of ours.
        if !routers.contains(query.address) {
            let isNew = tables[family]?.contains(query.address) == false
            let stays = tables[family]?.answered(contact, at: now) ?? false
            if isNew, stays, tables[family]?.contains(query.address) == true {
                actions.append(.met(contact))
            }
        }
        switch query.purpose {
        case .walk(let operation):
            let former = operations[operation]?.lookup.best
            operations[operation]?.lookup.answered(response, from: query.address)
            if let item = operations[operation]?.lookup.best, item != former {
                actions.append(.glimpsed(operation, item))
            }
            advance(operation, at: now, random: &random, into: &actions)
        case .store(let operation):
            wrote(operation, .stored, at: now, into: &actions)
        case .doubt:
            mute.noteSilence(of: query.address, at: now)
        case .upkeep:
            break
        }
    }

    private mutating func receiveFailure(
        _ failure: KRPCFailure, to query: PendingQuery, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        switch query.purpose {
        case .walk(let operation):
            operations[operation]?.lookup.mark(query.address, .failed)
            advance(operation, at: now, random: &random, into: &actions)
        case .store(let operation):
            let isConflict = failure.code == 301 || failure.code == 302
            wrote(operation, isConflict ? .conflict : .failed, at: now, into: &actions)
        case .upkeep, .doubt:
            break
        }
    }

    // MARK: - Answering

    private mutating func receiveQuery(
        _ query: KRPCQuery, _ message: KRPCMessage, from source: SocketAddress, replyLimit: Int?,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        reachability.asked(by: source.ip, at: now)
        guard reachability.serves else {
            actions.append(.dropped(.readOnly))
            return
        }
        guard limiter.admitsQuery(from: source.ip, at: now) else {
            actions.append(.dropped(.rateLimited))
            return
        }
        let body: KRPCMessage.Body
        do throws(KRPCFailure) {
            body = .response(try answer(query, from: source, at: now, random: &random))
        } catch {
            body = .failure(error)
        }
        let answer = KRPCMessage(
            transaction: message.transaction, body: body, version: DHTConfiguration.version,
            observed: source)
        reply(answer, to: source, limit: replyLimit, at: now, into: &actions)
        let contact = NodeContact(id: query.sender, address: source)
        if !message.isReadOnly, tables[source.family]?.heardOf(contact, at: now) == true {
            verify(source, at: now, random: &random, into: &actions)
        }
    }

    /// Sends an answer that fits, leaving out nodes, then peers, then the value.
    private mutating func reply(
        _ message: KRPCMessage, to target: SocketAddress, limit: Int?, at now: BootInstant,
        into actions: inout [DHTAction]
    ) {
        var message = message
        var datagram = message.encoded
        let room = limit ?? Self.replyLimit
        while datagram.count > room {
            guard case .response(var response) = message.body else { return }
            if !response.nodes.isEmpty {
                response.nodes.removeLast()
            } else if !response.peers.isEmpty {
                response.peers.removeLast()
            } else if response.value != nil {
                (response.value, response.key, response.signature) = (nil, nil, nil)
            } else {
                return
            }
            message.body = .response(response)
            datagram = message.encoded
        }
        guard limiter.admitsReply(of: datagram.count, at: now) else {
            actions.append(.dropped(.rateLimited))
            return
        }
        actions.append(.send(datagram, to: target, atLeast: 0))
    }

    /// BEP 32 sends no more.
    static let replyLimit = 1_024
    /// Nodes that are told where the line is nearly full: enough for a walk to go on, and a third of
    /// the bytes.
    static let strainedCount = 2

    private mutating func answer(
        _ query: KRPCQuery, from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator
    ) throws(KRPCFailure) -> KRPCResponse {
        let family = source.family
        guard let ownID = tables[family]?.ownID else { throw .malformed }
        var response = KRPCResponse(sender: ownID)
        switch query.method {
        case .ping:
            break
        case .findNode(let target), .unknown(let target):
            response.nodes = closest(to: target, query, family, at: now)
        case .getPeers(let infoHash):
            response.nodes = closest(to: infoHash, query, family, at: now)
            response.token = tokens.token(for: source, target: infoHash)
            response.peers = storage.peers(infoHash, family: family, at: now, random: &random)
        case .announcePeer(let infoHash, let port, let isImplied, let token):
            guard tokens.accepts(token, from: source, target: infoHash) else { throw .badToken }
            var peer = source
            if !isImplied { peer.port = port }
            storage.announce(peer, for: infoHash, at: now)
        case .get(let target, let sequence):
            response.nodes = closest(to: target, query, family, at: now)
            response.token = tokens.token(for: source, target: target)
            switch storage.item(target, at: now) {
            case .immutable(let value):
                response.value = value
            case .mutable(let item):
                response.sequence = item.sequence
                guard sequence.map({ item.sequence > $0 }) ?? true else { break }
                response.value = item.value
                response.key = item.key
                response.signature = item.signature
            case nil:
                break
            }
        case .put(let value, let comparing, let token):
            guard tokens.accepts(token, from: source, target: value.target) else {
                throw .badToken
            }
            try storage.put(value, comparing: comparing, ownID: ownID, at: now)
        }
        return response
    }

    private func closest(
        to target: KademliaID, _ query: KRPCQuery, _ family: AddressFamily, at now: BootInstant
    ) -> [NodeContact] {
        let count =
            limiter.isStrained(at: now) ? Self.strainedCount : RoutingTable.bucketSize
        let wanted =
            query.want.isEmpty ? [family] : AddressFamily.allCases.filter(query.want.contains)
        return wanted.flatMap { tables[$0]?.closest(to: target, count: count) ?? [] }
    }
}
