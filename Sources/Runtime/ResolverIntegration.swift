import Configuration
import LinuxIO
import NetAddress
import Synchronization

/// Makes the machine's programs ask this node for names, and takes that back.
///
/// systemd-resolved sends the mesh's names here and all others where they went. With resolvconf and
/// with a bare file the node is the machine's first server and forwards the rest to those that were
/// there; where none were, nothing is changed. Nothing of it outlives the node: the link that
/// resolved knows goes with the device, and a child process undoes the other two when this one is
/// killed.
package final class ResolverIntegration: Sendable {
    private let choice: DNSIntegrationChoice
    private let interface: String
    private let zone: String
    /// Reverse zones of the overlay, without final dots.
    private let reverseZones: [String]
    private let tell: @Sendable (String, _ isProblem: Bool) -> Void
    private let applied = Mutex(Applied())

    private struct Applied {
        var method: DNSIntegrationChoice?
        var servers: [IPAddress] = []
        var end: EndGuard?
        var hasEnded = false
    }

    static let runDirectory = "/run/edgevpn"
    /// The argument of the child that cleans up: followed by the method, the interface, the tag.
    package static let guardArgument = "internal-resolver-guard"

    /// - Parameters:
    ///   - interface: the TUN device's name; empty without one.
    ///   - tell: one sentence for the log.
    package init(
        _ choice: DNSIntegrationChoice, interface: String, zone: String, reverseZones: [String],
        tell: @escaping @Sendable (String, _ isProblem: Bool) -> Void
    ) {
        self.choice = choice
        self.interface = interface
        self.zone = zone
        self.reverseZones = reverseZones
        self.tell = tell
    }

    /// Points the machine at `servers`, the node's overlay addresses. It blocks: not for the control
    /// thread.
    package func apply(_ servers: [IPAddress]) {
        guard choice != .off else { return }
        applied.withLock { applied in
            guard servers != applied.servers, !applied.hasEnded else { return }
            if applied.method == nil { removeLeftover(tell) }
            let method = applied.method ?? choose()
            do throws(IntegrationProblem) {
                switch method {
                case .resolved: try tellResolved(servers)
                case .resolvconf: try tellResolvconf(servers, &applied.end)
                case .file: try coverFile(servers, &applied.end)
                case .auto, .off: return
                }
                if applied.method == nil {
                    tell("the machine's names come through \(method.rawValue)", false)
                }
                applied.method = method
                applied.servers = servers
            } catch {
                tell("the machine's resolver stays as it is: \(error)", true)
            }
        }
    }

    /// Takes everything back; later calls of ``apply(_:)`` do nothing.
    package func undo() {
        applied.withLock { applied in
            applied.hasEnded = true
            switch applied.method {
            case .resolved: revertResolved()
            case .resolvconf, .file:
                if applied.end?.release() != true { removeLeftover(tell) }
                applied.end = nil
            case .auto, .off, nil: break
            }
            applied.method = nil
        }
    }

    /// What the machine uses now.
    private func choose() -> DNSIntegrationChoice {
        guard choice == .auto else { return choice }
        return switch Self.current?.owner {
        case .systemdResolved where !interface.isEmpty: .resolved
        case .resolvconf: .resolvconf
        default: .file
        }
    }

    static var current: ResolvConf? {
        guard let real = SystemFile.realPath(ResolvConf.path),
            let text = SystemFile.text(real)
        else { return nil }
        return ResolvConf(text, realPath: real)
    }

    // MARK: systemd-resolved

    private static let resolved = "org.freedesktop.resolve1"

    private func withManager(
        _ body: (SystemBus, Int32) throws(SystemBus.Failure) -> Void
    ) throws(IntegrationProblem) {
        guard !interface.isEmpty else { throw .needsDevice }
        let index: UInt32?
        do throws(NetlinkError) {
            index = try Netlink().index(of: interface)
        } catch {
            index = nil
        }
        guard let index else { throw .needsDevice }
        do throws(SystemBus.Failure) {
            let bus = try SystemBus()
            var name = BusBody()
            name.append(Self.resolved)
            let answer = try bus.call(
                "org.freedesktop.DBus", "/org/freedesktop/DBus",
                member: "GetConnectionUnixProcessID", signature: "s", body: name)
            let process = answer.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
            // A link's number means nothing to a resolver of another network namespace.
            let own = SystemFile.linkTarget("/proc/self/ns/net")
            guard own == SystemFile.linkTarget("/proc/\(process)/ns/net") else {
                throw .refused("resolved", "it runs in another network namespace")
            }
            try body(bus, Int32(bitPattern: index))
        } catch {
            throw .bus(error)
        }
    }

    private func tellResolved(_ servers: [IPAddress]) throws(IntegrationProblem) {
        try withManager { bus, link throws(SystemBus.Failure) in
            func call(_ member: String, _ signature: String, _ body: BusBody)
                throws(SystemBus.Failure)
            {
                _ = try bus.call(
                    Self.resolved, "/org/freedesktop/resolve1",
                    interface: "\(Self.resolved).Manager", member: member, signature: signature,
                    body: body)
            }
            var addresses = BusBody()
            addresses.append(link)
            addresses.appendArray(alignment: 8) { body in
                for server in servers {
                    body.align(8)
                    body.append(Int32(server.isIPv4 ? 2 : 10))
                    body.append(bytes: server.bytes)
                }
            }
            try call("SetLinkDNS", "ia(iay)", addresses)
            var domains = BusBody()
            domains.append(link)
            domains.appendArray(alignment: 8) { body in
                // The zone is searched for bare names, too; the others only lead here.
                for (domain, isRouteOnly) in [(zone, false)] + reverseZones.map({ ($0, true) }) {
                    body.align(8)
                    body.append(domain)
                    body.append(isRouteOnly)
                }
            }
            try call("SetLinkDomains", "ia(sb)", domains)
            var route = BusBody()
            route.append(link)
            route.append(false)
            try call("SetLinkDefaultRoute", "ib", route)
        }
    }

    private func revertResolved() {
        // The device goes with the node, and resolved forgets its link: this is for the moment
        // until then.
        try? withManager { bus, link throws(SystemBus.Failure) in
            var body = BusBody()
            body.append(link)
            _ = try bus.call(
                Self.resolved, "/org/freedesktop/resolve1",
                interface: "\(Self.resolved).Manager", member: "RevertLink", signature: "i",
                body: body)
        }
    }

    // MARK: resolvconf

    /// As of a first TUN device: both programs put such records in front of other interfaces'.
    private var recordName: String { "tun0.\(interface.isEmpty ? "edgevpn" : interface)" }

    private func tellResolvconf(
        _ servers: [IPAddress], _ end: inout EndGuard?
    ) throws(IntegrationProblem) {
        guard let program = Self.resolvconfProgram else { throw .missing("resolvconf") }
        guard let current = Self.current,
            current.nameServers.contains(where: { !servers.contains($0) })
        else { throw .noUpstreams }
        if end == nil { end = try makeGuard(.resolvconf) }
        // One is enough: glibc and Debian's resolvconf know three servers at most, and the node
        // finds its upstreams among the others.
        let lines = ["search \(zone)"] + servers.prefix(1).map { "nameserver \($0)" }
        try run(
            [program, "-a", recordName], input: lines.joined(separator: "\n") + "\n")
    }

    /// `nil` also when it is systemd-resolved's, which takes links only.
    static var resolvconfProgram: String? {
        ChildProgram.find("resolvconf").flatMap { program in
            SystemFile.realPath(program)?.hasSuffix("resolvectl") == true ? nil : program
        }
    }

    private func run(_ arguments: [String], input: String = "") throws(IntegrationProblem) {
        let code: Int32
        do throws(SystemCallError) {
            code = try ChildProgram.run(arguments, input: input)
        } catch {
            throw .system(error)
        }
        guard code == 0 else { throw .refused(arguments[0], "exit code \(code)") }
    }

    // MARK: The file

    private var tag: String { "\(interface.isEmpty ? "-" : interface)" }
    private var ownFile: String { "\(Self.runDirectory)/resolv.conf.\(tag)" }
    /// What the covered file says, for whoever looks for upstreams.
    static let originalFile = "\(runDirectory)/resolv.conf.original"

    private func coverFile(
        _ servers: [IPAddress], _ end: inout EndGuard?
    ) throws(IntegrationProblem) {
        let isCovered = end != nil
        let source = isCovered ? Self.originalFile : ResolvConf.path
        guard let real = SystemFile.realPath(source), let text = SystemFile.text(real) else {
            throw .missing(source)
        }
        let original = ResolvConf(text, realPath: real)
        guard original.owner != .edgevpn else { throw .refused(source, "another node has it") }
        guard original.nameServers.contains(where: { !servers.contains($0) }) else {
            throw .noUpstreams
        }
        do throws(SystemCallError) {
            try SystemFile.makeDirectory(Self.runDirectory)
            if !isCovered { try SystemFile.write(text, to: Self.originalFile) }
            try SystemFile.write(
                original.asking(servers, zone: zone, tag: tag), to: ownFile)
        } catch {
            throw .system(error)
        }
        guard !isCovered else { return }
        let guardian = try makeGuard(.file)
        do throws(SystemCallError) {
            try SystemFile.cover(ResolvConf.path, with: ownFile)
        } catch {
            _ = guardian.release()
            throw .system(error)
        }
        end = guardian
    }

    // MARK: Taking back

    private func makeGuard(_ method: DNSIntegrationChoice) throws(IntegrationProblem) -> EndGuard {
        do throws(SystemCallError) {
            try SystemFile.makeDirectory(Self.runDirectory)
            return try EndGuard(
                ["/proc/self/exe", Self.guardArgument, method.rawValue, tag, recordName],
                lockPath: "\(Self.runDirectory)/resolver.\(tag).lock")
        } catch {
            throw .system(error)
        }
    }

    /// What an earlier life of this node left behind, when its guard was killed too.
    private func removeLeftover(_ tell: (String, Bool) -> Void) {
        if Self.uncover(tag: tag) { tell("uncovered the machine's own resolv.conf", false) }
        if Self.resolvconfProgram != nil, choice == .resolvconf || choice == .auto {
            _ = Self.withdrawRecord(recordName)
        }
    }

    /// Takes our file off resolv.conf; false when there was none of this tag.
    private static func uncover(tag: String) -> Bool {
        guard let text = SystemFile.text(ResolvConf.path),
            text.hasPrefix("\(ResolvConf.marker) \(tag)\n")
        else { return false }
        guard (try? SystemFile.uncover(ResolvConf.path)) != nil else { return false }
        // It could not write what it learned while ours lay over its file.
        if current?.owner == .networkManager, let program = ChildProgram.find("nmcli") {
            _ = try? ChildProgram.run([program, "general", "reload", "dns-rc"])
        }
        return true
    }

    private static func withdrawRecord(_ name: String) -> Bool {
        guard let program = resolvconfProgram else { return true }
        return (try? ChildProgram.run([program, "-d", name])) == 0
    }

    /// The life of the guard: waits for the node's end, cleans up, and gives an exit code.
    package static func runGuard(_ words: [String]) -> Int32 {
        guard words.count == 3, let method = DNSIntegrationChoice(rawValue: words[0]) else {
            return 2
        }
        EndGuard.awaitEnd()
        switch method {
        case .file:
            _ = uncover(tag: words[1])
            return 0
        case .resolvconf: return withdrawRecord(words[2]) ? 0 : 1
        case .auto, .off, .resolved: return 2
        }
    }
}

/// Why the machine's resolver stays as it is.
package enum IntegrationProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// Programs would have nobody for other names.
    case noUpstreams
    case needsDevice
    case missing(String)
    case refused(String, String)
    case system(SystemCallError)
    case bus(SystemBus.Failure)

    package var description: String {
        switch self {
        case .noUpstreams: "nobody is known whom other names could be asked"
        case .needsDevice: "systemd-resolved needs the node's TUN device"
        case .missing(let what): "\(what) is missing"
        case .refused(let who, let text): "\(who): \(text)"
        case .system(let error): "\(error)"
        case .bus(.system(let error)): "\(error)"
        case .bus(.protocolViolation): "the message bus answers otherwise than it should"
        case .bus(.refused(let name, let text)): text.isEmpty ? name : text
        }
    }
}
