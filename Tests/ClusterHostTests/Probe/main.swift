import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

// A daemon in miniature for the tests of process life: it founds a datastore, tells on standard
// output how far it is, and waits to be killed. As `internal-supervise` it is the supervisor.
//
//     ClusterHostProbe daemon DIRECTORY ADDRESS SECONDS release|hold

let arguments = CommandLine.arguments
if arguments.count > 1, arguments[1] == supervisorArgument {
    exit(superviseDatastore(arguments))
}
guard arguments.count == 6, arguments[1] == "daemon", let address = IPAddress(arguments[3]),
    let seconds = Int(arguments[4])
else { exit(2) }
let releases = arguments[5] == "release"

let node = NodeID(Bytes32(word0: 7, word1: 7, word2: 7, word3: 7))
let identity = HostIdentity(
    name: "probe-000000", node: node, ipv4: address, ipv6: .v6(0xFD00 << 48, 7),
    dnsName: "probe.mesh.internal")

@Sendable func say(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    _ = write(1, bytes, bytes.count)
}

nonisolated(unsafe) var executor: ClusterExecutor?
let settings = ClusterExecutor.Settings(
    directory: arguments[2],
    privateKey: StaticPrivateKey(SecretBytes(Bytes32(word0: 1, word1: 2, word2: 3, word3: 4))),
    clusterToken: "probe")
let started = ClusterExecutor(settings: settings) { report in
    switch report {
    case .founded(let cluster, _):
        guard releases else { return say("founded") }
        executor?.execute(.release(cluster))
        // Commands run in order: the answer to this one means that the release is done.
        executor?.execute(.probe)
    case .observed: say("released")
    default: say("unexpected \(report)")
    }
}
executor = started

var time = timespec()
clock_gettime(CLOCK_BOOTTIME, &time)
let now = BootInstant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
started.execute(.found(identity, generation: 1, deadline: now + .seconds(seconds)))
while true { pause() }
