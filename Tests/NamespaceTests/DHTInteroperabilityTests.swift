// Other people's DHT nodes and ours on one small Internet: see DHTInternet.swift.

import Cryptography
import Foundation
import Kademlia
import MeshBase
import NetAddress
import Testing

extension MeshTests {
    @Suite struct DHTInteroperabilityTests {
        private let seed = [UInt8](repeating: 5, count: 32)
        private var signer: SigningKey { SigningKey(seed: SecretBytes(copying: seed)) }
        private let infoHash = "aabbccddeeff00112233445566778899aabbccdd"

        /// The same questions to libtorrent and to us get answers of the same kind.
        @Test func theyAnswerAsLibtorrentDoes() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let crowd = try await LibtorrentCrowd(nat, count: 1)
                let other = try crowd.start(1...1, ["hold"])
                try await other.prints("holding")
                _ = try await nat.strangers(1...1, ["--dht-bootstrap", LibtorrentCrowd.address(1)])
                let asker = try await nat.site(2, .open, name: "asker").machine.host
                var theirs = try KRPCProbe(asker, LibtorrentCrowd.address(1))
                var ours = try KRPCProbe(asker, "45.18.1.2:6881")
                for question in KRPCQuestions.all(signer: signer) {
                    let expected = try await question.outcome(&theirs)
                    let outcome = try await question.outcome(&ours)
                    #expect(outcome == question.expected ?? expected, "\(question.name)")
                    #expect(expected == question.expectedOfOthers, "\(question.name)")
                }
            }
        }

        /// Members behind routers ask and write, and serve nobody: all that helps them is
        /// libtorrent, with the settings that it has in the world.
        @Test(arguments: [0, 20]) func membersMeetThroughLibtorrent(_ lossPercent: Int) async throws
        {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let crowd = try await LibtorrentCrowd(nat, count: 10)
                let nodes = try crowd.start(1...10, isStrict: true, ["size=6", "hold"])
                try await nodes.prints("holding", within: .seconds(60))
                try await nat.lose(percent: lossPercent)
                let anna = try await nat.site(2, .portRestricted, name: "anna", refusesInput: true)
                let bert = try await nat.site(3, .portRestricted, name: "bert", refusesInput: true)
                let options = [
                    "--no-mdns", "--dht", "public", "--dht-bootstrap", LibtorrentCrowd.address(1),
                ]
                let begin = ContinuousClock.now
                _ = try await anna.machine.up(options)
                _ = try await bert.machine.up(options)
                try await anna.machine.reaches(bert.machine, within: .seconds(90))
                report(
                    "two behind routers meet through libtorrent, \(lossPercent) % loss",
                    [ContinuousClock.now - begin])
                let dht = try #require(try await anna.machine.status().dht)
                #expect(dht.mode == "public" && !dht.reachable && dht.storedItems == 0)
                // libtorrent tells what it sees (BEP 42): the router's address.
                #expect(dht.observedIPv4?.hasPrefix("45.18.2.2:") == true)
            }
        }

        /// One libtorrent writes and goes; another one reads what only our nodes can have kept.
        @Test(arguments: [0, 20]) func weKeepWhatLibtorrentWrites(_ lossPercent: Int) async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let machines = try await nat.strangers(1...4)
                try await eventually("the machines know each other") {
                    try await machines[3].status().dht?.nodesIPv4 == 3
                }
                let crowd = try await LibtorrentCrowd(nat, count: 2)
                try await nat.lose(percent: lossPercent)
                // It looks around once, at its start: where packets are lost it may miss some for good.
                let ours = (1...4).map { "45.18.\($0).2:6881" }
                let first = try crowd.start(
                    1...1, knowing: ours,
                    [
                        "size=3", "put=\(seed.hex),\(signer.publicKey.bytes.bytes.hex),spice,one",
                        "put=\(seed.hex),\(signer.publicKey.bytes.bytes.hex),spice,two",
                        "iput=stays", "announce=\(infoHash)", "hold",
                    ])
                // A put takes it 15 to 30 s, and it repeats nothing that was lost: the program puts
                // anew until three keep it.
                try await first.prints("announced", within: .seconds(600))
                try await eventually("somebody has the peer", within: .seconds(60)) {
                    for machine in machines where try await machine.status().dht?.storedPeers == 1 {
                        return true
                    }
                    return false
                }
                first.send(SIGKILL)
                try await first.end(within: .seconds(10))
                let target = KademliaID(hashing: Bencode.text("stays").encoded)
                let second = try crowd.start(
                    2...2, knowing: ours,
                    [
                        "size=3", "get=\(signer.publicKey.bytes.bytes.hex),spice,2",
                        "iget=\(target)", "peers=\(infoHash)",
                    ])
                do {
                    #expect(try await second.end(within: .seconds(120)) == 0, "\(second.output)")
                } catch {
                    var story = "the first said\n\(first.output)"
                    for machine in machines {
                        let dht = try await machine.status().dht
                        story += "\(machine.name) keeps \(dht?.storedItems ?? -1) items\n"
                    }
                    throw LabFailure("\(error)\n\(story)")
                }
                #expect(second.output.contains("two"), "\(second.output)")
                #expect(second.output.contains("stays"), "\(second.output)")
                #expect(second.output.contains("peers 45.19.1.2:6881"), "\(second.output)")
            }
        }

        /// Programs that know BEP 5 only: they keep what we announce, we keep what they do, and
        /// through all of them each finds each.
        @Test(arguments: [0, 20]) func transmissionAndAria2TakePart(_ lossPercent: Int) async throws
        {
            try Lab.requireTool("aria2c", package: "aria2")
            try Lab.requireTool("transmission-daemon", package: "transmission-daemon")
            try Lab.requireTool("curl", package: "curl")
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let hidden = ["--no-mdns", "--dht", "private", "--dht-plain", "--dht-announce"]
                let anna = try await nat.site(1, .open, name: "anna").machine
                try await nat.lose(percent: lossPercent)
                // Their own first words may get lost, and they say them once.
                let contacts = ["45.18.2.2:6881", "45.18.3.2:6881"]
                _ = try await anna.up(
                    hidden + ["--listen", "6881"] + contacts.flatMap { ["--dht-bootstrap", $0] })
                let aria = try await nat.site(2, .open, name: "aria").machine.host
                let ariaProcess = try aria.startAria(
                    entry: "45.18.1.2:6881", infoHash: infoHash)
                let transmission = try await nat.site(3, .open, name: "transmission").machine.host
                let daemon = try transmission.startTransmission(contacts: ["45.18.1.2 6881"])
                defer {
                    for process in [ariaProcess, daemon] { process.send(SIGTERM) }
                }
                let asker = try await nat.site(4, .open, name: "asker").machine.host
                for address in contacts {
                    var probe = try KRPCProbe(asker, address)
                    try await eventually("\(address) has anna as a peer", within: .seconds(120)) {
                        try await probe.peers(of: mesh.announcedName()) == ["45.18.1.2:6881"]
                    }
                }
                // Enough nodes for transmission to think that the DHT works.
                let crowd = try await LibtorrentCrowd(nat, count: 9)
                let nodes = try crowd.start(
                    1...8, knowing: ["45.18.1.2:6881", "45.18.2.2:6881", "45.18.3.2:6881"],
                    ["size=6", "hold"])
                try await nodes.prints("holding", within: .seconds(60))
                try await transmission.addMagnet(infoHash)
                try await eventually("transmission finds aria2", within: .seconds(180)) {
                    try await transmission.transmissionSays().contains("45.18.2.2")
                }
                // A lookup gives some of the peers; another one gives others.
                try await eventually("libtorrent finds aria2", within: .seconds(180)) {
                    let reader = try crowd.start(
                        9...9, knowing: ["45.18.1.2:6881"], ["size=4", "peers=\(infoHash)"])
                    #expect(try await reader.end(within: .seconds(120)) == 0, "\(reader.output)")
                    return reader.output.contains("45.18.2.2:6882")
                }
                let dht = try #require(try await anna.status().dht)
                #expect(dht.storedPeers > 0, "aria2 announced itself to anna")
                #expect(dht.nodesIPv4 >= 6)
            }
        }
    }
}

