import LinuxIO
import MeshBase
import NetAddress

/// The upstreams that the machine's own configuration names, read again when it changed.
///
/// It is looked at when a question comes, and not more often than every two seconds: a machine that
/// asks nothing costs nothing, and the first question in a new network goes the new way.
struct UpstreamFile {
    /// The first that names somebody counts.
    private let paths: [String]
    private var stamps: [FileStamp?] = []
    private var nextLook = BootInstant.zero
    private(set) var servers: [SocketAddress] = []

    private static let interval: Duration = .seconds(2)

    init(_ paths: [String]) {
        self.paths = paths
    }

    /// Where upstreams stand when resolv.conf itself leads to this node: NetworkManager keeps a
    /// list that follows the networks, what the integration put aside is as old as the node.
    static let usualPaths = [
        ResolvConf.path, "/run/NetworkManager/no-stub-resolv.conf",
        ResolverIntegration.originalFile, "/run/systemd/resolve/resolv.conf",
    ]

    /// Looks whether the files changed, if it is time.
    ///
    /// - Parameter isOwn: whether an address is this server's.
    /// - Returns: the upstreams, when they are others than before.
    mutating func look(at now: BootInstant, isOwn: (SocketAddress) -> Bool) -> [SocketAddress]? {
        guard nextLook <= now else { return nil }
        nextLook = now + UpstreamFile.interval
        let present = paths.map { FileStamp($0) }
        guard present != stamps else { return nil }
        stamps = present
        let found = read(isOwn)
        guard found != servers else { return nil }
        servers = found
        return found
    }

    /// The own addresses changed: what was left out because of them may count now.
    mutating func forget() {
        stamps = []
        nextLook = .zero
    }

    private func read(_ isOwn: (SocketAddress) -> Bool) -> [SocketAddress] {
        for path in paths {
            guard let text = SystemFile.text(path) else { continue }
            let servers = ResolvConf(text, realPath: path).nameServers
                .map { SocketAddress(ip: $0, port: 53) }.filter { !isOwn($0) }
            if !servers.isEmpty { return servers }
        }
        return []
    }
}
