import MeshBase
import NetAddress

/// Where a conversation with a UPnP gateway stands.
struct UPnPDialogue {
    var description: UPnP.Place?
    /// The exchange whose answer is awaited.
    var exchange: UInt32?
    /// Whether that answer tells if a mapping stands.
    var isInquiring = false
    /// Also what NAT-PMP says before it maps.
    var externalAddress: IPAddress?
    private var control: (service: String, place: UPnP.Place)?
    private var port: UInt16 = 0
    private var isPermanent = false
    private var conflicts = 0

    static let lease: UInt32 = 3_600
    static let searchTargets = [
        "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
        "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    ]
    /// Other machines have taken so many ports that ours were: somebody plays with us.
    private static let conflictLimit = 4

    var isTalking: Bool { exchange != nil }

    enum Step {
        case talk([UInt8], SocketAddress)
        case mapped(SocketAddress)
        case failed
    }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(UInt64(exchange ?? 0))
        hash.mix(isInquiring)
        hash.mix(externalAddress?.description ?? "-")
        hash.mix(control?.place.path ?? "-")
        hash.mix(UInt64(port))
    }

    /// Takes the answer to the last exchange.
    mutating func advance(
        _ reply: (status: Int, body: String), client: IPAddress, internalPort: UInt16,
        wished: UInt16, random: inout SeededGenerator
    ) -> Step {
        guard let (service, place) = control else {
            guard reply.status == 200, let description,
                let found = UPnP.control(in: reply.body, from: description)
            else { return .failed }
            control = found
            let call = UPnP.call(
                "GetExternalIPAddress", [], service: found.service, at: found.place)
            return .talk(call, found.place.address)
        }
        guard let external = externalAddress else {
            guard reply.status == 200,
                let text = UPnP.elements("NewExternalIPAddress", in: reply.body).first,
                let ip = IPAddress(text), ip.isIPv4
            else { return .failed }
            externalAddress = ip
            port = wished
            return add(client, internalPort, service, place)
        }
        if reply.status == 200 { return .mapped(SocketAddress(ip: external, port: port)) }
        switch UPnP.elements("errorCode", in: reply.body).first {
        case "725" where !isPermanent:
            // OnlyPermanentLeasesSupported
            isPermanent = true
        case "718" where conflicts < Self.conflictLimit:
            // ConflictInMappingEntry
            conflicts += 1
            port = UInt16(1_024 + random.next() % 64_000)
        default: return .failed
        }
        return add(client, internalPort, service, place)
    }

    private func add(
        _ client: IPAddress, _ internalPort: UInt16, _ service: String, _ place: UPnP.Place
    ) -> Step {
        let arguments = UPnP.add(
            port, to: client, internalPort: internalPort, lease: isPermanent ? 0 : Self.lease)
        return .talk(
            UPnP.call("AddPortMapping", arguments, service: service, at: place), place.address)
    }

    /// The call that renews what stands.
    func addition(of port: UInt16, to client: IPAddress, internalPort: UInt16)
        -> ([UInt8], SocketAddress)?
    {
        guard let (service, place) = control, self.port == port,
            case .talk(let bytes, let address) = add(client, internalPort, service, place)
        else { return nil }
        return (bytes, address)
    }

    /// The call that asks whether a port is mapped.
    mutating func inquiry(of port: UInt16) -> ([UInt8], SocketAddress)? {
        guard let (service, place) = control else { return nil }
        isInquiring = true
        // The same arguments name an entry to look at and one to delete.
        let arguments = UPnP.entry(port)
        return (
            UPnP.call("GetSpecificPortMappingEntry", arguments, service: service, at: place),
            place.address
        )
    }

    func removal(of port: UInt16) -> ([UInt8], SocketAddress)? {
        guard let (service, place) = control else { return nil }
        return (
            UPnP.call("DeletePortMapping", UPnP.entry(port), service: service, at: place),
            place.address
        )
    }
}
