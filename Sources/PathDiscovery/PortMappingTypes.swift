import NetAddress

/// What a ``PortMapper`` wants done, in order.
package enum PortMappingAction: Hashable, Sendable {
    /// A datagram from the mapper's own port: to the gateway, or to a group on the gateway's link.
    case send([UInt8], to: SocketAddress)
    /// One TCP connection: send these bytes, read until the other end closes. Answered by
    /// ``PortMapper/exchanged(_:answer:at:random:into:)``.
    case exchange(UInt32, [UInt8], with: SocketAddress)
    /// ``PortMapper/mapped`` changed.
    case changed
}

/// How a gateway is asked.
package enum PortMappingMethod: String, Hashable, Sendable, CaseIterable {
    case pcp = "PCP"
    case natPMP = "NAT-PMP"
    case upnp = "UPnP"

    var next: PortMappingMethod? {
        switch self {
        case .pcp: .natPMP
        case .natPMP: .upnp
        case .upnp: nil
        }
    }
}
