import LinuxIO
import Logging
import MeshBase
import NetAddress
import PathDiscovery
import Synchronization

/// Carries datagrams by other means than the node's UDP port: over TCP and TLS, and from other UDP
/// ports. Every such way is a loopback socket to the packet threads, which need not know of it:
///
///     packet threads --- 127.86.80.1:n --- carrier --- stream --- another node's carrier
///     packet threads --- 127.86.80.2:n --- carrier --- another UDP port --- member
///
/// Orders and reports pass through two mailboxes; the thread in between is the only one that
/// touches a socket.
final class SideCarrier: Sendable {
    private let orders = Mutex<[CarrierOrder]>([])
    private let reports = Mutex<[CarrierReport]>([])
    private let isStopping = Mutex(false)
    let orderBell: Doorbell
    /// Readable when there are reports.
    let reportBell: Doorbell

    /// Orders that the thread has not seen; what comes on top is lost like a datagram.
    private static let orderLimit = 4_096

    init() throws(SystemCallError) {
        orderBell = try Doorbell()
        reportBell = try Doorbell()
    }

    // MARK: - For the node

    func order(_ order: CarrierOrder) {
        orders.withLock { if $0.count < SideCarrier.orderLimit { $0.append(order) } }
        orderBell.ring()
    }

    func takeReports() -> [CarrierReport] {
        reportBell.answer()
        return reports.withLock { reports in
            defer { reports = [] }
            return reports
        }
    }

    func stop() {
        isStopping.withLock { $0 = true }
        orderBell.ring()
    }

    // MARK: - For the thread

    /// `nil` when it shall end.
    func takeOrders() -> [CarrierOrder]? {
        orderBell.answer()
        if isStopping.withLock({ $0 }) { return nil }
        return orders.withLock { orders in
            defer { orders = [] }
            return orders
        }
    }

    func report(_ report: CarrierReport) {
        reports.withLock { $0.append(report) }
        reportBell.ring()
    }
}

/// What a ``SideCarrierLoop`` needs to know.
struct SideCarrierSettings: Sendable {
    /// The UDP port of the packet threads; members are admitted on the TCP port of this number.
    var port: UInt16
    /// Whether members may come by TCP.
    var listens: Bool
    /// Whether also by TLS on port 443.
    var listensTLS: Bool
}
