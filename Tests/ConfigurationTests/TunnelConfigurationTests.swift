import Configuration
import Cryptography
import MeshBase
import NetAddress
import Testing

// The example keys of wg(8).
private let privateKey = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
private let firstPeer = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
private let secondPeer = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
private let presharedKey = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="

private func parse(_ text: String) throws(ConfigProblems) -> TunnelConfiguration {
    try TunnelConfiguration(parsing: Array(text.utf8), path: "t.conf")
}

/// The problems of a file, as `line: message`.
private func complaints(_ text: String) -> [String] {
    do {
        _ = try parse(text)
        return []
    } catch {
        return error.problems.map { "\($0.line ?? 0): \($0.message)" }
    }
}

@Suite("A WireGuard configuration file")
struct TunnelConfigurationTests {
    private let whole = """
        # A comment, and keys in any case
        [Interface]
        PrivateKey = \(privateKey)
        listenport=51820
        Address = 10.9.0.1/24, fd00:9::1/64
        Address = 10.9.1.1
        MTU = 1380
        FwMark = 0xca6c

        [Peer]   # the first
        PublicKey = \(firstPeer)
        PresharedKey = \(presharedKey)
        AllowedIPs = 10.9.0.2/32,fd00:9::2/128 , 192.168.7.9/24
        Endpoint = vpn.example.org:51820
        PersistentKeepalive = 25
        [Peer]
        PublicKey = \(secondPeer)
        AllowedIPs =
        AllowedIPs = 10.9.0.3
        Endpoint = [fd00:1::7]:4000
        PersistentKeepalive = off
        """

