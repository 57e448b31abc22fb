import Configuration
import Cryptography
import DataPlane
import LinuxIO
import MeshBase
import NetAddress
import WireGuard

/// A plain WireGuard tunnel on this machine, from a configuration file to a signal.
///
///     packet threads --doorbell--> events --> TunnelDevice --actions--> socket, forwarding table
///     timer, signals ------------^
///
/// One thread, the caller's, runs all of it; packets pass on threads of their own. Without a state
/// directory the handshake stamps rest on the wall clock alone, as they do in every WireGuard
/// implementation: after a restart with a clock set back, peers wait until it has caught up.
package enum TunnelRuntime {
    /// The interface's name if the user gives none.
    package static let usualInterfaceName = "edgevpn-wg0"

    /// Makes the interface, runs the tunnel until SIGTERM or SIGINT arrives, and removes what it
    /// made. Nothing outlives it: interface, addresses and routes go with the process even when
    /// it is killed.
    ///
    /// - Parameters:
    ///   - interfaceName: at most 15 bytes; must not exist yet.
    ///   - shards: packet threads; 0 leaves their number to the machine.
    ///   - report: what the user may want to read, called on the calling thread.
    package static func run(
        configuration: TunnelConfiguration, interfaceName: String = usualInterfaceName,
        shards: Int = 0, report: (TunnelReport) -> Void = { _ in }
    ) throws(TunnelProblem) {
        let signals = try TunnelProblem.wrapping { () throws(SystemCallError) in
            try StopSignals()
        }
        var control = try TunnelControl(
            configuration, interfaceName: interfaceName, shards: ShardCount.resolve(shards))
        defer { control.close() }
        report(
            .listening(
                interface: interfaceName, port: control.plane.port,
                publicKey: configuration.privateKey.publicKey))
        StartupMemory.release()
        try control.run(until: signals, report: report)
        report(.stopped)
    }
}

/// What a running tunnel tells its user.
package enum TunnelReport: Hashable, Sendable, CustomStringConvertible {
    case listening(interface: String, port: UInt16, publicKey: StaticPublicKey)
    /// A handshake completed, the first or one that renews the keys; packets flow.
    case handshakeCompleted(StaticPublicKey, SocketAddress?)
    /// The peer has not answered for 90 seconds.
    case unreachable(StaticPublicKey)
    case stopped

    package var description: String {
        switch self {
        case .listening(let interface, let port, let key):
            "\(interface) is up, UDP port \(port), public key \(key)"
        case .handshakeCompleted(let peer, let endpoint?): "handshake with \(peer) at \(endpoint)"
        case .handshakeCompleted(let peer, nil): "handshake with \(peer)"
        case .unreachable(let peer): "\(peer) does not answer"
        case .stopped: "stopped"
        }
    }
}

/// Why a tunnel cannot start or go on. Everything that was made has been removed again.
package enum TunnelProblem: Error, Hashable, Sendable, CustomStringConvertible {
    case notRoot
    case noTunDevice
    case badInterfaceName(String)
    case interfaceTaken(String)
    case portTaken(UInt16)
    case unknownHost(String)
    case defaultRoute(StaticPublicKey)
    case badPeerKey(StaticPublicKey)
    case system(SystemCallError)
    case netlink(NetlinkError)

    /// One sentence: what is wrong.
    package var description: String {
        switch self {
        case .notRoot: "a network interface needs root"
        case .noTunDevice: "/dev/net/tun is missing"
        case .badInterfaceName(let name): "\"\(name)\" cannot name an interface"
        case .interfaceTaken(let name): "the interface \(name) exists already"
        case .portTaken(let port): "UDP port \(port) is taken"
        case .unknownHost(let host): "the name \(host) has no address now"
        case .defaultRoute(let peer):
            "AllowedIPs of \(peer) hold a default route, which this version does not install"
        case .badPeerKey(let peer): "\(peer) cannot be a peer's public key"
        case .system(let error): "\(error)"
        case .netlink(let error): "\(error)"
        }
    }

    /// One sentence: what to do.
    package var fix: String {
        switch self {
        case .notRoot: "run as root"
        case .noTunDevice: "load the tun module (modprobe tun)"
        case .badInterfaceName: "use 1 to 15 letters, digits, - and _"
        case .interfaceTaken: "name another interface with --interface"
        case .portTaken: "stop the process that uses it, or change ListenPort"
        case .unknownHost: "check the Endpoint and the machine's DNS, or write an address"
        case .defaultRoute: "list narrower blocks"
        case .badPeerKey: "write the public key that the other machine prints"
        case .system, .netlink: "see the reason above"
        }
    }

    static func wrapping<Result: ~Copyable>(_ body: () throws(SystemCallError) -> Result)
        throws(TunnelProblem) -> Result
    {
        do {
            return try body()
        } catch {
            throw .system(error)
        }
    }
}
