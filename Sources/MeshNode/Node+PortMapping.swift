import MeshBase
import NetAddress
import PathDiscovery

/// The gateway in front of this machine.
package struct GatewayLink: Hashable, Sendable {
    package var gateway: IPAddress
    /// This machine's address on the gateway's link.
    package var client: IPAddress
    package var interface: UInt32

    package init(gateway: IPAddress, client: IPAddress, interface: UInt32) {
        self.gateway = gateway
        self.client = client
        self.interface = interface
    }
}

/// What a gateway said.
package enum GatewayReport: Sendable {
    /// To the port from which it was asked, or to the group of announcements.
    case datagram([UInt8], from: SocketAddress)
    case exchanged(UInt32, answer: [UInt8]?)
}

/// What the gateway maps, and what becomes of it.
extension Node {
    mutating func gatewayChanged(
        _ link: GatewayLink?, at now: Now, into actions: inout [NodeAction]
    ) {
        // Whoever has a public address needs no gateway's help.
        let link = link.flatMap { $0.client.isPrivate || $0.client.isShared ? $0 : nil }
        withMapper(at: now, into: &actions) { mapper, _, results in
            mapper.setGateway(link?.gateway, client: link?.client, at: now.boot, into: &results)
        }
    }

    mutating func gatewayReported(
        _ report: GatewayReport, at now: Now, into actions: inout [NodeAction]
    ) {
        withMapper(at: now, into: &actions) { mapper, random, results in
            switch report {
            case .datagram(let bytes, let source):
                mapper.receive(
                    bytes, from: source, at: now.boot, random: &random, into: &results)
            case .exchanged(let identifier, let answer):
                mapper.exchanged(
                    identifier, answer: answer, at: now.boot, random: &random, into: &results)
            }
        }
    }

    mutating func withMapper(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout PortMapper, inout SeededGenerator, inout [PortMappingAction]) -> Void
    ) {
        guard var present = mapper else { return }
        var results: [PortMappingAction] = []
        body(&present, &random, &results)
        mapper = present
        for result in results {
            if case .changed = result {
                mappingChanged(at: now, into: &actions)
            } else {
                actions.append(.gateway(result))
            }
        }
    }

    private mutating func mappingChanged(at now: Now, into actions: inout [NodeAction]) {
        let address = mapper?.mapped
        if let address, let method = mapper?.mappedBy {
            actions.append(
                .log(.info, "the gateway sends \(address) here (\(method.rawValue))"))
        } else {
            actions.append(.log(.info, "the gateway sends nothing here any more"))
        }
        refreshDHT(at: now)
        publishMachine(at: now, into: &actions)
        var results: [PathAction] = []
        paths.setMapped(address, at: now.boot, into: &results)
        carryOut(results, at: now, into: &actions)
        runPaths(at: now, into: &actions)
    }
}
