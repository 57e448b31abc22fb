import Cryptography
import MeshBase
import NetAddress

/// A plain WireGuard tunnel: what `edgevpn-swift tunnel` runs, without mesh, ledger or state.
package struct TunnelConfiguration: Sendable {
    package var privateKey: StaticPrivateKey
    /// 0 lets the kernel choose.
    package var listenPort: UInt16
    /// SO_MARK of the encrypted packets, 0 for none.
    package var firewallMark: UInt32
    /// Addresses of the interface.
    package var addresses: [TunnelAddress]
    /// Largest inner packet in bytes.
    package var mtu: Int
    package var peers: [TunnelPeerSettings]

    /// What an Ethernet path carries inside WireGuard over IPv6.
    package static let usualMTU = 1420
    /// What the packet threads have tables for.
    package static let peerLimit = 4096
}

/// An address with the length of its on-link block.
package struct TunnelAddress: Hashable, Sendable, CustomStringConvertible {
    package var ip: IPAddress
    /// 0...32 for IPv4, 0...128 for IPv6.
    package var prefixLength: Int

    package var description: String { "\(ip)/\(prefixLength)" }
}

/// One `[Peer]`.
package struct TunnelPeerSettings: Sendable {
    package var publicKey: StaticPublicKey
    package var presharedKey: SecretBytes?
    /// Inner addresses sent to this peer and accepted from it.
    package var allowedIPs: [IPPrefix]
    package var endpoint: TunnelEndpoint?
    package var persistentKeepalive: Duration?
}

/// Where a peer is reached: an address, or a name that is looked up when the tunnel starts.
package struct TunnelEndpoint: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

extension TunnelConfiguration {
    /// The largest file that is read, in bytes: room for ``peerLimit`` peers.
    package static let sizeLimit = 2 << 20

    /// Reads a configuration in the format of wg(8), with `Address` and `MTU` of wg-quick(8).
    ///
    /// - Parameters:
    ///   - bytes: the file's content.
    ///   - path: its name, for the problems.
    /// - Throws: every problem of the file, by line. Secrets are never quoted.
    package init(parsing bytes: [UInt8], path: String) throws(ConfigProblems) {
        var parser = TunnelConfigurationParser(path: path)
        guard bytes.count <= TunnelConfiguration.sizeLimit else {
            throw ConfigProblems([
                ConfigProblem(
                    path: path, message: "the file is larger than 2 MiB",
                    fix: "name a WireGuard configuration file")
            ])
        }
        for (index, line) in bytes.split(separator: 10, omittingEmptySubsequences: false)
            .enumerated()
        {
            parser.read(line, number: index + 1)
        }
        self = try parser.finish()
    }
}
