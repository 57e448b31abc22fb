import DNS
import LinuxIO
import MeshBase
import NetAddress
import Runtime
import Testing

/// Our multicast DNS against avahi, in two topologies, all in anonymous namespaces:
///
///     peer:  node, 192.168.77.1 on v0 =====veth===== v1, 192.168.77.2, avahi-daemon
///     same:  node and avahi-daemon share v0, 192.168.77.1, and port 5353
@Suite(.serialized) struct MulticastServiceTests {
    @Test func avahiOnTheLinkSeesUsAndWeSeeIt() throws {
        let story = try inNewNamespace {
            try Story(isSameHost: false, theirAddress: "192.168.77.2")
        }
        story.check(interface: "v1")
    }

    @Test func avahiOnTheSameMachineSharesThePort() throws {
        let story = try inNewNamespace {
            try Story(isSameHost: true, theirAddress: "192.168.77.1")
        }
        story.check(interface: "v0")
    }

    @Test func aPlainResolverGetsAnAnswer() throws {
        let (result, label) = try inNewNamespace {
            try makeLink()
            let node = try DiscoveryNode(texts: ["v=1"])
            node.run(for: .milliseconds(1500)) { _ in false }
            let dig = try startProgram([
                "dig", "@192.168.77.1", "-p", "5353", "+time=3", "+tries=1", "+noedns",
                "_edgevpn._udp.local", "PTR",
            ])
            var output = ""
            var hasEnded = false
            node.run(for: .seconds(4)) { _ in
                if let text = dig.read() { output += text } else { hasEnded = true }
                return hasEnded
            }
            _ = dig.finish()
            return (output, node.label)
        }
        #expect(result.contains("status: NOERROR"))
        #expect(result.contains("PTR\t\(label)._edgevpn._udp.local."))
    }

    @Test func aSecondNodeFindsTheFirst() throws {
        let found = try inNewNamespace {
            try makeLink()
            let first = try DiscoveryNode(texts: ["n=1"])
            first.run(for: .seconds(3)) { _ in false }
            let second = try DiscoveryNode(texts: ["n=2"])
            let started = SystemClock.boot()
            while SystemClock.boot() - started < .seconds(5),
                !second.hasFound("192.168.77.1:4000")
            {
                first.run(for: .milliseconds(2)) { _ in true }
                second.run(for: .milliseconds(2)) { _ in true }
            }
            return second.found
        }
        #expect(found.first?.texts == [Array("n=1".utf8)])
        let places = found.last?.addresses.map(\.description) ?? []
        #expect(places.contains("192.168.77.1:4000"), "\(found)")
    }
}

/// What both sides saw.
private struct Story: Sendable {
    var label = ""
    var output = ""
    var found: [LocalService] = []
    var lost: [DNSName] = []
    let theirAddress: String

    init(isSameHost: Bool, theirAddress: String) throws {
        self.theirAddress = theirAddress
        let isolation = isSameHost ? [] : ["-n"]
        let avahi = try startProgram(
            ["unshare"] + isolation + [
                "-m", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                avahiScript, "sh", isSameHost ? "v0" : "v1",
            ])
        defer { avahi.terminate() }
        try makeLink(movingPeerTo: isSameHost ? nil : avahi)
        let node = try DiscoveryNode(texts: ["v=1", "n=1"])
        label = node.label
        var output = ""
        let read = { if let text = avahi.read() { output += text } }
        node.run(for: .seconds(30)) { node in
            read()
            return output.contains("phase-1") && node.hasFound("\(theirAddress):4711")
        }
        found = node.found
        avahi.goOn()
        node.run(for: .seconds(10)) { node in
            read()
            return output.contains("phase-2") && !node.lost.isEmpty
        }
        lost = node.lost
        node.shutDown()
        node.run(for: .milliseconds(1500)) { _ in false }
        avahi.goOn()
        node.run(for: .seconds(10)) { _ in
            read()
            return output.contains("phase-3")
        }
        self.output = output
    }

    func check(interface: String) {
        let phases = output.split(separator: "phase-", omittingEmptySubsequences: false)
        guard phases.count == 4 else {
            Issue.record("avahi did not get through its phases: \(output)")
            return
        }
        let seen =
            "=;\(interface);IPv4;\(label);_edgevpn._udp;local;\(label).local;192.168.77.1;4000;"
        #expect(phases[0].contains(seen), "\(phases[0])")
        #expect(phases[0].contains("\"n=1\" \"v=1\"") || phases[0].contains("\"v=1\" \"n=1\""))
        #expect(!phases[2].contains(label), "said goodbye, and is still there: \(phases[2])")
        // The last report: on which link a service with several is heard first is chance.
        let foreign = found.last { $0.instance.description == "Foreign._edgevpn._udp.local" }
        #expect(foreign?.port == 4711)
        #expect(foreign?.texts == [Array("a=b".utf8)])
        #expect(
            foreign?.addresses.contains { $0.description == "\(theirAddress):4711" } == true)
        #expect(lost.contains { $0 == foreign?.instance })
    }
}

/// The control loop of a node, reduced to multicast DNS.
private final class DiscoveryNode {
    private let service: MulticastService
    private var discovery: LocalDiscovery
    private var random = SystemRandom.generator()
    private let poller: ReadinessPoller
    private(set) var found: [LocalService] = []
    private(set) var lost: [DNSName] = []

