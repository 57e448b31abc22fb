// Members whose path carries less than the device's MTU of 1,420 makes.
//
//     left  .1.1  e0 ==== near  router  far ==== e0  .2.1  right
//                  1500                1280
//     outside 10.201.x.1 or fd00:201:x::1; the mesh chooses the addresses inside
//
// The router drops fragments, and its far end drops what is too large without a word: only
// datagrams of at most 1,280 bytes that were never cut get through.

import Glibc
import Testing

private struct NarrowPath {
    let left: MeshMachine
    let right: MeshMachine
    let router: LabHost

    init(_ mesh: MeshLab, isIPv6: Bool, mtu: Int) async throws {
        left = try await mesh.machine("left")
        right = try await mesh.machine("right")
        router = try await mesh.lab.host("router")
        for (name, machine, number) in [("near", left, 1), ("far", right, 2)] {
            try await router.ip(
                "link add \(name) type veth peer name e0 netns \(machine.host.namespace)")
            try await router.ip("link set \(name) up")
            try await machine.host.ip("link set e0 up")
            let (net, length) = isIPv6 ? ("fd00:201:\(number)::", 64) : ("10.201.\(number).", 24)
            let option = isIPv6 ? " nodad" : ""
            try await router.ip("addr add \(net)2/\(length) dev \(name)\(option)")
            try await machine.host.ip("addr add \(net)1/\(length) dev e0\(option)")
            let family = isIPv6 ? "-6 " : ""
            try await machine.host.ip("\(family)route add default via \(net)2")
        }
        try await router.ip("link set far mtu \(mtu)")
        let setting = isIPv6 ? "net.ipv6.conf.all.forwarding=1" : "net.ipv4.ip_forward=1"
        try await router.run(["sysctl", "-w", setting])
        let rules =
            "table inet narrow { chain forward { type filter hook forward priority 0; "
            + "ip frag-off & 0x3fff != 0 counter drop; exthdr frag exists counter drop; "
            + "}; }"
        try await router.run(["nft", rules])
    }

    func start(isIPv6: Bool) async throws {
        let other = isIPv6 ? "[fd00:201:2::1]:7801" : "10.201.2.1:7801"
        let common = ["--no-mdns", "--dns", "off", "--role", "none", "--listen", "7801"]
        _ = try await right.up(common)
        _ = try await left.up(common + ["--peer", other])
        try await left.sees(right, "alive", within: .seconds(40))
        try await left.reaches(right)
    }

    /// Echo requests of `size` bytes, headers included, that nobody may cut.
    func pings(_ target: String, size: Int, from machine: MeshMachine) async throws -> Bool {
        let payload = size - (target.contains(":") ? 48 : 28)
        return try await machine.host.attempt([
            "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "\(payload)", target,
        ]).status == 0
    }

    /// A TCP connection carries a few megabytes.
    func carriesTCP(to target: String) async throws {
        let server = try right.host.start(["iperf3", "-s", "-1", "--forceflush"])
        try await server.prints("Server listening")
        let text = try await left.host.run(
            ["iperf3", "-c", target, "-n", "4M", "--connect-timeout", "5000"],
            within: .seconds(60))
        #expect(text.contains("receiver"), "\(text)")
        server.send(SIGKILL)
    }
}

extension MeshTests {
    @Suite(.serialized) struct PathMTUTests {
        @Test(arguments: [false, true])
        func aPathOf1280BytesNeedsNoConfiguration(isIPv6: Bool) async throws {
            try Lab.requireTool("iperf3", package: "iperf3")
            try Lab.requireTool("nft", package: "nftables")
            try await withMesh { mesh in
                let path = try await NarrowPath(mesh, isIPv6: isIPv6, mtu: 1280)
                try await path.start(isIPv6: isIPv6)
                let (a, b) = (path.left, path.right)
                let left = try await a.status().node
                let right = try await b.status().node
                let (left4, right4) = (try #require(left.ipv4), try #require(right.ipv4))
                // The device's MTU stands: full packets pass, both ways and in both families.
                for (machine, target) in [
                    (a, right4), (b, left4), (a, right.ipv6 ?? ""), (b, left.ipv6 ?? ""),
                ] {
                    try await eventually("1,420 bytes reach \(target)") {
                        try await path.pings(target, size: 1420, from: machine)
                    }
                }
                try await path.carriesTCP(to: right4)

                // A virtual Ethernet inside, as containers use it: 1,370 bytes of inner packets
                // make 1,420 outside, in UDP that nobody tells anything.
                for (machine, own, other, number) in [
                    (a, left4, right4, 1), (b, right4, left4, 2),
                ] {
                    try await machine.host.ip(
                        "link add vx0 type vxlan id 7 local \(own) remote \(other) dstport 4789")
                    try await machine.host.ip("link set vx0 mtu 1370 up")
                    try await machine.host.ip("addr add 10.77.0.\(number)/24 dev vx0")
                }
                try await eventually("a full packet passes inside VXLAN") {
                    try await path.pings("10.77.0.2", size: 1370, from: a)
                }
                try await path.carriesTCP(to: "10.77.0.2")
            }
        }

        @Test func aBlackHoleIsNoticed() async throws {
            try Lab.requireTool("nft", package: "nftables")
            try await withMesh { mesh in
                let path = try await NarrowPath(mesh, isIPv6: false, mtu: 1500)
                try await path.start(isIPv6: false)
                let target = try #require(try await path.right.status().node.ipv4)
                try await eventually("full packets pass") {
                    try await path.pings(target, size: 1420, from: path.left)
                }
                try await path.router.ip("link set far mtu 1280")
                let isLost = try await !path.pings(target, size: 1420, from: path.left)
                #expect(isLost, "the path carries 1,280 bytes only")
                try await eventually("full packets pass again", within: .seconds(90)) {
                    try await path.pings(target, size: 1420, from: path.left)
                }
            }
        }
    }
}
