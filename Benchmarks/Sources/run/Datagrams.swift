import Foundation

/// What the sender and the receiver of benchmark-tools counted.
private struct Sent: Decodable {
    let sent: Double
    let seconds: Double
}

private struct Received: Decodable {
    let received: Double
}

extension Lab {
    /// One CPU: as many as it can, and at a rate that everybody carries.
    func sampleDatagrams(_ candidate: Candidate, seconds: Int, into sample: inout Sample) throws {
        let flood = try sample.part(processor) {
            try datagrams(candidate, perSecond: Offer.flood, seconds: seconds)
        }
        sample.values[.floodSent] = flood.sent
        sample.values[.floodDelivered] = flood.delivered
        sample.values[.floodLoss] = flood.loss
        sample.values[.steadyLoss] = try sample.part(processor) {
            try datagrams(candidate, perSecond: Offer.steady, seconds: seconds).loss
        }
    }

    /// Two CPUs: a's end and the sender on the first, b's end and the receiver on the second.
    func sampleTwoProcessors(_ candidate: Candidate, seconds: Int, into sample: inout Sample) throws
    {
        guard let processor, ProcessInfo.processInfo.activeProcessorCount > 1 else { return }
        let other = processor == 0 ? 1 : 0
        try candidate.pin(second: other)
        defer { try? candidate.pin(second: processor) }
        let flood = try sample.part(nil) {
            try datagrams(candidate, perSecond: Offer.split, seconds: seconds, receiver: other)
        }
        sample.values[.splitSent] = flood.sent
        sample.values[.splitDelivered] = flood.delivered
        sample.values[.splitLoss] = flood.loss
    }

    /// Packets per second, and the share that was lost in percent.
    private func datagrams(
        _ candidate: Candidate, perSecond: Int, seconds: Int, receiver: Int? = nil
    ) throws -> (sent: Double, delivered: Double, loss: Double) {
        let port = "7301"
        let sink = try Answering(
            inside(candidate.to, [tools, "sink", port], on: receiver ?? processor))
        try sink.waitForLine("ready")
        let source = try execute(
            inside(
                candidate.from,
                [tools, "send", "\(candidate.target):\(port)", "\(perSecond)", "\(seconds)"])
        ).output
        let sent = try JSONDecoder().decode(Sent.self, from: Data(source.utf8))
        let received = try JSONDecoder().decode(Received.self, from: sink.end())
        guard sent.sent > 0 else { throw Failure("\(candidate.name): nothing was sent") }
        return (
            sent.sent / sent.seconds, received.received / sent.seconds,
            max(0, (sent.sent - received.received) / sent.sent * 100)
        )
    }

    /// A flow from a to b beside a flood, once to a port that nobody reads and once to the VPN's.
    func sampleInitiations(
        _ candidate: Candidate, _ target: HandshakeTarget, seconds: Int, into sample: inout Sample
    ) throws {
        let memory = candidate.residentMebibytes(last: true) ?? 0
        var rates: [Double] = []
        for (metric, port) in [
            (Metric.besideDiscarded, Lab.discardPort), (.besideInitiations, target.port),
        ] {
            sample.values[metric] = try sample.part(processor) {
                let flood = try Answering(
                    inside(
                        candidate.from,
                        [
                            tools, "initiations", "\(Side.b.outer):\(port)",
                            "\(Offer.initiations)", "\(seconds + 1)", target.key,
                        ]))
                Thread.sleep(forTimeInterval: 0.3)
                let gigabits = try throughput(candidate, seconds: seconds)
                let sent = try JSONDecoder().decode(Sent.self, from: flood.end())
                rates.append(sent.sent / sent.seconds)
                return gigabits
            }
        }
        sample.values[.initiations] = rates.min()
        if let beside = sample.values[.besideInitiations],
            let discarded = sample.values[.besideDiscarded], discarded > 0
        {
            sample.values[.besideShare] = beside / discarded * 100
        }
        sample.values[.initiationMemory] = (candidate.residentMebibytes(last: true) ?? 0) - memory
    }
}

/// Who answers handshakes at b, and with which key.
struct HandshakeTarget {
    let port: Int
    let key: String
}

/// A program in the background whose output is wanted.
final class Answering {
    private let process = Process()
    private let pipe = Pipe()
    private var held = Data()

    init(_ words: [String]) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.standardOutput = pipe
        try process.run()
    }

    /// Reads until the program has said so.
    func waitForLine(_ line: String) throws {
        while !String(decoding: held, as: UTF8.self).hasPrefix(line + "\n") {
            let more = pipe.fileHandleForReading.availableData
            guard !more.isEmpty else { throw Failure("a tool ended early") }
            held += more
        }
        held.removeFirst(line.utf8.count + 1)
    }

    /// Waits for its end; what it wrote since.
    func end() throws -> Data {
        held += pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure("a tool failed") }
        return held
    }
}
