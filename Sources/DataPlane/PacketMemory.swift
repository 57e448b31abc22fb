import Glibc

/// Memory for packet loops. It is taken at start and never during traffic.
enum PacketMemory {
    /// Zeroed and already present: the first touch of a page costs microseconds.
    static func touched(_ count: Int) -> UnsafeMutableRawPointer {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
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
