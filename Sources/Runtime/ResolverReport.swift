import LinuxIO

/// How this machine resolves names, for people who wonder why.
package struct ResolverReport: Hashable, Sendable {
    package var owner: ResolvConf.Owner
    /// Behind all symbolic links.
    package var path: String
    package var nameServers: [String]
    package var search: [String]
    package var hasResolvconf: Bool
    /// Whether the bus that systemd-resolved is reached by is there.
    package var hasMessageBus: Bool

    /// `nil` when there is no resolv.conf.
    package init?() {
        guard let real = SystemFile.realPath(ResolvConf.path),
            let text = SystemFile.text(ResolvConf.path)
        else { return nil }
        let file = ResolvConf(text, realPath: real)
        owner = file.owner
        path = real
        nameServers = file.nameServers.map { "\($0)" }
        search = file.search
        hasResolvconf = ResolverIntegration.resolvconfProgram != nil
        hasMessageBus = (try? SystemBus()) != nil
    }
}
