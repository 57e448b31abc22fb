import NetAddress

/// Where the API listens, or where a command finds it.
package enum APIAddress: Hashable, Sendable {
    /// An absolute path of a unix socket.
    case unix(path: String)
    case tcp(SocketAddress)
}

extension APIAddress: CustomStringConvertible {
    /// The longest path that `sockaddr_un` holds with its terminating zero (unix(7)).
    package static let longestPath = 107

    /// Takes `unix:PATH`, `unix://PATH` or a literal `ADDRESS:PORT`.
    package init?(_ text: String) {
        for prefix in ["unix://", "unix:"] where text.hasPrefix(prefix) {
            let path = String(text.dropFirst(prefix.count))
            guard path.hasPrefix("/"), path.utf8.count <= APIAddress.longestPath,
                !path.utf8.contains(0)
            else { return nil }
            self = .unix(path: path)
            return
        }
        guard let address = SocketAddress(text) else { return nil }
        self = .tcp(address)
    }

    package var description: String {
        switch self {
        case .unix(let path): "unix:\(path)"
        case .tcp(let address): "\(address)"
        }
    }
}
