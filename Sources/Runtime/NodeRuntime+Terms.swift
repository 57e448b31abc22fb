import DataPlane
import Logging
import MeshNode

extension ForwardingSnapshot {
    /// The node's routes in the terms of the packet threads.
    init(_ routes: [TunnelRoute], relaying: RelayingRoutes, budget: RelayBudget) {
        let limit: UInt64? =
            switch budget {
            case .off: 0
            case .limited(let bytesPerSecond): bytesPerSecond
            case .unlimited: nil
            }
        self.init(
            peers: routes.map {
                ForwardingPeer(
                    key: $0.key, endpoint: $0.endpoint, prefixes: $0.allowed,
                    sending: $0.sending, receiving: $0.sessions, channel: $0.channel ?? 0,
                    address: $0.address, pathLimit: $0.pathLimit, joinsPieces: $0.joinsPieces)
            },
            channels: ForwardingChannels(
                carried: relaying.carried.map {
                    .init(channel: $0.channel, first: $0.first, second: $0.second)
                },
                ended: relaying.ended.map {
                    .init(channel: $0.channel, relay: $0.relay, address: $0.address)
                }, bytesPerSecond: limit))
    }
}

extension LogLevel {
    var loggerLevel: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        }
    }
}
