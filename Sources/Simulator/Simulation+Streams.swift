import MeshBase
import MeshNode
import NetAddress
import PathDiscovery

/// The streams of one machine.
struct SimulatedStreams {
    struct Peer {
        var machine: Int
        /// What stands for the stream there.
        var standIn: SocketAddress
    }

    /// By the address that stands for the stream here.
    private(set) var peers: [SocketAddress: Peer] = [:]
    private var nextPort: UInt16 = 1

    mutating func reserve() -> SocketAddress {
        defer { nextPort += 1 }
        return SocketAddress(ip: .streamHost, port: nextPort)
    }

    mutating func open(_ standIn: SocketAddress, to peer: Peer) { peers[standIn] = peer }

    mutating func close(_ standIn: SocketAddress) -> Peer? { peers.removeValue(forKey: standIn) }
}

/// TCP as the machines use it. Who has a public address listens at the number of its UDP port; nobody
/// listens on 443. What is sent arrives in order and is never lost by chance, only while the network is
/// split.
extension Simulation {
    /// The networks of these machines let no UDP in or out, from now on.
    package func dropUDP(of machines: Set<Int>) {
        withoutUDP = machines
        tell("no UDP at \(machines.sorted())")
    }

    /// How many streams there are.
    package var openStreams: Int { machines.reduce(0) { $0 + $1.streams.peers.count } / 2 }

    func connect(_ machine: SimulatedMachine, to address: SocketAddress, _ kind: StreamKind) {
        guard options.usesStreams, kind == .plain, let target = self.machine(at: address.ip),
            target.routers.isEmpty, target.address == address, target.isUp,
            !isCut(machine.index, target.index)
        else {
            tellCarrier(.failed(address, kind), to: machine)
            return
        }
        tell("\(machine.name) opens a stream to \(target.name)")
        let near = machine.streams.reserve()
        let far = target.streams.reserve()
        machine.streams.open(near, to: .init(machine: target.index, standIn: far))
        target.streams.open(far, to: .init(machine: machine.index, standIn: near))
        let source = SocketAddress(ip: machine.outerAddress, port: near.port)
        tellCarrier(.accepted(far, from: source), to: target, after: segmentDelay)
        tellCarrier(.connected(near, to: address, kind), to: machine, after: segmentDelay * 2)
    }

    func sendInStream(_ bytes: [UInt8], from machine: SimulatedMachine, by standIn: SocketAddress) {
        machine.traffic.count(bytes, kind: bytes.first ?? 0)
        guard let peer = machine.streams.peers[standIn], !isCut(machine.index, peer.machine) else {
            return
        }
        add(
            .datagram(machine: peer.machine, bytes, source: peer.standIn), after: segmentDelay)
    }

    /// Ends a stream; the other end hears of it.
    func disconnect(_ standIn: SocketAddress, of machine: SimulatedMachine) {
        guard let peer = machine.streams.close(standIn) else { return }
        tellCarrier(.ended(standIn), to: machine)
        let other = machines[peer.machine]
        if other.streams.close(peer.standIn) != nil {
            tellCarrier(.ended(peer.standIn), to: other, after: segmentDelay)
        }
    }

    func endStreams(of machine: SimulatedMachine) {
        for standIn in machine.streams.peers.keys.sorted() { disconnect(standIn, of: machine) }
    }

    /// Always the slowest, so that nothing overtakes.
    private var segmentDelay: Duration { options.faults.delay.upperBound }
}
