import Glibc

/// Memory for packet loops. It is taken at start and never during traffic.
enum PacketMemory {
    /// Zeroed and already present: the first touch of a page costs microseconds.
    static func touched(_ count: Int) -> UnsafeMutableRawPointer {
        let huge = 2 << 20
        let size = count >= 60_000 ? (count + huge - 1) / huge * huge : count
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: size, alignment: count >= 60_000 ? huge : 64)
        if count >= 60_000 { madvise(memory, size, 14) }
        memset(memory, 0, count)
        return memory
    }

    static func touched<Element: BitwiseCopyable>(
        _ count: Int, of element: Element
    ) -> UnsafeMutablePointer<Element> {
        let memory = UnsafeMutablePointer<Element>.allocate(capacity: count)
        memory.initialize(repeating: element, count: count)
        return memory
    }
}
