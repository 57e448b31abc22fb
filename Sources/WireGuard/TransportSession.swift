import Cryptography
import MeshBase
import Synchronization

/// The packet keys of one completed handshake, and what has passed under them.
///
/// Control code and packet threads share it: the counter is atomic, and the replay window has a
/// lock that is held for a few nanoseconds. Packet threads work through ``SessionHandle``, which
/// touches no reference count.
public final class TransportSession: @unchecked Sendable {
    package let localIndex: UInt32
    package let remoteIndex: UInt32
    package let suite: PacketSuite
    package let isInitiator: Bool
    package let createdAt: BootInstant
    private let sendKey: PacketKey
    private let receiveKey: PacketKey
    private let state: UnsafeMutablePointer<SessionState>

    /// - Parameters:
    ///   - localIndex: What the peer writes into its packets, to name this session here.
    ///   - remoteIndex: What this side writes.
    package init(
        localIndex: UInt32, remoteIndex: UInt32, suite: PacketSuite, sendKey: SecretBytes,
        receiveKey: SecretBytes, isInitiator: Bool, createdAt: BootInstant
    ) {
        self.localIndex = localIndex
        self.remoteIndex = remoteIndex
        self.suite = suite
        self.isInitiator = isInitiator
        self.createdAt = createdAt
        self.sendKey = PacketKey(sendKey, suite: suite)
        self.receiveKey = PacketKey(receiveKey, suite: suite)
        state = .allocate(capacity: 1)
        state.initialize(
            to: SessionState(
                localIndex: localIndex, remoteIndex: remoteIndex, isAES: suite == .aes256GCM,
                messageLimit: suite.messageLimit,
                expiresAt: (createdAt + WireGuardSpecification.rejectAfterTime).nanoseconds,
                sendKey: self.sendKey.storage, receiveKey: self.receiveKey.storage))
    }

    deinit {
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// For a packet loop, whose table keeps this object alive.
    package var handle: SessionHandle { SessionHandle(state: state) }

    /// A whole transport datagram: header, `plaintext` padded to 16 bytes, tag.
    ///
    /// - Parameter limit: Padding does not go beyond it.
    ///
    /// An empty plaintext is a keepalive. `nil` when the counter is exhausted or the session is
    /// older than REJECT_AFTER_TIME ("WireGuard" section 6.2).
    package func seal(
        _ plaintext: [UInt8], paddedTo limit: Int = .max, at now: BootInstant
    ) -> [UInt8]? {
        let handle = self.handle
        guard handle.isUsable(at: now.nanoseconds), let counter = handle.reserve(1) else {
            return nil
        }
        var padded = plaintext
        while padded.count % 16 != 0, padded.count < limit { padded.append(0) }
        let count = SessionHandle.overhead + padded.count
        let datagram = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            guard let output = buffer.baseAddress else { return }
            padded.withUnsafeBufferPointer { input in
                handle.seal(
                    PacketCipher(.shared), counter: counter,
                    input.baseAddress ?? UnsafePointer(output), count: padded.count, to: output)
            }
            filled = count
        }
        handle.noteSent(
            packets: 1, bytes: UInt64(count), hasData: !plaintext.isEmpty, at: now.nanoseconds)
        return datagram
    }

    /// The padded plaintext of a transport datagram for this session, once.
    ///
    /// `nil`, and nothing changed, when it is malformed, forged, repeated or too late.
    package func open(_ datagram: [UInt8], at now: BootInstant) -> [UInt8]? {
        let handle = self.handle
        let count = datagram.count
        guard count >= SessionHandle.overhead, handle.isUsable(at: now.nanoseconds) else {
            return nil
        }
        var isAccepted = false
        let capacity = count - SessionHandle.overhead
        let plaintext = [UInt8](unsafeUninitializedCapacity: max(capacity, 1)) { buffer, filled in
            guard let output = buffer.baseAddress else { return }
            datagram.withUnsafeBufferPointer { input in
                guard let start = input.baseAddress,
                    SessionHandle.isTransport(start, count: count),
                    SessionHandle.receiverIndex(start) == localIndex,
                    handle.open(PacketCipher(.shared), start, count: count, to: output)
                else { return }
                isAccepted = handle.accept(SessionHandle.counter(start))
            }
            filled = isAccepted ? capacity : 0
        }
        guard isAccepted else { return nil }
        handle.noteReceived(
            packets: 1, bytes: UInt64(count), hasData: capacity > 0, at: now.nanoseconds)
        return plaintext
    }

    /// What has passed so far, on whatever thread.
    package var activity: SessionActivity { state.pointee.activity }
}

/// What has passed under one session; the input of the tunnel's timers.
package struct SessionActivity: Hashable, Sendable {
    /// A keepalive counts as sent and received but not as data.
    package var lastDataSent: BootInstant?
    package var lastSent: BootInstant?
    package var lastDataReceived: BootInstant?
    package var lastReceived: BootInstant?
    /// Counters used, so an upper bound of the packets that left.
    package var messagesSent: UInt64 = 0
    package var messagesReceived: UInt64 = 0
    /// Bytes of whole datagrams, without IP and UDP headers.
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
}

extension PacketSuite {
    /// Counters from here on are neither used nor accepted.
    ///
    /// ChaCha20-Poly1305: REJECT_AFTER_MESSAGES ("WireGuard" section 6.1, 2^64 - 2^13 - 1).
    /// AES-256-GCM: 2^32, sixteen times the count that asks for new keys; with 96 blocks a packet
    /// a distinguisher's advantage stays below 2^-50.
    var messageLimit: UInt64 {
        switch self {
        case .chaCha20Poly1305: UInt64.max - (1 << 13)
        case .aes256GCM: 1 << 32
        }
    }
}
