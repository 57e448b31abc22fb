import Foundation
import Testing

/// How long a cold start took, from what every node wrote of it in its founding log. Boot time is one
/// clock for all namespaces of a machine.
struct FoundingTimes {
    /// Until the last node held the proof of who founds.
    private(set) var decided: Double
    /// Until the last datastore was a running part of the cluster.
    private(set) var complete: Double
    /// Of that, how long some machine's datastore was starting, joining or taking somebody in.
    private(set) var datastore: Double

    /// - Parameter begin: boot time in nanoseconds when the first node was started.
    init(_ nodes: [ClusterNode], since begin: UInt64) throws {
        var decisions: [UInt64] = []
        var work: [ClosedRange<UInt64>] = []
        for node in nodes {
            let log = NodeTimes(node.text(of: node.foundingLog))
            decisions.append(try #require(log.decided, "\(node.name) holds no proof"))
            work += log.work
        }
        let end = try #require(work.map(\.upperBound).max())
        func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }
        decided = seconds((decisions.max() ?? begin) - begin)
        complete = seconds(end - begin)
        datastore = seconds(FoundingTimes.length(of: work))
    }

    /// Of the union.
    private static func length(of ranges: [ClosedRange<UInt64>]) -> UInt64 {
        var (length, covered) = (UInt64(0), UInt64(0))
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            let start = max(range.lowerBound, covered)
            guard range.upperBound > start else { continue }
            length += range.upperBound - start
            covered = range.upperBound
        }
        return length
    }

    func tell() {
        let rest = String(format: "%.1f", complete - datastore)
        print(
            String(
                format: "cold start: decided after %.1f s; all healthy after %.1f s, ", decided,
                complete)
                + "\(rest) s beyond the datastore's own " + String(format: "%.1f s", datastore))
    }

    static func bootTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// One node's part: docs/protocols/founding-log.md has the lines.
private struct NodeTimes {
    private(set) var decided: UInt64?
    private(set) var work: [ClosedRange<UInt64>] = []

    private static let orders = ["found", "admit", "start-joined", "start-agent"]
    private static let answers = [
        "founded", "admitted", "running", "founding-failed", "postponed", "start-failed",
    ]

    init(_ log: String) {
        var (now, begun) = (UInt64(0), UInt64?.none)
        for line in log.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 5)
            if words.count > 2, let time = UInt64(words[0]) { now = time }
            if line.hasPrefix("> decided "), decided == nil { decided = now }
            if words.count > 2, words[0] == ">", words[1] == "host",
                Self.orders.contains(String(words[2]))
            {
                begun = begun ?? now
            } else if words.count > 4, words[3] == "report",
                Self.answers.contains(String(words[4])), let start = begun
            {
                work.append(start...now)
                begun = nil
            }
        }
    }
}
