// A DHT on a small Internet: public machines, each in a /24 of its own, see NATLab.swift.
//
//     core --- 45.18.201.2 crowd, with 45.19.1.2, 45.19.2.2 ...: libtorrent, a node per address
//      |------ 45.18.N.2   machines of ours, and other programs
//      |------ 45.18.N.2   sites behind routers

import Cryptography
import Foundation
import Kademlia
import MeshBase
import MeshNode
import NetAddress
import Testing

/// libtorrent's DHT in a machine of its own, driven by words on its command line.
struct LibtorrentCrowd: Sendable {
    let host: LabHost

    /// Makes the machine `crowd` with `count` addresses, 45.19.1.2 and so on.
    init(_ nat: NATLab, count: Int) async throws {
        try Lab.requireTool("python3", package: "python3")
        host = try await nat.site(201, .open, name: "crowd").machine.host
        try await nat.core.ip("route add 45.19.0.0/16 via 45.18.201.2")
        for index in 1...count {
            try await host.ip("addr add 45.19.\(index).2/32 dev wan201")
        }
        let check = try await host.attempt(["/usr/bin/python3", "-c", "import libtorrent"])
        guard check.status == 0 else {
            throw LabFailure("libtorrent is missing: apt-get install python3-libtorrent")
        }
        _ = try nat.mesh.lab.file("libtorrent-node.py", LibtorrentCrowd.program)
    }

    static func address(_ index: Int) -> String { "45.19.\(index).2:6881" }

    /// Starts nodes at the addresses with these numbers. They begin with `contacts`, in addition to
    /// each other, and do what `words` say, one after the other.
    ///
    /// - Parameter isStrict: libtorrent's own settings, which ask for names that addresses earned
    ///   and for one node per network.
    func start(
        _ indices: ClosedRange<Int>, knowing contacts: [String] = [], isStrict: Bool = false,
        _ words: [String]
    ) throws -> LabProcess {
        let own = indices.map(LibtorrentCrowd.address)
        return try host.start(
            [
                "/usr/bin/python3", "\(host.lab.directory)/libtorrent-node.py",
                isStrict ? "strict" : "lenient", own.joined(separator: ","),
                (own + contacts).joined(separator: ","),
            ] + words)
    }

    /// Words: `size=N` waits for N nodes in the first one's table; `put=SEED,PUBLIC,SALT,TEXT`,
    /// `get=PUBLIC,SALT,NUMBER` (that number or a later one), `iput=TEXT`, `iget=TARGET`, `announce=HASH`, `peers=HASH` do it until it
    /// succeeds; `hold` stays.
    private static let program = """
        import hashlib, sys, time
        import libtorrent as lt

        mode, own, contacts = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
        kinds = lt.alert.category_t
        options = {
            "enable_dht": True, "dht_bootstrap_nodes": "", "enable_lsd": False,
            "enable_upnp": False, "enable_natpmp": False,
            "alert_mask": kinds.dht_notification | kinds.dht_operation_notification
            | kinds.error_notification,
        }
        if mode == "lenient":
            options.update({
                "dht_upload_rate_limit": 1000000, "dht_block_ratelimit": 1000,
                "dht_block_timeout": 1,
            })
            for name in ["dht_restrict_routing_ips", "dht_restrict_search_ips",
                         "dht_enforce_node_id", "dht_prefer_verified_node_ids",
                         "dht_ignore_dark_internet"]:
                options[name] = False
        sessions = [lt.session({**options, "listen_interfaces": address}) for address in own]
        first = sessions[0]

        start = time.time()

        def say(*words):
            print(*words, f"after {time.time() - start:.1f} s", flush=True)

        def expanded(seed):
            half = bytearray(hashlib.sha512(seed).digest())
            half[0] &= 248
            half[31] = half[31] & 63 | 64
            return bytes(half)

        def introduce():
            for session in sessions:
                for contact in contacts:
                    ip, port = contact.rsplit(":", 1)
                    session.add_dht_node((ip, int(port)))

        def await_alert(kind, accept, seconds):
            end = time.time() + seconds
            while time.time() < end:
                first.wait_for_alert(100)
                for alert in first.pop_alerts():
                    if type(alert).__name__ == kind and accept(alert):
                        return alert
            return None

        def until(begin, kind, accept):
            while True:
                begin()
                alert = await_alert(kind, accept, 8)
                if alert:
                    return alert
                say("again")
                # It forgets who does not answer once.
                introduce()

        # Every put ends with one alert. Whoever does not wait for it takes it for the next put's.
        # A node is told of itself by others and keeps what it puts: one success may be its own, and
        # one more is too few where packets are lost. Where the former value was not seen, its number
        # is given once more.
        def put(begin, former=None):
            while True:
                begin()
                alert = await_alert("dht_put_alert", lambda a: True, 60)
                if alert is None:
                    sys.exit("a put did not end")
                if alert.num_success > 2 and (former is None or alert.seq > former):
                    return alert
                say("again")
                introduce()

        for _ in range(2):
            introduce()
            time.sleep(0.5)
        number = 0
        announce = lambda: None
        for word in sys.argv[4:]:
            name, _, rest = word.partition("=")
            args = rest.split(",")
            if name == "size":
                while first.status().dht_nodes < int(args[0]):
                    introduce()
                    time.sleep(0.3)
                say("size", first.status().dht_nodes)
            elif name == "put":
                private = expanded(bytes.fromhex(args[0]))
                public = bytes.fromhex(args[1])
                alert = put(lambda: first.dht_put_mutable_item(
                    private, public, args[3].encode(), args[2].encode()), number)
                number = alert.seq
                say("put", alert.num_success)
            elif name == "get":
                public = bytes.fromhex(args[0])
                alert = until(
                    lambda: first.dht_get_mutable_item(public, args[1].encode()),
                    "dht_mutable_item_alert", lambda a: a.authoritative and a.seq >= int(args[2]))
                value = alert.item["value"] if isinstance(alert.item, dict) else alert.item
                say("got", alert.seq, value)
            elif name == "iput":
                alert = put(lambda: first.dht_put_immutable_item(args[0].encode()))
                say("iput", alert.num_success)
            elif name == "iget":
                target = lt.sha1_hash(bytes.fromhex(args[0]))
                alert = until(
                    lambda: first.dht_get_immutable_item(target),
                    "dht_immutable_item_alert", lambda a: "uninit" not in a.message())
                say("iget", alert.message())
            elif name == "announce":
                torrent = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + args[0])
                torrent.save_path = "."
                handle = first.add_torrent(torrent)
                announce = handle.force_dht_announce
                announce()
                say("announced")
            elif name == "peers":
                target = lt.sha1_hash(bytes.fromhex(args[0]))
                alert = until(
                    lambda: first.dht_get_peers(target),
                    "dht_get_peers_reply_alert", lambda a: len(a.peers()) > 0)
                say("peers", " ".join(f"{ip}:{port}" for ip, port in alert.peers()))
            elif name == "hold":
                say("holding")
                while True:
                    # It says nothing of how an announcement went.
                    await_alert("", lambda a: False, 5)
                    announce()
        """
}

