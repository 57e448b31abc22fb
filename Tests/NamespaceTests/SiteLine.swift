// The line between the core and a site that is no perfect cable:
//
//     core wanN ==== two TUN devices and a program that holds packets back ==== wanN site
//
// The kernels that tests run on may lack netem, so a program delays.

/// What is wrong with the line to a site.
struct SiteLine: Sendable {
    /// How long each packet takes, each way.
    var delay: Duration?
    /// What is longer is lost without a word, and so are pieces of what IP would cut.
    var mtu: Int?
}

extension NATLab {
    /// Connects the core and a site's outermost machine.
    func draw(_ line: SiteLine, _ name: String, _ end: LabHost) async throws {
        if let delay = line.delay {
            let path = try mesh.lab.file("delay.py", delayingProgram)
            let program = try core.start([
                "/usr/bin/python3", path, name, "\(delay / .seconds(1))",
                "\(Lab.namespaceDirectory)/\(end.namespace)",
            ])
            try await program.prints("ready")
            for host in [core, end] { try await host.ip("link set \(name) up") }
        } else {
            try await mesh.lab.cable(name, core, end)
        }
        guard let mtu = line.mtu else { return }
        let rules = try mesh.lab.file(
            "nft-narrow-\(name)",
            """
            table ip narrow-\(name) {
                chain arriving {
                    type filter hook prerouting priority -450
                    iifname "\(name)" ip frag-off & 0x3fff != 0 drop
                }
                chain saying {
                    type filter hook output priority 0
                    icmp type destination-unreachable drop
                }
            }
            """)
        for host in [core, end] {
            try await host.ip("link set \(name) mtu \(mtu)")
            try await host.run(["nft", "-f", rules])
        }
    }
}

/// Makes a TUN device here and one in the other namespace, and hands packets over when it is time.
private let delayingProgram = """
    import ctypes, fcntl, heapq, os, select, struct, sys, time

    name, delay, other = sys.argv[1], float(sys.argv[2]), sys.argv[3]

    def device():
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
        return descriptor

    near = device()
    if ctypes.CDLL(None).setns(os.open(other, os.O_RDONLY), 0) != 0:
        sys.exit("there is no " + other)
    far = device()
    print("ready", flush=True)
    number, waiting = 0, []
    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([near, far], [], [], pause)
        for descriptor in ready:
            number += 1
            packet = os.read(descriptor, 65536)
            target = far if descriptor == near else near
            heapq.heappush(waiting, (time.monotonic() + delay, number, target, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            try:
                os.write(waiting[0][2], waiting[0][3])
            except OSError:
                pass
            heapq.heappop(waiting)
    """
