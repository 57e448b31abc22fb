import Cryptography
import MeshBase
import Synchronization

/// The part of a session that packets touch, at a fixed address.
@usableFromInline
struct SessionState: ~Copyable {
    @usableFromInline let localIndex: UInt32
    @usableFromInline let remoteIndex: UInt32
    @usableFromInline let isAES: Bool
    @usableFromInline let messageLimit: UInt64
    @usableFromInline let expiresAt: UInt64
    @usableFromInline let sendKey: UnsafeMutableRawPointer
    @usableFromInline let receiveKey: UnsafeMutableRawPointer

    @usableFromInline let nextCounter = Atomic<UInt64>(0)
    @usableFromInline let lastDataSent = Atomic<UInt64>(.max)
    @usableFromInline let lastSent = Atomic<UInt64>(.max)
    @usableFromInline let bytesSent = Atomic<UInt64>(0)

    @usableFromInline let lastDataReceived = Atomic<UInt64>(.max)
    @usableFromInline let lastReceived = Atomic<UInt64>(.max)
    @usableFromInline let bytesReceived = Atomic<UInt64>(0)
    @usableFromInline let messagesReceived = Atomic<UInt64>(0)

    /// Guards `window`. A spinning lock: it is held for one bitmap access.
    @usableFromInline let windowIsBusy = Atomic<Bool>(false)
    @usableFromInline var window = ReplayWindow()

    init(
        localIndex: UInt32, remoteIndex: UInt32, isAES: Bool, messageLimit: UInt64,
        expiresAt: UInt64, sendKey: UnsafeMutableRawPointer, receiveKey: UnsafeMutableRawPointer
    ) {
        self.localIndex = localIndex
        self.remoteIndex = remoteIndex
        self.isAES = isAES
        self.messageLimit = messageLimit
        self.expiresAt = expiresAt
        self.sendKey = sendKey
        self.receiveKey = receiveKey
    }

    var activity: SessionActivity {
        SessionActivity(
            lastDataSent: instant(lastDataSent), lastSent: instant(lastSent),
            lastDataReceived: instant(lastDataReceived), lastReceived: instant(lastReceived),
            messagesSent: nextCounter.load(ordering: .relaxed),
            messagesReceived: messagesReceived.load(ordering: .relaxed),
            bytesSent: bytesSent.load(ordering: .relaxed),
            bytesReceived: bytesReceived.load(ordering: .relaxed))
    }

    private func instant(_ stored: borrowing Atomic<UInt64>) -> BootInstant? {
        let nanoseconds = stored.load(ordering: .relaxed)
        return nanoseconds == .max ? nil : BootInstant(nanoseconds: nanoseconds)
    }
}

/// A session as the packet loops see it: a pointer without a reference count.
///
/// Valid while somebody keeps the ``TransportSession`` alive. Any thread may call anything here.
@frozen public struct SessionHandle: @unchecked Sendable {
    @usableFromInline let state: UnsafeMutablePointer<SessionState>

    @usableFromInline
    init(state: UnsafeMutablePointer<SessionState>) {
        self.state = state
    }

    /// Header (16 bytes) and tag (16 bytes) of a transport datagram.
    @inlinable public static var overhead: Int { 32 }

    /// What is in front of the encrypted packet.
    @inlinable public static var headerCount: Int { 16 }

    @inlinable public var localIndex: UInt32 { state.pointee.localIndex }

    /// Whether the session is younger than REJECT_AFTER_TIME at `now` (boot clock, nanoseconds).
    @inlinable @inline(__always)
    public func isUsable(at now: UInt64) -> Bool { now < state.pointee.expiresAt }

    /// Takes `count` consecutive counters for this thread; `nil` when the session has run out.
    @inlinable @inline(__always)
    public func reserve(_ count: UInt64) -> UInt64? {
        let first = state.pointee.nextCounter.wrappingAdd(count, ordering: .relaxed).oldValue
        if first < state.pointee.messageLimit &- count { return first }
        state.pointee.nextCounter.wrappingSubtract(count, ordering: .relaxed)
        return nil
    }

