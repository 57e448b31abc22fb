import ClusterHost
import Glibc
import MeshBase
import Testing

/// K3s as a unit, before a systemctl that writes down what it is told. What the drop-ins mean to
/// systemd is checked by systemd's own verifier.
@Suite struct SystemdTests {
    /// Directories as systemd has them, a unit like that of K3s' installer, and the double.
    private final class Machine {
        let scratch = ScratchDirectory()
        var etc: String { scratch.path + "/etc" }
        var transient: String { scratch.path + "/run" }
        var bound: String { transient + "/k3s.service.d/91-edgevpn-bound.conf" }
        let service: SystemdService

        init(daemonUnit: String? = "edgevpn.service") {
            var places = SystemdService.Places(daemonUnit: daemonUnit)
            places.systemctl = scratch.path + "/systemctl"
            places.persistent = scratch.path + "/etc"
            places.transient = scratch.path + "/run"
            service = SystemdService(
                places: places,
                gate: ["/bin/true", "cluster", "may-start", "--state-dir", "/a b/100%"],
                interrupt: -1)
            run(["/bin/mkdir", etc, transient])
            write(
                scratch.path + "/systemctl",
                """
                #!/bin/sh
                cd \(scratch.path)
                echo "$*" >>calls
                case "$1" in
                start) echo active >state ;;
                stop) echo inactive >state ;;
                show) case "$2" in
                    *=ActiveState) echo "ActiveState=$(cat state 2>/dev/null)" ;;
                    *=ActiveEnterTimestampMonotonic) echo "$(echo $2 | cut -d= -f2)=$(cat entered)" ;;
                    *) echo "Job=0" ;;
                    esac ;;
                esac

                """)
            run(["/bin/chmod", "755", scratch.path + "/systemctl"])
            write(scratch.path + "/entered", "0\n")
            let unit = { (type: String) in
                "[Service]\nType=\(type)\nExecStart=/bin/true server\nRestart=always\n"
            }
            write(etc + "/k3s.service", unit("notify"))
            write(etc + "/edgevpn.service", unit("notify"))
        }

        func read(_ path: String) -> String { run(["/bin/cat", path]).output }

        /// What systemctl was told, but for questions.
        var calls: [String] {
            read(scratch.path + "/calls").split(separator: "\n").map(String.init)
                .filter { !$0.hasPrefix("show") }
        }

        /// What systemd itself says about the unit with all its drop-ins.
        func verify() -> (status: Int32, output: String) {
            run([
                "/usr/bin/env", "SYSTEMD_UNIT_PATH=\(etc):\(transient):",
                "systemd-analyze", "verify", "--man=no", etc + "/k3s.service",
            ])
        }
    }

    private func order(_ deadline: BootInstant?, isBound: Bool = true) -> ServiceOrder {
        ServiceOrder(
            unit: "k3s", command: ["/bin/true"], logFile: "/dev/null", deadline: deadline,
            isBound: isBound)
    }

    /// Before anything is decided, and for both units.
    @Test func unitsAskTheGateFromTheBeginning() throws {
        let machine = Machine()
        try machine.service.guardStarts(of: ["k3s", "k3s-agent"])
        let server = machine.read("\(machine.etc)/k3s.service.d/90-edgevpn.conf")
        let agent = machine.read("\(machine.etc)/k3s-agent.service.d/90-edgevpn.conf")
        #expect(server.contains("ExecCondition=\"/bin/true\" \"cluster\" \"may-start\""))
        #expect(!server.contains("--agent") && agent.contains("\"--agent\""))
        #expect(machine.calls == ["daemon-reload"])
    }

    @Test func untilReadyTheUnitIsBoundAndAfterwardsItIsFree() throws {
        let machine = Machine()
        try machine.service.start(order(bootTime() + .seconds(300)))
        #expect(machine.calls == ["daemon-reload", "start --no-block k3s.service"])
        let gate = machine.read(machine.etc + "/k3s.service.d/90-edgevpn.conf")
        #expect(gate.contains(#"ExecCondition="/bin/true" "cluster" "may-start""#), "\(gate)")
        #expect(gate.contains(#""/a b/100%%""#), "\(gate)")
        let bound = machine.read(machine.bound)
        #expect(bound.contains("BindsTo=edgevpn.service"))
        let limit = try #require(seconds(bound, "RuntimeMaxSec"))
        #expect((290...300).contains(limit))
        #expect(seconds(bound, "TimeoutStartSec") == limit)
        let verdict = machine.verify()
        #expect(verdict.status == 0, "\(verdict.output)")
        #expect(machine.service.isRunning)

        // Active for a while: what is left counts from that moment.
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        write(
            machine.scratch.path + "/entered", "\((max(time.tv_sec, 100) - 50) * 1_000_000)\n")
        machine.service.extend(to: bootTime() + .seconds(600))
        let renewed = try #require(seconds(machine.read(machine.bound), "RuntimeMaxSec"))
        #expect((635...660).contains(renewed))

        try machine.service.release()
        #expect(access(machine.bound, F_OK) != 0, "RuntimeMaxSec would end the cluster")
        #expect(machine.calls.suffix(2) == ["daemon-reload", "enable k3s.service"])
        #expect(machine.verify().status == 0)
        machine.service.stop()
        #expect(machine.calls.contains("stop k3s.service"))
        #expect(!machine.service.isRunning)
    }

    @Test func aMemberStartsWithoutBounds() throws {
        let machine = Machine()
        try machine.service.start(order(nil, isBound: false))
        #expect(access(machine.bound, F_OK) != 0)
    }

    /// Without a unit of its own the daemon could die and leave an uncertified cluster behind.
    @Test func aDaemonOutsideSystemdStartsNothingBound() {
        let machine = Machine(daemonUnit: nil)
        #expect(throws: HostFailure.self) {
            try machine.service.start(order(bootTime() + .seconds(300)))
        }
        #expect(!machine.calls.contains { $0.hasPrefix("start") })
    }

    @Test func theOwnUnitIsReadFromTheControlGroups() {
        #expect(ownUnit(controlGroups: "0::/system.slice/edgevpn.service\n") == "edgevpn.service")
        #expect(
            ownUnit(controlGroups: "12:pids:/x\n1:name=systemd:/system.slice/e.service/sub\n")
                == "e.service")
        #expect(ownUnit(controlGroups: "0::/user.slice/user-0.slice/session-1.scope\n") == nil)
    }

    private func seconds(_ text: String, _ key: String) -> Int? {
        text.split(separator: "\n").first { $0.hasPrefix(key + "=") }
            .flatMap { Int($0.dropFirst(key.count + 1)) }
    }
}