/// Speaks KRPC as it is to one address, from a socket in a machine.
struct KRPCProbe {
    let socket: LabDatagrams
    let target: SocketAddress
    var random = SeededGenerator(seed: 7)
    let id: KademliaID

    init(_ host: LabHost, _ target: String) throws {
        socket = try host.datagrams()
        self.target = try #require(SocketAddress(target))
        id = KademliaID(random: &random)
    }

    /// Sends bytes; the answer as bencode, or `nil` when there is none.
    mutating func exchange(_ bytes: [UInt8]) async throws -> Bencode? {
        socket.send(bytes, to: target)
        // Their own questions to us come in between.
        let end = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < end {
            guard let (bytes, _) = try await socket.next(within: .seconds(2)) else { return nil }
            guard let answer = try? Bencode(decoding: bytes) else { continue }
            if answer["y"]?.bytesValue != Array("q".utf8) { return answer }
        }
        return nil
    }

    mutating func ask(
        _ method: KRPCQuery.Method, want: [AddressFamily] = [], isReadOnly: Bool = true
    ) async throws -> Bencode? {
        let transaction = random.bytes(4)
        let message = KRPCMessage(
            transaction: transaction,
            body: .query(KRPCQuery(sender: id, method: method, want: want)),
            isReadOnly: isReadOnly)
        let answer = try await exchange(message.encoded)
        if let answer { #expect(answer["t"]?.bytesValue == transaction) }
        return answer
    }

    /// Asks until there is an answer: something may be lost.
    mutating func insist(_ method: KRPCQuery.Method) async throws -> Bencode {
        for _ in 0..<10 {
            if let answer = try await ask(method) { return answer }
        }
        throw LabFailure("\(target) does not answer")
    }

    /// The peers of a name that this node alone knows of.
    mutating func peers(of infoHash: KademliaID) async throws -> [String] {
        let answer = try await insist(.getPeers(infoHash: infoHash))
        return (answer["r"]?["values"]?.listValue ?? []).compactMap {
            $0.bytesValue.flatMap { SocketAddress(compact: $0) }?.description
        }
    }
}

extension MeshLab {
    /// The name under which members announce themselves this hour.
    func announcedName() throws -> KademliaID {
        let parsed = try NetworkToken(parsing: token)
        let hour = Int64(Date().timeIntervalSince1970) / 3_600
        return PeerAnnouncer.name(of: hour, secret: parsed.discoverySecret)
    }
}

extension NATLab {
    /// Drops so many of a hundred packets that cross the core.
    func lose(percent: Int) async throws {
        guard percent > 0 else { return }
        let path = try mesh.lab.file(
            "nft-loss",
            """
            table ip loss { chain forward {
                type filter hook forward priority 0
                numgen random mod 100 < \(percent) drop
            }
            }
            """)
        try await core.run(["nft", "-f", path])
    }

    /// Public machines of ours with plain KRPC on port 6881; the first is everybody's first
    /// contact. They are strangers to the mesh under test.
    func strangers(_ indices: ClosedRange<Int>, _ options: [String] = []) async throws
        -> [MeshMachine]
    {
        let foreign = try await MeshLab.newToken(mesh.lab)
        var machines: [MeshMachine] = []
        for index in indices {
            let site = try await site(index, .open, name: "stranger\(index)")
            let machine = MeshMachine(
                host: site.machine.host,
                tokenPath: try mesh.lab.file("token-stranger\(index)", "\(foreign)\n"))
            var words = [
                "--no-mdns", "--dht", "private", "--dht-plain", "--listen", "6881",
                "--interface", "none", "--dns", "off",
            ]
            if index != indices.lowerBound {
                words += ["--dht-bootstrap", "45.18.\(indices.lowerBound).2:6881"]
            }
            _ = try await machine.up(words + options)
            machines.append(machine)
        }
        return machines
    }
}
