import DNS
import MeshNode

extension MulticastService {
    /// Receives on those of a node's interfaces that can multicast.
    package func join(_ interfaces: [LocalInterface]) {
        join(
            interfaces.filter(\.isMulticast).map {
                DiscoveryInterface(
                    index: $0.index, addresses: $0.addresses, prefixes: $0.prefixes)
            })
    }
}