    init(texts: [String]) throws {
        var random = SystemRandom.generator()
        service = try MulticastService()
        poller = try ReadinessPoller()
        discovery = LocalDiscovery(
            configuration: LocalDiscoveryConfiguration(
                serviceType: try #require(DNSName("_edgevpn._udp.local")), port: 4000,
                texts: texts.map { Array($0.utf8) }), random: &random)
        for descriptor in service.descriptors {
            try poller.add(descriptor, .input, token: 1)
        }
        let interfaces = try Netlink().multicastInterfaces().map {
            DiscoveryInterface(
                index: $0.index, addresses: $0.addresses.map(\.ip),
                prefixes: $0.addresses.map(\.prefix))
        }
        service.join(interfaces)
        var actions: [LocalDiscoveryAction] = []
        discovery.setInterfaces(
            interfaces, at: SystemClock.boot(), random: &random, into: &actions)
        carryOut(actions)
    }

    /// The first label of the instance.
    var label: String { String(discovery.instance.description.prefix { $0 != "." }) }

    /// Whether a service was reported at this address. A link without IPv4 may be heard first.
    func hasFound(_ address: String) -> Bool {
        found.contains { $0.addresses.contains { $0.description == address } }
    }

    /// Runs until `isDone`, which is asked after every round, or until the time is over.
    func run(for duration: Duration, until isDone: (DiscoveryNode) -> Bool) {
        let end = SystemClock.boot() + duration
        while SystemClock.boot() < end {
            let next = min(discovery.deadline ?? end, end)
            let wait = (next - SystemClock.boot()).clampedNanoseconds / 1_000_000 + 1
            _ = poller.wait(milliseconds: Int32(clamping: max(0, min(wait, 50))))
            var actions: [LocalDiscoveryAction] = []
            for packet in service.receive() {
                discovery.receive(
                    packet.bytes, from: packet.source, interface: packet.interface,
                    toGroup: packet.toGroup, at: SystemClock.boot(), random: &random,
                    into: &actions)
            }
            discovery.timeout(at: SystemClock.boot(), random: &random, into: &actions)
            carryOut(actions)
            if isDone(self) { return }
        }
    }

    func shutDown() {
        var actions: [LocalDiscoveryAction] = []
        discovery.shutDown(into: &actions)
        carryOut(actions)
    }

    private func carryOut(_ actions: [LocalDiscoveryAction]) {
        for action in actions {
            switch action {
            case .send(let bytes, let destination): service.send(bytes, to: destination)
            case .found(let service): found.append(service)
            case .lost(let instance): lost.append(instance)
            case .dropped: break
            }
        }
    }
}

/// Makes the link of the topologies; its far end goes to the namespace of `program`.
private func makeLink(movingPeerTo program: RunningProgram? = nil) throws {
    try runProgram(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    try runProgram(["ip", "addr", "add", "192.168.77.1/24", "dev", "v0"])
    if let program {
        // Until the program has its own namespace the peer stays here.
        for _ in 0..<100 {
            try runProgram(["ip", "link", "set", "v1", "netns", "\(program.process)"])
            if try runProgram(["ip", "link", "show", "v1"]).status != 0 { break }
        }
    } else {
        try runProgram(["ip", "link", "set", "v1", "up"])
    }
    try runProgram(["ip", "link", "set", "v0", "up"])
}

/// A private bus, avahi on the interface `$1`, a service of its own, and browsing. The temporary
/// file systems and all processes go with the namespaces.
private let avahiScript = """
    set -u
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /etc/avahi/services
    mkdir -p /run/dbus /run/avahi-daemon
    cat > /run/dbus/bus.conf <<'END'
    <!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
     "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
    <auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true"/><allow receive_type="method_call"/>
    <allow receive_type="method_return"/><allow receive_type="signal"/>
    <allow receive_type="error"/></policy></busconfig>
    END
    cat > /run/avahi-daemon/avahi.conf <<'END'
    [server]
    host-name=foreign
    disallow-other-stacks=no
    [publish]
    publish-workstation=no
    END
    tries=0
    until ip link show "$1" > /dev/null 2>&1 || [ $tries -ge 50 ]
    do tries=$((tries + 1)); sleep 0.1; done
    ip link set lo up
    [ "$1" = v1 ] && ip addr add 192.168.77.2/24 dev v1
    ip link set "$1" up
    dbus-daemon --config-file=/run/dbus/bus.conf --nofork --nopidfile 2> /dev/null &
    tries=0
    until [ -S /run/dbus/system_bus_socket ] || [ $tries -ge 50 ]
    do tries=$((tries + 1)); sleep 0.1; done
    avahi-daemon -f /run/avahi-daemon/avahi.conf --no-drop-root --no-chroot --no-rlimits \
      --no-proc-title 2> /dev/null &
    tries=0
    until [ -S /run/avahi-daemon/socket ] || [ $tries -ge 50 ]
    do tries=$((tries + 1)); sleep 0.1; done
    avahi-publish -s Foreign _edgevpn._udp 4711 a=b 2> /dev/null &
    publisher=$!
    tries=0
    while [ $tries -lt 12 ]
    do seen=$(avahi-browse -rtp _edgevpn._udp 2> /dev/null)
       case "$seen" in *"=;$1;IPv4;"*n=1*) break ;; esac
       tries=$((tries + 1)); sleep 1
    done
    echo "$seen"
    echo phase-1
    read -r go
    kill $publisher
    echo phase-2
    read -r go
    avahi-browse -rtp _edgevpn._udp 2> /dev/null
    echo phase-3
    """
