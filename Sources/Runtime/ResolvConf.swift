import NetAddress

/// A resolv.conf (resolv.conf(5)), and who looks after it.
package struct ResolvConf: Hashable, Sendable {
    /// The addresses of the `nameserver` lines, in their order.
    package var nameServers: [IPAddress] = []
    /// The last `search` or `domain` line.
    package var search: [String] = []
    /// All words of the `options` lines.
    package var options: [String] = []
    package var owner: Owner

    package enum Owner: String, Hashable, Sendable {
        case systemdResolved = "systemd-resolved"
        case resolvconf
        case networkManager = "NetworkManager"
        case edgevpn
        /// An ordinary file, which an administrator or a DHCP client writes.
        case nobody
    }

    package static let path = "/etc/resolv.conf"
    /// The first words of the first line of files that this program writes.
    static let marker = "# edgevpn-swift"

    /// - Parameter realPath: the path behind all symbolic links.
    package init(_ text: String, realPath: String) {
        owner = ResolvConf.owner(text, realPath)
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard words.count >= 2 else { continue }
            switch words[0] {
            case "nameserver":
                let address = words[1].split(separator: "%").first.map(String.init) ?? ""
                if let ip = IPAddress(address) { nameServers.append(ip) }
            case "search": search = Array(words.dropFirst())
            case "domain": search = [words[1]]
            case "options": options += words.dropFirst()
            default: break
            }
        }
    }

    private static func owner(_ text: String, _ realPath: String) -> Owner {
        if text.hasPrefix(marker) { return .edgevpn }
        if realPath.hasPrefix("/run/systemd/resolve/") { return .systemdResolved }
        if realPath.hasPrefix("/run/resolvconf/") { return .resolvconf }
        if realPath.hasPrefix("/run/NetworkManager/") { return .networkManager }
        let comments = text.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("#") }
            .joined(separator: "\n")
        if comments.contains("NetworkManager") { return .networkManager }
        if comments.contains("systemd-resolved") { return .systemdResolved }
        if comments.contains("resolvconf") { return .resolvconf }
        // Its stub, in a file that somebody wrote.
        return text.contains("nameserver 127.0.0.53") ? .systemdResolved : .nobody
    }

    /// The file that asks `servers` first and keeps what the machine's own one says otherwise.
    func asking(_ servers: [IPAddress], zone: String, tag: String) -> String {
        var lines = [
            "\(ResolvConf.marker) \(tag)",
            "# It lies over the machine's own file while the node runs.",
        ]
        // glibc reads at most six domains and three servers.
        lines.append("search \(([zone] + search.filter { $0 != zone }).joined(separator: " "))")
        lines += servers.prefix(3).map { "nameserver \($0)" }
        if !options.isEmpty { lines.append("options \(options.joined(separator: " "))") }
        return lines.joined(separator: "\n") + "\n"
    }
}
