import CLinux
import Glibc
import NetAddress

/// A non-blocking TCP listener of one family.
package final class StreamListener: Sendable {
    package let descriptor: Int32
    package let localAddress: SocketAddress

    package init(boundTo address: SocketAddress, backlog: Int32 = 64) throws(SystemCallError) {
        let operation = "listen on TCP \(address)"
        let opened = try openBound(
            SOCK_STREAM, to: address, sharesPort: false, operation: operation)
        guard listen(opened, backlog) == 0 else {
            let failure = SystemCallError(operation)
            close(opened)
            throw failure
        }
        descriptor = opened
        localAddress = boundAddress(opened) ?? address
    }

    deinit {
        close(descriptor)
    }

    /// Takes one waiting connection; `nil` when there is none.
    package func accept() -> (connection: StreamSocket, peer: SocketAddress)? {
        var source = KernelAddress()
        let accepted = source.withPointer { Glibc.accept(descriptor, $0, $1) }
        guard accepted >= 0 else { return nil }
        let connection = StreamSocket(adopting: accepted)
        guard let peer = source.socketAddress else { return nil }
        return (connection, peer)
    }
}

/// A non-blocking TCP connection.
package final class StreamSocket: Sendable {
    package let descriptor: Int32

    /// Starts to connect; the socket becomes writable when that succeeded or failed.
    package init(connectingTo peer: SocketAddress) throws(SystemCallError) {
        let flags = Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let opened = socket(peer.family, Int32(SOCK_STREAM.rawValue) | flags, 0)
        guard opened >= 0 else { throw SystemCallError("open a TCP socket") }
        var target = KernelAddress(peer)
        let status = target.withPointer { connect(opened, $0, $1.pointee) }
        guard status == 0 || errno == EINPROGRESS else {
            let failure = SystemCallError("connect TCP to \(peer)")
            close(opened)
            throw failure
        }
        descriptor = opened
        _ = setOption(opened, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    fileprivate init(adopting descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    deinit {
        close(descriptor)
    }

    package enum Outcome: Hashable, Sendable {
        /// So many bytes went through.
        case moved(Int)
        case wouldBlock
        /// The peer will send no more.
        case ended
        case failed(Int32)
    }

    /// Appends at most `limit` bytes that have arrived to `buffer`.
    package func receive(into buffer: inout [UInt8], limit: Int) -> Outcome {
        var outcome = Outcome.wouldBlock
        let chunk = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
            let got = recv(descriptor, room.baseAddress, limit, Int32(MSG_DONTWAIT))
            count = max(got, 0)
            outcome = StreamSocket.outcome(of: got)
        }
        if case .moved(0) = outcome { return .ended }
        buffer.append(contentsOf: chunk)
        return outcome
    }

    /// Sends as much of `bytes` as the kernel takes now.
    package func send(_ bytes: ArraySlice<UInt8>) -> Outcome {
        bytes.withUnsafeBytes { buffer in
            let flags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)
            let sent = Glibc.send(descriptor, buffer.baseAddress, buffer.count, flags)
            return StreamSocket.outcome(of: sent)
        }
    }

    private static func outcome(of result: Int) -> Outcome {
        if result >= 0 { return .moved(result) }
        let code = errno
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }
}

extension StreamSocket {
    /// Why connecting failed, once; 0 when it did not (SO_ERROR).
    package var pendingError: Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else {
            return errno
        }
        return code
    }
}
