import CLinux

/// How many packet threads a node has, each with its own queue of the device and its own socket.
package enum ShardCount {
    /// The number for what the user said; 0 leaves it to the machine.
    package static func resolve(_ wanted: Int) -> Int {
        wanted > 0 ? wanted : automatic(processors: Int(clinux_processor_count()))
    }

    /// One thread moves several gigabits a second, and on two cores a second thread gained nothing
    /// in any measurement: applications and the kernel need the other core. So half of the cores
    /// from four on, and at most four: the packets of one peer arrive on one socket, so more
    /// threads serve only nodes with many busy peers, whose owners can say so.
    package static func automatic(processors: Int) -> Int {
        max(1, min(processors / 2, 4))
    }
}
