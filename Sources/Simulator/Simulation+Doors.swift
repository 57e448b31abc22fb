import MeshBase
import MeshNode
import NetAddress
import PathDiscovery

/// The further UDP ports of one machine, and who answered there.
struct SimulatedDoors {
    struct Guest {
        var port: UInt16
        var remote: SocketAddress
    }

    var ports: [UInt32: UInt16] = [:]
    /// By the address that stands for the way.
    var guests: [SocketAddress: Guest] = [:]
    private var nextPort: UInt16 = 50_000
    private var nextGuest: UInt16 = 1

    mutating func open(_ id: UInt32) -> UInt16 {
        nextPort += 1
        ports[id] = nextPort
        return nextPort
    }

    /// - Returns: what stood for those behind the door.
    mutating func close(_ id: UInt32) -> [SocketAddress] {
        guard let port = ports.removeValue(forKey: id) else { return [] }
        let gone = guests.filter { $0.value.port == port }.keys.sorted { $0.port < $1.port }
        for standIn in gone { guests[standIn] = nil }
        return gone
    }

    func standIn(_ port: UInt16, _ remote: SocketAddress) -> SocketAddress? {
        guests.first { $0.value.port == port && $0.value.remote == remote }?.key
    }

    mutating func welcome(_ port: UInt16, _ remote: SocketAddress) -> SocketAddress {
        let standIn = SocketAddress(ip: .doorHost, port: nextGuest)
        nextGuest += 1
        guests[standIn] = Guest(port: port, remote: remote)
        return standIn
    }
}

/// What a machine's carrier does.
extension Simulation {
    func carry(_ order: CarrierOrder, of machine: SimulatedMachine) {
        switch order {
        case .connect(let address, let kind):
            connect(machine, to: address, kind)
        case .disconnect(let standIn):
            disconnect(standIn, of: machine)
        case .openDoor(let id):
            tellCarrier(.doorOpened(id, port: machine.doors.open(id)), to: machine)
        case .closeDoor(let id):
            for standIn in machine.doors.close(id) { tellCarrier(.ended(standIn), to: machine) }
        case .send(let bytes, let id, let target, let hops):
            guard let port = machine.doors.ports[id] else { return }
            transmit(bytes, from: machine, to: target, door: port, arrives: hops == nil)
        }
    }

    func tellCarrier(
        _ report: CarrierReport, to machine: SimulatedMachine,
        after delay: Duration = .microseconds(100)
    ) {
        add(.carrier(machine: machine.index, life: machine.life, report), after: delay)
    }

    /// A datagram came to a further port.
    func receive(
        _ bytes: [UInt8], at machine: SimulatedMachine, door port: UInt16,
        from source: SocketAddress
    ) {
        guard machine.isUp, let id = machine.doors.ports.first(where: { $0.value == port })?.key
        else { return }
        if let known = machine.doors.standIn(port, source) {
            deliver(bytes, to: machine, from: known)
            return
        }
        let standIn = machine.doors.welcome(port, source)
        step(machine, .carrier(.doorUsed(standIn, door: id, remote: source)))
        deliver(bytes, to: machine, from: standIn)
    }
}
