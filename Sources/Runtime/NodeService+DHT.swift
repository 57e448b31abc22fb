import LinuxIO
import MeshNode
import NetAddress

extension NodeService {
    /// Nodes of the world's DHT that answer newcomers, as the programs that run them name them.
    private static let routers: [(host: String, port: UInt16)] = [
        ("router.bittorrent.com", 6_881), ("dht.transmissionbt.com", 6_881),
        ("dht.libtorrent.org", 25_401), ("relay.pkarr.org", 6_881),
    ]

    /// Resolves where to begin with the DHT, again and again: addresses behind names move. The
    /// well-known routers are asked for in public mode only, and only when nothing else is given.
    func resolveDHTBootstrap() async throws {
        guard settings.dht.mode != .off else { return }
        var places = settings.dhtBootstrap
        if places.isEmpty, settings.dht.mode == .public { places = NodeService.routers }
        guard !places.isEmpty else { return }
        while true {
            let targets = places
            let runtime = runtime
            // A resolver may take its time; nobody waits for it, least of all the end.
            try? WorkerThread(name: "evpn-bootstrap") {
                let addresses = targets.flatMap {
                    HostResolver.addresses(of: $0.host, port: $0.port)
                }
                Task { await runtime.addDHTBootstrap(addresses) }
            }.detach()
            try await Task.sleep(for: .seconds(300))
        }
    }
}
