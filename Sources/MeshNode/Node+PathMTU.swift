import MeshBase
import NetAddress
import WireGuard

/// How large a datagram each member's path carries: the searches, and their probes inside tunnels.
extension Node {
    /// The capability bit of a node that joins pieces and answers probes.
    static let joinsPieces: UInt32 = 1

    /// Takes what a member said that it can do. Bits that this release does not know mean nothing.
    mutating func noteCapabilities(
        of node: NodeID, _ capabilities: UInt32, at now: Now, into actions: inout [NodeAction]
    ) {
        let joins = capabilities & Node.joinsPieces != 0
        guard let member = members[node], member.joinsPieces != joins else { return }
        members[node]?.joinsPieces = joins
        if !joins { members[node]?.pathMTU = nil }
        actions.append(.forwardingChanged)
        searchPathMTU(of: node, at: now, into: &actions)
    }

    /// Searches from the beginning: the path is new, or another one than before.
    mutating func searchPathMTU(
        of node: NodeID, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node], member.sending != nil, member.joinsPieces else { return }
        let full = Int(configuration.token.mtu) + SessionHandle.overhead
        // Larger probes would not pass the ring from the packet threads: such a mesh relies on
        // its links.
        guard full - SessionHandle.overhead <= ControlFrame.probeBodyLimit else { return }
        if member.pathMTU == nil { members[node]?.pathMTU = PathMTUSearch(full: full) }
        withPathMTU(of: node, at: now, into: &actions) { search, results in
            search.begin(at: now.boot, into: &results)
        }
    }

    /// The packet threads have followed the member to another address. Each thread reports it
    /// once, and a search for that path may run already.
    mutating func pathMTUMoved(
        _ node: NodeID, to address: SocketAddress, at now: Now, into actions: inout [NodeAction]
    ) {
        guard members[node]?.endpoint != address else { return }
        members[node]?.endpoint = address
        searchPathMTU(of: node, at: now, into: &actions)
    }

    mutating func receivePathAnswer(
        _ number: UInt32, from node: NodeID, at now: Now, into actions: inout [NodeAction]
    ) {
        withPathMTU(of: node, at: now, into: &actions) { search, results in
            search.receive(answerTo: number, at: now.boot, into: &results)
        }
    }

    mutating func runPathMTU(at now: Now, into actions: inout [NodeAction]) {
        pathMTUDeadline = nil
        for (node, member) in members.sorted(by: { $0.key < $1.key }) {
            guard let due = member.pathMTU?.deadline else { continue }
            let sent = member.traffic.sent
            if due <= now.boot {
                withPathMTU(of: node, at: now, into: &actions) { search, results in
                    search.timeout(at: now.boot, bytesSent: sent, into: &results)
                }
            } else {
                pathMTUDeadline = earlier(pathMTUDeadline, due)
            }
        }
    }

    private mutating func withPathMTU(
        of node: NodeID, at now: Now, into actions: inout [NodeAction],
        _ body: (inout PathMTUSearch, inout [PathMTUAction]) -> Void
    ) {
        guard var search = members[node]?.pathMTU else { return }
        var results: [PathMTUAction] = []
        body(&search, &results)
        members[node]?.pathMTU = search
        for result in results {
            switch result {
            case .probe(let size, let number):
                probe(node, size: size, number: number, at: now, into: &actions)
            case .limitChanged(let limit):
                actions.append(.forwardingChanged)
                actions.append(
                    .log(.info, "the path to member \(node.short) carries \(limit) bytes"))
            }
        }
        pathMTUDeadline = earlier(pathMTUDeadline, search.deadline)
    }

    private mutating func probe(
        _ node: NodeID, size: Int, number: UInt32, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node], let endpoint = member.endpoint else { return }
        let plaintext = size - SessionHandle.overhead
        let body = [UInt8](repeating: 0, count: plaintext - ControlFrame.headerCount)
        let frame = ControlFrame(kind: .pathProbe, requestID: number, body: body)
        let datagram = member.sending?.seal(frame.encode(), paddedTo: plaintext, at: now.boot)
        guard let datagram, let (bytes, target) = paths.route(datagram, to: endpoint) else {
            return
        }
        countSent(datagram, carrying: frame.encode())
        actions.append(.sendUnfragmented(bytes, to: target))
    }
}
