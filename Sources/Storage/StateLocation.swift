/// Where the state directory is, and whether it may be made there.
package struct StateLocation: Hashable, Sendable {
    /// An absolute path without a trailing slash.
    package let path: String
    /// The file that promises this directory. While it exists the directory is never made anew: a
    /// disk that comes late must not cost the machine its identity.
    package let marker: String?

    package init(path: String, marker: String? = nil) {
        self.path = path
        self.marker = marker
    }

    /// Whether something is at the path already.
    package func exists(fileSystem: any FileSystem = LinuxFileSystem()) throws(StorageError)
        -> Bool
    {
        try wrapping { () throws(FileSystemError) in try fileSystem.status(of: path) != nil }
    }

    /// Files whose existence says that this machine has been enrolled. The first line may name
    /// the directory; without one it is ``persistentPath``.
    package static let markers = ["/oem/.edgevpn-enrolled", "/etc/edgevpn/enrolled"]
    /// The directory on systems whose root is read-only and whose /usr/local is a disk.
    package static let persistentPath = "/usr/local/.edgevpn"
    package static let usualPath = "/var/lib/edgevpn"

    /// Finds the directory: the user's choice, else what a marker names, else
    /// ``persistentPath`` when /usr/local is a mount of its own, else ``usualPath``.
    ///
    /// Nothing is made. A marker also guards the user's choice when it names the same directory.
    package static func find(
        chosen: String?, fileSystem: any FileSystem = LinuxFileSystem()
    ) throws(StorageError) -> StateLocation {
        let promised = try promise(fileSystem)
        if let chosen {
            let path = trimmed(chosen)
            return StateLocation(
                path: path, marker: promised?.path == path ? promised?.marker : nil)
        }
        if let promised { return promised }
        let isMount = try wrapping { () throws(FileSystemError) in
            guard let local = try fileSystem.status(of: "/usr/local"), local.kind == .directory,
                let above = try fileSystem.status(of: "/usr")
            else { return false }
            return local.device != above.device
        }
        return StateLocation(path: isMount ? persistentPath : usualPath)
    }

    private static func promise(_ fileSystem: any FileSystem) throws(StorageError)
        -> StateLocation?
    {
        for marker in markers {
            let status = try wrapping { () throws(FileSystemError) in
                try fileSystem.status(of: marker)
            }
            guard let status else { continue }
            // A marker of any kind counts: in doubt nothing is made.
            guard status.kind == .file else {
                return StateLocation(path: persistentPath, marker: marker)
            }
            let text = try wrapping { () throws(FileSystemError) in
                let handle = try fileSystem.open(marker, .read)
                defer { fileSystem.close(handle) }
                return try fileSystem.read(handle, at: 0, count: 4096)
            }
            let line = String(decoding: text.prefix { $0 != 10 && $0 != 13 }, as: UTF8.self)
            let path = line.hasPrefix("/") ? trimmed(line) : persistentPath
            return StateLocation(path: path, marker: marker)
        }
        return nil
    }
}

private func trimmed(_ path: String) -> String {
    var path = path
    while path.count > 1, path.hasSuffix("/") || path.hasSuffix(" ") { path.removeLast() }
    return path
}

/// The directory above; `/` is its own.
func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
    return String(path[..<slash])
}
