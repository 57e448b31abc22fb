import MeshBase
import NetAddress

/// The datagrams that a busy machine has not looked at yet: the ring between its packet thread and
/// its node, as in the data plane.
struct SimulatedInbox {
    private typealias Entry = (bytes: [UInt8], source: SocketAddress, arrival: BootInstant)

    private static let capacity = 512

    private var entries = BoundedDeque<Entry>(capacity: SimulatedInbox.capacity)
    private var limit = SojournLimit()
    /// Whether the machine is at work, and looks here when it is done.
    var isServing = false

    mutating func put(_ bytes: [UInt8], from source: SocketAddress, at now: BootInstant) {
        guard entries.count < Self.capacity else { return }
        entries.append((bytes, source, now))
    }

    /// The oldest datagram that is worth to be served.
    mutating func take(at now: BootInstant) -> (bytes: [UInt8], source: SocketAddress)? {
        while let entry = entries.popFirst() {
            guard limit.admits(from: entry.arrival, at: now) else { continue }
            return (entry.bytes, entry.source)
        }
        limit.emptied()
        return nil
    }
}

extension Simulation {
    /// A datagram came to a machine that may have others to look at first.
    func arrived(_ bytes: [UInt8], at machine: SimulatedMachine, from source: SocketAddress) {
        guard options.serviceTime > .zero else { return deliver(bytes, to: machine, from: source) }
        guard machine.isUp else { return }
        machine.inbox.put(bytes, from: source, at: now)
        guard !machine.inbox.isServing else { return }
        machine.inbox.isServing = true
        add(.serve(machine: machine.index, life: machine.life), after: options.serviceTime)
    }

    func serve(_ machine: SimulatedMachine) {
        machine.inbox.isServing = false
        guard let (bytes, source) = machine.inbox.take(at: now) else { return }
        machine.inbox.isServing = true
        add(.serve(machine: machine.index, life: machine.life), after: options.serviceTime)
        deliver(bytes, to: machine, from: source)
    }
}
