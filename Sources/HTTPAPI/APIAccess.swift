import Glibc
import NIOCore
import Synchronization

/// Who may ask a node what.
///
/// - Unix socket: root and the node's own user may everything. Others, whom an operator let open
///   the socket, may read. The kernel says who connected (`SO_PEERCRED`, unix(7)).
/// - TCP: whoever sends the bearer token (RFC 6750 section 2.1) may everything, others nothing.
final class APIAccess: Sendable {
    enum Level: Sendable {
        case everything, reading, nothing
    }

    /// Empty until the node knows its own token; nobody passes before.
    private let bearer = Mutex<[UInt8]>([])

    func setBearer(_ text: String) {
        bearer.withLock { $0 = Array(text.utf8) }
    }

    /// What the sender of these `Authorization` headers may.
    func level(ofHeaders headers: [String]) -> Level {
        guard headers.count == 1, let header = headers.first else { return .nothing }
        let words = header.split(separator: " ")
        guard words.count == 2, words[0].lowercased() == "bearer" else { return .nothing }
        let given = Array(words[1].utf8)
        return bearer.withLock { known in
            guard !known.isEmpty, known.count == given.count else { return .nothing }
            // Takes as long for every wrong token.
            let difference = zip(known, given).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) }
            return difference == 0 ? .everything : .nothing
        }
    }

    /// What the process at the other end of a unix socket may.
    static func level(ofUser user: UInt32) -> Level {
        user == 0 || user == geteuid() ? .everything : .reading
    }

    /// Why a request of this level is refused, or `nil`.
    static func problem(_ level: Level, method: String) -> ControlFailure? {
        switch level {
        case .everything: nil
        case .reading:
            method == "GET" || method == "HEAD"
                ? nil
                : ControlFailure(
                    .refused, "other users than the node's own may only read",
                    fix: "ask as root, or as the user that the node runs as")
        case .nothing:
            ControlFailure(
                .invalid, "the API's bearer token is missing or wrong",
                fix: "send what is in the node's state directory as api-token; commands find it "
                    + "there as root, or take EDGEVPN_API_TOKEN_FILE")
        }
    }
}

/// `struct ucred` of unix(7).
private struct PeerCredentials {
    var process: Int32 = 0
    var user: UInt32 = .max
    var group: UInt32 = .max
}

extension Channel {
    /// The user at the other end of a unix socket; nobody when the kernel does not say.
    func peerUser() async -> UInt32 {
        guard let provider = self as? any SocketOptionProvider else { return .max }
        let credentials: EventLoopFuture<PeerCredentials> = provider.unsafeGetSocketOption(
            level: .socket, name: .init(rawValue: SO_PEERCRED))
        return (try? await credentials.map(\.user).get()) ?? .max
    }
}
