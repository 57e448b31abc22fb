import CNetlink
import Glibc

/// A network namespace of the machine (network_namespaces(7)), by an open descriptor.
package struct NetworkNamespace: ~Copyable {
    private let descriptor: Int32

    /// The namespace of the calling thread.
    package static func current() throws(NetlinkError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    /// One that `ip netns add` made.
    package init(named name: String) throws(NetlinkError) {
        try self.init(path: "/run/netns/\(name)")
    }

    private init(path: String) throws(NetlinkError) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw NetworkNamespace.failure("open \(path)") }
    }

    deinit {
        close(descriptor)
    }

    /// Moves the calling thread, and only it, into the namespace. Sockets stay where they were
    /// opened.
    package func enter() throws(NetlinkError) {
        guard setns(descriptor, Int32(CLONE_NEWNET_FLAG)) == 0 else {
            throw NetworkNamespace.failure("enter a network namespace")
        }
    }

    /// Moves the calling thread into a new namespace that nobody else has and that goes with the
    /// last thread or descriptor in it.
    package static func enterNew() throws(NetlinkError) {
        guard unshare(Int32(CLONE_NEWNET_FLAG)) == 0 else {
            throw failure("make a network namespace")
        }
    }

    private static func failure(_ operation: String) -> NetlinkError {
        let code = errno
        return NetlinkError(
            operation: operation, code: code, reason: String(cString: strerror(code)))
    }
}
