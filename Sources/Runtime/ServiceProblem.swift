import LinuxIO
import Storage

/// Why a node cannot start. Nothing was changed on disk, and what was opened is closed again.
package enum ServiceProblem: Error, CustomStringConvertible {
    case notRoot
    case noTunDevice
    case interfaceTaken(String)
    case portTaken(UInt16)
    case otherMesh(path: String)
    case noIssuer
    case system(SystemCallError)
    case netlink(NetlinkError)
    case storage(StorageError)
    /// The node was running and cannot go on.
    case failed(String)

    /// One sentence: what is wrong.
    package var description: String {
        switch self {
        case .notRoot: "a network interface needs root"
        case .noTunDevice: "/dev/net/tun is missing"
        case .interfaceTaken(let name): "the interface \(name) exists already"
        case .portTaken(let port): "UDP port \(port) is taken"
        case .otherMesh(let path): "\(path) belongs to a machine of another mesh"
        case .noIssuer: "the token grants no membership"
        case .system(let error): "\(error)"
        case .netlink(let error): "\(error)"
        case .storage(let error): "\(error)"
        case .failed(let reason): reason
        }
    }

    /// One sentence: what to do.
    package var fix: String {
        switch self {
        case .notRoot: "run as root, or use --interface none"
        case .noTunDevice: "load the tun module (modprobe tun), or use --interface none"
        case .interfaceTaken: "name another interface with --interface"
        case .portTaken: "stop the process that uses it, or name another port with --listen"
        case .otherMesh: "name another directory with --state-dir"
        case .noIssuer: "make a token with token new"
        case .system, .netlink, .failed: "look at the log for the cause"
        case .storage(let error): error.fix
        }
    }

    /// Going on would be possible and unsafe.
    package var isRefusal: Bool {
        if case .otherMesh = self { true } else { false }
    }

    /// A disk that is not mounted yet may come.
    package var isWorthWaiting: Bool {
        if case .storage(.notMountedYet) = self { true } else { false }
    }
}
