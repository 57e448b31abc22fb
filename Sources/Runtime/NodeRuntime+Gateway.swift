import LinuxIO
import MeshNode
import PathDiscovery

/// The gateway that may map ports.
extension NodeRuntime {
    func refreshGateway() {
        guard let gatewayTalker else { return }
        let gateway = changes.gateway(except: interface?.name)
        gatewayTalker.use(gateway)
        step(.gatewayChanged(gateway))
    }

    func hearGateway() {
        for (bytes, source) in gatewayTalker?.receive() ?? [] {
            step(.gateway(.datagram(bytes, from: source)))
        }
    }

    func tellGateway(_ action: PortMappingAction) {
        switch action {
        case .send(let datagram, let target): gatewayTalker?.send(datagram, to: target)
        case .exchange(let identifier, let request, let address):
            // It waits for the gateway.
            try? WorkerThread(name: "evpn-gateway") {
                let answer = GatewayTalker.exchange(request, with: address)
                Task { await self.gatewayAnswered(identifier, answer) }
            }.detach()
        case .changed: break
        }
    }

    func gatewayAnswered(_ identifier: UInt32, _ answer: [UInt8]?) {
        step(.gateway(.exchanged(identifier, answer: answer)))
        publish()
    }
}
