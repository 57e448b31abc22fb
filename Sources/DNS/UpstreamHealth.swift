import MeshBase
import NetAddress

/// How an upstream behaved lately.
struct UpstreamHealth {
    /// Tries without a reply since the last reply.
    private(set) var failures = 0
    private(set) var avoidedUntil: BootInstant?
    /// It answered FORMERR or NOTIMP to EDNS; until then it is asked without (RFC 6891 section 7).
    var plainUntil: BootInstant?
    /// Microseconds until a reply, the latest ones in no order.
    private var samples: [UInt32] = []
    private var nextSample = 0
    private(set) var median: Duration?
    /// When a second upstream should be asked beside this one.
    private(set) var hedgeDelay = UpstreamHealth.minimumHedgeDelay

    /// After this many silent tries in a row another upstream goes first.
    static let failureLimit = 3
    static let avoidance: Duration = .seconds(30)
    static let plainPeriod: Duration = .seconds(900)
    /// Below this a second question would cost more than the wait.
    static let minimumHedgeDelay: Duration = .milliseconds(200)
    /// Enough for a 95th percentile that forgets within a minute of use.
    private static let maximumSamples = 32

    func isAvoided(at now: BootInstant) -> Bool {
        avoidedUntil.map { now < $0 } ?? false
    }

    /// It was avoided, and nobody knows whether it is back.
    var isUnderSuspicion: Bool { failures >= UpstreamHealth.failureLimit }

    mutating func noteSilence(at now: BootInstant) {
        failures += 1
        if isUnderSuspicion { avoidedUntil = now + UpstreamHealth.avoidance }
    }

    /// A probe is on its way: no other before this one's outcome is old.
    mutating func noteProbe(at now: BootInstant) {
        avoidedUntil = now + UpstreamHealth.avoidance
    }

    mutating func noteReply(after latency: Duration) {
        failures = 0
        avoidedUntil = nil
        let sample = UInt32(clamping: latency.clampedNanoseconds / 1000)
        if samples.count < UpstreamHealth.maximumSamples {
            samples.append(sample)
        } else {
            samples[nextSample] = sample
            nextSample = (nextSample + 1) % samples.count
        }
        let sorted = samples.sorted()
        median = .microseconds(Int64(sorted[sorted.count / 2]))
        let high = Duration.microseconds(Int64(sorted[sorted.count * 95 / 100]))
        hedgeDelay = max(UpstreamHealth.minimumHedgeDelay, high)
    }

    /// Whether `other` is so much faster that it should be asked before this one. The configured
    /// order decides between upstreams that are about as fast.
    func isMuchSlower(than other: UpstreamHealth) -> Bool {
        guard let median, let faster = other.median else { return false }
        return faster * 2 + .milliseconds(20) < median
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(failures)
        fingerprint.mix(avoidedUntil)
        fingerprint.mix(plainUntil)
        fingerprint.mix(samples.count)
        fingerprint.mix(nextSample)
        for sample in samples { fingerprint.mix(UInt64(sample)) }
    }
}
