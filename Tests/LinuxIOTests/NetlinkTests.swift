import Glibc
import LinuxIO
import NetAddress
import Testing

/// Runs `body` on a thread of its own in a fresh network namespace, which goes with the thread.
/// Needs root, and fails without it.
private func inNewNamespace(_ body: @escaping @Sendable () throws -> Void) throws {
    final class Job {
        let body: @Sendable () throws -> Void
        var failure: (any Error)?
        init(_ body: @escaping @Sendable () throws -> Void) { self.body = body }
    }
    let job = Job(body)
    var thread = pthread_t()
    let created = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            let job = Unmanaged<Job>.fromOpaque(argument).takeUnretainedValue()
            do {
                try NetworkNamespace.enterNew()
                try job.body()
            } catch {
                job.failure = error
            }
            return nil
        }, Unmanaged.passUnretained(job).toOpaque())
    try #require(created == 0)
    pthread_join(thread, nil)
    if let failure = job.failure { throw failure }
}

private func ip(_ arguments: String) throws {
    try #require(system("ip \(arguments)") == 0, "ip \(arguments)")
}

private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

private func address(_ text: String, _ length: Int) throws -> InterfaceAddress {
    let ip = try #require(IPAddress(text))
    return try #require(InterfaceAddress(ip, prefixLength: length))
}

@Suite("Links, addresses and routes in a namespace of their own (root)")
struct NetlinkTests {
    @Test func anInterfaceGetsItsMTUItsAddressesAndItsState() throws {
        try inNewNamespace {
            try ip("link add left type veth peer name right")
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            #expect(netlink.name(of: left) == "left")
            #expect(netlink.index(of: "nothing") == nil)
            #expect(netlink.name(of: 4_000_000) == nil)

            try netlink.setMTU(1420, of: left)
            try netlink.bringUp(left)
            let inner = try address("10.1.0.7", 16)
            let wide = try address("fd00:1::7", 48)
            for _ in 0..<2 {
                try netlink.addAddress(inner, to: left)
                try netlink.addAddress(wide, to: left)
            }

            let link = try #require(try netlink.interfaces().first { $0.index == left })
            #expect(link.mtu == 1420)
            #expect(link.isUp)
            #expect(link.canMulticast)
            #expect(link.addresses.contains(inner))
            #expect(link.addresses.contains(wide))

            for _ in 0..<2 {
                try netlink.removeAddress(inner, from: left)
                try netlink.removeAddress(wide, from: left)
            }
            #expect(try netlink.addresses()[left]?.contains(inner) != true)
            #expect(try netlink.addresses()[left]?.contains(wide) != true)
        }
    }