    @Test func everySettingIsRead() throws {
        let parsed = try parse(whole)
        #expect(parsed.listenPort == 51820)
        #expect(parsed.firewallMark == 0xCA6C)
        #expect(parsed.mtu == 1380)
        #expect(
            parsed.addresses.map(\.description) == ["10.9.0.1/24", "fd00:9::1/64", "10.9.1.1/32"])
        #expect(parsed.privateKey.secret.exposedCopy() == [UInt8](base64: privateKey))
        #expect(parsed.peers.count == 2)
        let (first, second) = (parsed.peers[0], parsed.peers[1])
        #expect(first.publicKey.description == firstPeer)
        #expect(first.presharedKey?.exposedCopy() == [UInt8](base64: presharedKey))
        #expect(
            first.allowedIPs.map(\.description) == [
                "10.9.0.2/32", "fd00:9::2/128", "192.168.7.0/24",
            ])
        #expect(first.endpoint == TunnelEndpoint(host: "vpn.example.org", port: 51820))
        #expect(first.persistentKeepalive == .seconds(25))
        #expect(second.presharedKey == nil)
        #expect(second.endpoint?.description == "[fd00:1::7]:4000")
        #expect(second.persistentKeepalive == nil)
        #expect(second.allowedIPs.map(\.description) == ["10.9.0.3/32"])
    }

    @Test func lineEndsOfOtherSystemsAreFine() throws {
        let parsed = try parse(whole.split(separator: "\n").joined(separator: "\r\n"))
        #expect(parsed.peers.count == 2)
        #expect(parsed.mtu == 1380)
    }

    @Test func theRestHasDefaults() throws {
        let parsed = try parse("[Interface]\nPrivateKey = \(privateKey)\n")
        #expect(parsed.listenPort == 0)
        #expect(parsed.firewallMark == 0)
        #expect(parsed.mtu == 1420)
        #expect(parsed.addresses.isEmpty)
        #expect(parsed.peers.isEmpty)
        let zeros = [UInt8](repeating: 0, count: 32).base64
        let peer = "[Peer]\nPublicKey = \(firstPeer)\nPresharedKey = \(zeros)\n"
        let withPeer = try parse("[Interface]\nPrivateKey = \(privateKey)\n\(peer)")
        #expect(withPeer.peers[0].presharedKey == nil)
    }

    @Test func everyProblemIsNamedWithItsLine() {
        let found = complaints(
            """
            MTU = 1400
            [Interface]
            ListenPort = 70000
            Address = 10.9.0.1/33
            MTU = 12
            DNS = 1.1.1.1
            FwMark = -1
            no pair
            [Peers]
            PublicKey = ignored
            [Peer]
            AllowedIPs = 10.0.0.0/8, nonsense
            Endpoint = host
            PersistentKeepalive = 70000
            [Peer]
            PublicKey = \(firstPeer)=
            Endpoint = a:1
            Endpoint = b:2
            [Interface]
            """)
        #expect(
            found == [
                #"1: "MTU" stands before any section"#,
                "2: [Interface] has no PrivateKey",
                #"3: ListenPort: "70000" is not a port"#,
                #"4: Address: "10.9.0.1/33" is not a list of addresses"#,
                #"5: MTU: "12" is not an MTU"#,
                #"6: "DNS" is not a key of this section"#,
                #"7: FwMark: "-1" is not a firewall mark"#,
                "8: the line is not KEY = VALUE",
                #"9: "[Peers]" is not a section"#,
                "11: [Peer] has no PublicKey",
                #"12: AllowedIPs: "10.0.0.0/8, nonsense" is not a list of address blocks"#,
                #"13: Endpoint: "host" is not a host and port"#,
                #"14: PersistentKeepalive: "70000" is not an interval"#,
                "16: PublicKey: \"\(firstPeer)=\" is not a key of 32 bytes in base64",
                "18: Endpoint stands twice; the first is in line 17",
                "19: a second [Interface]; the first is in line 2",
            ])
    }

    @Test func conflictsBetweenSectionsAreFound() {
        let own = StaticPrivateKey(SecretBytes(copying: [UInt8](base64: privateKey) ?? []))
        let found = complaints(
            """
            [Interface]
            PrivateKey = \(privateKey)
            Address = fd00::1/64
            MTU = 1000
            [Peer]
            PublicKey = \(firstPeer)
            AllowedIPs = 10.0.0.0/24
            [Peer]
            PublicKey = \(firstPeer)
            AllowedIPs = 10.0.0.7/24
            [Peer]
            PublicKey = \(own.publicKey)
            """)
        #expect(
            found == [
                "4: an IPv6 address needs an MTU of at least 1280",
                "9: the same peer is in line 6",
                "10: 10.0.0.0/24 is also another peer's, in line 7",
                "12: this is the interface's own public key",
            ])
        #expect(complaints("") == ["1: there is no [Interface]"])
    }

    @Test func aSecretIsNeverRepeated() {
        let almost = String(privateKey.dropLast(2))
        let text =
            "[Interface]\nPrivateKey = \(almost)\n[Peer]\nPublicKey = \(firstPeer)\n"
            + "PresharedKey = \(almost)x\n"
        do {
            _ = try parse(text)
            Issue.record("a short key was accepted")
        } catch {
            #expect(error.problems.map(\.line) == [2, 5])
            #expect(!error.description.contains(almost.prefix(8)))
        }
        #expect(!"\(String(describing: try? parse(whole)))".contains(privateKey.prefix(8)))
    }

    @Test func hostileFilesEndInProblems() {
        var random = SeededGenerator(seed: 7)
        for length in 0..<200 {
            let bytes = random.bytes(length)
            #expect(throws: ConfigProblems.self) {
                try TunnelConfiguration(parsing: bytes, path: "t.conf")
            }
        }
        let endless = String(repeating: "[Peer]\n", count: 5000)
        #expect(complaints("[Interface]\nPrivateKey = \(privateKey)\n" + endless).count == 100)
        let huge = [UInt8](repeating: 35, count: TunnelConfiguration.sizeLimit + 1)
        #expect(throws: ConfigProblems.self) {
            try TunnelConfiguration(parsing: huge, path: "t.conf")
        }
    }
}
