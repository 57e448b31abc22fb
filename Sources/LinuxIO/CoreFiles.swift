import CLinux

/// Memory that holds secrets must not end up in files when a program crashes.
package enum CoreFiles {
    /// For the rest of this process' life; what it starts is not affected.
    package static func forbid() {
        clinux_forbid_core()
    }
}