    @Test func anIPv6AddressIsUsableAtOnce() throws {
        try inNewNamespace {
            try ip("link add left type veth peer name right")
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            try netlink.bringUp(try #require(netlink.index(of: "right")))
            try netlink.bringUp(left)
            try netlink.addAddress(try address("fd00:1::7", 48), to: left)
            let socket = Glibc.socket(AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(socket) }
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            inet_pton(AF_INET6, "fd00:1::7", &name.sin6_addr)
            let bound = withUnsafePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
            #expect(bound == 0, "a tentative address cannot be bound")
        }
    }

    @Test func routesComeAndGo() throws {
        try inNewNamespace {
            try ip("link add left type veth peer name right")
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            try netlink.bringUp(try #require(netlink.index(of: "right")))
            try netlink.bringUp(left)
            let wanted = try ["10.9.0.0/16", "10.9.8.7/32", "fd00:9::/32", "0.0.0.0/0"].map(prefix)
            for route in wanted {
                try netlink.addRoute(route, to: left)
                try netlink.addRoute(route, to: left)
            }
            let present = try netlink.routes().filter { $0.interface == left }.map(\.destination)
            for route in wanted {
                #expect(present.count { $0 == route } == 1, "\(route)")
            }
            for route in wanted {
                try netlink.removeRoute(route, to: left)
                try netlink.removeRoute(route, to: left)
            }
            let after = try netlink.routes().filter { $0.interface == left }.map(\.destination)
            for route in wanted { #expect(!after.contains(route), "\(route)") }
        }
    }

    /// The best of each family, whether a gateway is named or not.
    @Test func theWayOutIsTheBestDefaultRoute() throws {
        try inNewNamespace {
            for link in ["left", "right"] {
                try ip("link add \(link) type veth peer name \(link)-far")
                for end in [link, "\(link)-far"] { try ip("link set \(end) up") }
            }
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            let right = try #require(netlink.index(of: "right"))
            #expect(try netlink.defaultRoutes() == [])
            try ip("addr add 10.1.0.2/24 dev left")
            try ip("addr add 10.2.0.2/24 dev right")
            try ip("route add default via 10.1.0.1 metric 100")
            let first = DefaultRoute(isIPv4: true, gateway: IPAddress("10.1.0.1"), interface: left)
            #expect(try netlink.defaultRoutes() == [first])
            // A worse one is no way out, a better one is.
            try ip("route add default via 10.2.0.1 metric 200")
            #expect(try netlink.defaultRoutes() == [first])
            try ip("route add default via 10.2.0.1 metric 50")
            let better = DefaultRoute(
                isIPv4: true, gateway: IPAddress("10.2.0.1"), interface: right)
            #expect(try netlink.defaultRoutes() == [better])
            #expect(try netlink.defaultRoutes(except: right) == [first])
            try ip("-6 route add default dev left")
            let six = DefaultRoute(isIPv4: false, gateway: nil, interface: left)
            #expect(try netlink.defaultRoutes() == [better, six])
        }
    }

    @Test func nobodysRouteIsReplaced() throws {
        try inNewNamespace {
            try ip("link add left type veth peer name right")
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            let right = try #require(netlink.index(of: "right"))
            for end in [left, right] { try netlink.bringUp(end) }
            for text in ["10.9.0.0/16", "0.0.0.0/0", "fd00:9::/32"] {
                let route = try prefix(text)
                try netlink.addRoute(route, to: left)
                #expect(throws: NetlinkError.self, "\(route)") {
                    try netlink.addRoute(route, to: right)
                }
                let owners = try netlink.routes().filter { $0.destination == route }
                #expect(owners.map(\.interface) == [left], "\(route)")
            }
        }
    }

    @Test func aPlanThatOverlapsALocalNetworkIsSeen() throws {
        try inNewNamespace {
            try ip("link add left type veth peer name right")
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            try netlink.bringUp(try #require(netlink.index(of: "right")))
            try netlink.bringUp(left)
            try netlink.addAddress(try address("10.1.200.1", 24), to: left)
            try netlink.addRoute(try prefix("0.0.0.0/0"), to: left)

            let hit = try netlink.overlap(with: try prefix("10.1.0.0/16"))
            #expect(hit?.destination == (try prefix("10.1.200.0/24")))
            #expect(try netlink.overlap(with: try prefix("10.1.200.128/25")) != nil)
            #expect(try netlink.overlap(with: try prefix("10.2.0.0/16")) == nil)
            #expect(try netlink.overlap(with: try prefix("10.1.0.0/16"), ignoring: left) == nil)
        }
    }

    @Test func multicastInterfacesAreThoseOfTheLAN() throws {
        try inNewNamespace {
            try ip("link add lan type veth peer name other")
            try ip("tuntap add dev tunnel mode tun")
            let netlink = try Netlink()
            for name in ["lo", "lan", "tunnel", "other"] {
                let index = try #require(netlink.index(of: name))
                if name != "other" { try netlink.bringUp(index) }
                if name != "other" {
                    let host = try #require(IPAddress("10.0.\(index).1"))
                    let entry = try #require(InterfaceAddress(host, prefixLength: 24))
                    try netlink.addAddress(entry, to: index)
                }
            }
            #expect(try netlink.multicastInterfaces().map(\.name) == ["lan"])
        }
    }

    @Test func changesWakeTheSubscriber() throws {
        try inNewNamespace {
            let events = try NetlinkEvents()
            #expect(events.drain() == [])
            try ip("link add left type veth peer name right")
            #expect(events.drain().contains(.links))
            let netlink = try Netlink()
            let left = try #require(netlink.index(of: "left"))
            try netlink.bringUp(try #require(netlink.index(of: "right")))
            try netlink.bringUp(left)
            try netlink.addAddress(try address("10.0.0.1", 24), to: left)
            try netlink.addRoute(try prefix("10.9.0.0/16"), to: left)
            var seen: NetworkChanges = []
            while true {
                let more = events.drain()
                if more.isEmpty { break }
                seen.formUnion(more)
            }
            #expect(seen.isSuperset(of: [.links, .addresses, .routes]))
        }
    }

    @Test func refusalsNameTheOperationAndTheReason() throws {
        try inNewNamespace {
            let netlink = try Netlink()
            let refusal = #expect(throws: NetlinkError.self) { try netlink.bringUp(4_000_000) }
            let text = try #require(refusal).description
            #expect(text.hasPrefix("cannot take interface 4000000 up: "))
            #expect(text.count > 40)
            #expect(throws: NetlinkError.self) {
                try netlink.addRoute(try prefix("10.9.0.0/16"), to: 4_000_000)
            }
            #expect(throws: NetlinkError.self) {
                try netlink.addAddress(try address("10.0.0.1", 24), to: 4_000_000)
            }
        }
    }
}