    /// Writes a whole transport datagram of `count + 32` bytes to `output`.
    ///
    /// - Parameters:
    ///   - counter: One from ``reserve(_:)``, used once.
    ///   - input: Plaintext that is already padded and does not overlap `output`.
    @inlinable @inline(__always)
    public func seal(
        _ cipher: PacketCipher, counter: UInt64, _ input: UnsafePointer<UInt8>, count: Int,
        to output: UnsafeMutablePointer<UInt8>
    ) {
        let header = UnsafeMutableRawPointer(output)
        header.storeBytes(of: UInt32(4).littleEndian, as: UInt32.self)
        header.storeBytes(
            of: state.pointee.remoteIndex.littleEndian, toByteOffset: 4, as: UInt32.self)
        header.storeBytes(of: counter.littleEndian, toByteOffset: 8, as: UInt64.self)
        cipher.seal(
            isAES: state.pointee.isAES, key: state.pointee.sendKey, counter: counter, input,
            count: count, to: output + 16)
    }

    /// Decrypts a datagram that ``isTransport(_:count:)`` accepted into `count - 32` bytes,
    /// which may be where the ciphertext lies.
    ///
    /// Says nothing about repetition: ``accept(_:)`` does, and only then may the plaintext be used.
    @inlinable @inline(__always)
    public func open(
        _ cipher: PacketCipher, _ datagram: UnsafePointer<UInt8>, count: Int,
        to output: UnsafeMutablePointer<UInt8>
    ) -> Bool {
        let counter = SessionHandle.counter(datagram)
        guard counter < state.pointee.messageLimit else { return false }
        return cipher.open(
            isAES: state.pointee.isAES, key: state.pointee.receiveKey, counter: counter,
            datagram + 16, count: count &- 16, to: output)
    }

    /// Marks the counter of an authentic packet as seen; `false` if it was, or is too old.
    @inlinable @inline(__always)
    public func accept(_ counter: UInt64) -> Bool {
        while state.pointee.windowIsBusy.exchange(true, ordering: .acquiring) {}
        let isNew = state.pointee.window.accept(counter)
        state.pointee.windowIsBusy.store(false, ordering: .releasing)
        return isNew
    }

    /// Records packets that were sealed; `bytes` counts whole datagrams.
    @inlinable @inline(__always)
    public func noteSent(packets: UInt64, bytes: UInt64, hasData: Bool, at now: UInt64) {
        state.pointee.lastSent.store(now, ordering: .relaxed)
        if hasData { state.pointee.lastDataSent.store(now, ordering: .relaxed) }
        state.pointee.bytesSent.wrappingAdd(bytes, ordering: .relaxed)
    }

    /// Records packets that were accepted.
    @inlinable @inline(__always)
    public func noteReceived(packets: UInt64, bytes: UInt64, hasData: Bool, at now: UInt64) {
        state.pointee.lastReceived.store(now, ordering: .relaxed)
        if hasData { state.pointee.lastDataReceived.store(now, ordering: .relaxed) }
        state.pointee.bytesReceived.wrappingAdd(bytes, ordering: .relaxed)
        state.pointee.messagesReceived.wrappingAdd(packets, ordering: .relaxed)
    }

    /// The first four bytes of a packet, as a number in network order.
    public static let typeWord: UInt32 = 0x0400_0000

    /// Type 4, zero reserved bytes, and room for header and tag.
    @inlinable @inline(__always)
    public static func isTransport(_ datagram: UnsafePointer<UInt8>, count: Int) -> Bool {
        count >= overhead
            && UnsafeRawPointer(datagram).loadUnaligned(as: UInt32.self).littleEndian == 4
    }

    @inlinable @inline(__always)
    public static func receiverIndex(_ datagram: UnsafePointer<UInt8>) -> UInt32 {
        UnsafeRawPointer(datagram + 4).loadUnaligned(as: UInt32.self).littleEndian
    }

    @inlinable @inline(__always)
    public static func counter(_ datagram: UnsafePointer<UInt8>) -> UInt64 {
        UnsafeRawPointer(datagram + 8).loadUnaligned(as: UInt64.self).littleEndian
    }
}