extension LabHost {
    fileprivate func startAria(entry: String, infoHash: String) throws -> LabProcess {
        let directory = "\(lab.directory)/state-aria"
        return try start([
            "aria2c", "--no-conf", "--enable-dht=true", "--enable-dht6=false",
            "--dht-entry-point=\(entry)", "--dht-listen-port=6881", "--listen-port=6882",
            "--dht-file-path=\(directory)/dht.dat", "--dir=\(directory)", "--bt-enable-lpd=false",
            "--enable-peer-exchange=false", "magnet:?xt=urn:btih:\(infoHash)",
        ])
    }

    fileprivate func startTransmission(contacts: [String]) throws -> LabProcess {
        let directory = "\(lab.directory)/state-transmission"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        try contacts.map { "\($0)\n" }.joined().write(
            toFile: "\(directory)/dht.bootstrap", atomically: true, encoding: .utf8)
        try """
        {"dht-enabled": true, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
        "port-forwarding-enabled": false, "peer-port": 6881, "rpc-enabled": true,
        "rpc-bind-address": "127.0.0.1", "download-dir": "\(directory)"}
        """.write(toFile: "\(directory)/settings.json", atomically: true, encoding: .utf8)
        return try start(["transmission-daemon", "-f", "-g", directory])
    }

    /// One request to transmission's own interface; the first answer names a session.
    private func transmission(_ request: String) async throws -> String {
        try await run([
            "sh", "-ec",
            """
            url=http://127.0.0.1:9091/transmission/rpc
            id="$(curl -sS -D - -o /dev/null "$url" | grep -i '^x-transmission' | tr -d '\\r')"
            curl -sS -H "$id" -d '\(request)' "$url"
            """,
        ])
    }

    fileprivate func addMagnet(_ infoHash: String) async throws {
        let answer = try await transmission(
            #"{"method":"torrent-add","arguments":{"filename":"magnet:?xt=urn:btih:\#(infoHash)"}}"#
        )
        guard answer.contains("success") else { throw LabFailure(answer) }
    }

    fileprivate func transmissionSays() async throws -> String {
        try await transmission(
            #"{"method":"torrent-get","arguments":{"fields":["peers","peersFrom"]}}"#)
    }
}
