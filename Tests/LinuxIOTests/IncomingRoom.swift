import CLinux

/// Room for eight messages of 64 KiB.
final class IncomingRoom {
    var messages: [clinux_incoming]
    private let memory: UnsafeMutablePointer<UInt8>

    init() {
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: 8 * 65_536)
        self.memory = memory
        messages = (0..<8).map { index in
            var message = clinux_incoming()
            message.bytes = memory + index * 65_536
            message.capacity = 65_536
            return message
        }
    }

    deinit {
        memory.deallocate()
    }
}
