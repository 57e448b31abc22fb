import Foundation

extension Report {
    /// Writes the document, and the chart beside it under the same name with the ending svg.
    func write(to path: String, arguments: [String]) throws {
        let document = URL(fileURLWithPath: path)
        let chart = document.deletingPathExtension().appendingPathExtension("svg")
        try chartSVG().write(to: chart, atomically: true, encoding: .utf8)
        let text = try self.document(arguments: arguments, chart: chart.lastPathComponent)
        try text.write(to: document, atomically: true, encoding: .utf8)
    }

    private func document(arguments: [String], chart: String) throws -> String {
        let date = ISO8601DateFormatter()
        date.formatOptions = [.withFullDate]
        // Other people's directories say nothing; only the programs' names do.
        let words = arguments.map { $0.hasPrefix("/") ? ($0 as NSString).lastPathComponent : $0 }
        let command = words.joined(separator: " ")
        let iperf = try execute(["iperf3", "--version"]).output.firstLine
        var machine = Machine.description(congestionControl: congestionControl)
        machine.append(("iperf3", iperf))
        machine.append(("date", date.string(from: Date())))
        let rows = machine.map { "| \($0.0) | \($0.1) |" }.joined(separator: "\n")
        return """
            # Benchmarks

            One program writes this page; do not edit it. It compares, on one machine and in one
            run, two processes of each candidate that carry packets between two network namespaces.

            ![Our tunnel and our mesh beside wireguard-go](\(chart))

            ## Result

            Medians of \(rounds) rounds, \(seconds) s per sample, \(place), MTU 1420. The ratio says
            how many times better than \(columns[2].candidate.name) the column of that cipher is.

            \(table())
            \(disturbance())

            ## Distance from the limit

            Our engine with a cipher that copies, which exists in the benchmarks only, shows what
            the rest costs. In percent of it:

            \(limits())
            ## What control costs

            The mesh beside its own packet engine with fixed keys, without a node: no handshakes, no
            membership, no ledger.

            \(control())
            ## Through a relay

            Two members that reach each other only through a third, `--relay unlimited`; all three
            share the CPU.

            \(relay())
            ## Other tunnels

            \(otherTunnels())
            ## Single figures

            The best of seven batches where it says ns or handshakes.

            | | |
            |---|---:|
            \(facts.map { "| \($0.0) | \($0.1) |" }.joined(separator: "\n"))

            ## Machine

            | | |
            |---|---|
            \(rows)

            ## How to repeat it

            Directories are left out. It needs root, iperf3, ping, taskset and wg.

                sudo swift run -c release --package-path Benchmarks run \(command)

            - Candidates take turns inside each round, over one veth pair with MTU 1500. iperf3 runs
              in both namespaces\(processor == nil ? "" : ", on the same CPU as the candidates").
            - With everything on one CPU, throughput is the inverse of all work per bit, iperf3's
              and the kernel's included. Other programs on that CPU lower it. Work per VPN CPU
              second counts user and system time of the candidate's two processes, so they disturb it
              less.
            - The 64 bytes of UDP are payload. The sender gives the kernel bursts, one a millisecond,
              64 datagrams per system call on a connected socket, and leaves out what it has no time for. The receiver has
              a large buffer and takes datagrams one by one, without the kernel's receive offload.
              (iperf3 in their place loses most in its own socket, whose buffer holds less than one
              turn of the sender.) Compare what is delivered; where the sender is slowed down, it
              sends less. Loss at an equal rate has rows of its own.
            - With two CPUs, a's end and the sender are on one and b's end and the receiver on the
              other. More than the sender can give over the bare wire cannot be seen there.
            - Other tunnels and floods of handshakes have a turn in every second round only.
            - Bogus initiations have the right type and a right mac1, as from somebody who knows the
              public key. The flow beside them shares the CPU with the generator.
            - A ping takes its turn on the CPU like everything else. 400 of them, 2.5 ms apart, make
              one sample; its 99th percentile is the fifth-longest.
            - Idle figures are of \(Self.idleSeconds) s without traffic, before the first round.
              Resident memory includes pages that processes share, such as libraries.
            - Ratios hold within this run only. The version of wireguard-go decides: releases before
              its TUN and UDP offloads (2023) are several times slower than later ones.

            ## Smallest and largest sample

            \(spread())
            ## Not measured

            - More than two cores, and TCP on more than one.
            - Real networks: loss, long round trips, network cards and their offloads.
            - Kernel WireGuard.
            \(missing.map { "- \($0)\n" }.joined())
            """
    }
}
