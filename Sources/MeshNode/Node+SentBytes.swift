import MeshBase

/// What a node says when it says something by itself, for people who look for the reason of traffic.
extension Node {
    /// Counts a datagram of the tunnels: by its type, or by the control frame in it.
    mutating func countSent(_ datagram: [UInt8], carrying frame: [UInt8]? = nil) {
        let name =
            if let kind = frame?.first.flatMap({ ControlFrame.Kind(rawValue: $0 & 0x0F) }) {
                Self.name(of: kind)
            } else {
                switch datagram.first {
                case 1, 5: "handshake"
                case 2, 6: "handshake answer"
                case 3: "handshake cookie"
                default: "keepalive"
                }
            }
        sentBytes[name, default: 0] += UInt64(datagram.count)
    }

    private static func name(of kind: ControlFrame.Kind) -> String {
        switch kind {
        case .ledger: "ledger"
        case .founding: "founding"
        case .cluster: "cluster"
        case .ping: "ping"
        case .pong: "pong"
        case .pathProbe: "path size probe"
        case .pathAnswer: "path size answer"
        case .lease: "lease"
        }
    }
}
