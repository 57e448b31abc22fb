import MeshBase
import NetAddress

/// What the browser knows of one service.
struct BrowsedService {
    /// Until when the service is known to exist.
    var expiry: BootInstant
    /// Seconds that the pointer promised, for known answers.
    var pointerTTL: UInt32 = 0
    var location: Timed<ServiceLocation>?
    var texts: Timed<[[UInt8]]>?
    var addresses: [Address] = []
    /// What the caller was told last.
    var reported: LocalService?
    var isRejected = false
    /// Questions sent since the service was last complete.
    var attempts = 0
    var nextQuestion: BootInstant?

    init(expiry: BootInstant) {
        self.expiry = expiry
    }

    struct Address: Hashable {
        let ip: IPAddress
        let interface: UInt32
        var expiry: BootInstant
    }

    /// A value that is true for `ttl` seconds.
    struct Timed<Value> {
        let value: Value
        let ttl: UInt32
        let receivedAt: BootInstant

        var expiry: BootInstant { receivedAt + .seconds(Int64(ttl)) }
    }

    /// More than a probe was heard of it.
    var isAnnounced: Bool { pointerTTL > 0 }

    /// When the first of its parts expires.
    var nextExpiry: BootInstant {
        var result = expiry
        if let location { result = min(result, location.expiry) }
        if let texts { result = min(result, texts.expiry) }
        for address in addresses { result = min(result, address.expiry) }
        return result
    }

    /// The service as the caller sees it, once all parts are known.
    func complete(instance: DNSName) -> LocalService? {
        guard let location, let texts, !addresses.isEmpty else { return nil }
        let port = location.value.port
        var places: Set<SocketAddress> = []
        for address in addresses {
            let scope = !address.ip.isIPv4 && address.ip.isLinkLocal ? address.interface : 0
            places.insert(SocketAddress(ip: address.ip, port: port, scope: scope))
        }
        return LocalService(
            instance: instance,
            addresses: places.sorted { ($0.ip, $0.scope) < ($1.ip, $1.scope) }, port: port,
            texts: texts.value)
    }

    /// Takes the addresses that one message has for the host. A marked record replaces what was
    /// known from the same interface and family (RFC 6762 section 10.2).
    mutating func note(
        _ records: [ResourceRecord], interface: UInt32, lifetimeLimit: UInt32, at now: BootInstant
    ) {
        for isIPv4 in [true, false] {
            let family = records.filter { $0.type == (isIPv4 ? .a : .aaaa) }
            if family.contains(where: \.recordClass.isMarked) {
                addresses.removeAll { $0.interface == interface && $0.ip.isIPv4 == isIPv4 }
            }
            for record in family {
                note(record, ttl: min(record.ttl, lifetimeLimit), interface: interface, at: now)
            }
        }
    }

    private mutating func note(
        _ record: ResourceRecord, ttl: UInt32, interface: UInt32, at now: BootInstant
    ) {
        guard case .address(let ip) = record.data, !ip.isMulticast, !ip.isLoopback,
            !ip.isUnspecified
        else { return }
        addresses.removeAll { $0.ip == ip && $0.interface == interface }
        guard ttl > 0, addresses.count < MulticastBrowser.maximumAddresses else { return }
        addresses.append(
            Address(ip: ip, interface: interface, expiry: now + .seconds(Int64(ttl))))
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(expiry)
        fingerprint.mix(nextQuestion)
        fingerprint.mix(isRejected)
        fingerprint.mix(reported != nil)
        fingerprint.mix(location?.expiry)
        fingerprint.mix(texts?.expiry)
        for address in addresses {
            fingerprint.mix(address.ip.mappedBytes)
            fingerprint.mix(UInt64(address.interface))
            fingerprint.mix(address.expiry)
        }
    }
}
