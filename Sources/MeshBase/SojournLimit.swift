/// Keeps a queue from answering only what nobody waits for any more.
///
/// Whoever asked gives up after a while and asks again. A queue that is longer than that while serves
/// old questions only, each in vain, and the new ones make sure that it stays so: it never recovers by
/// itself. Hence, as in CoDel (RFC 8289), a burst may wait, and once the queue has not been short for
/// ``interval``, what waited for more than ``target`` is thrown away.
package struct SojournLimit: Sendable {
    /// How long an entry may wait in a queue that is never short.
    package static let target = Duration.milliseconds(100)
    /// How long a burst may take; half of the two seconds after which an answer comes too late, as
    /// the question and the answer may both have to wait.
    package static let interval = Duration.milliseconds(900)

    /// Since when every entry has waited for too long.
    private var lateSince: BootInstant?

    package init() {}

    /// Whether an entry is worth to be served that was put into the queue at `arrival`; asked of each
    /// entry as it is taken out.
    package mutating func admits(from arrival: BootInstant, at now: BootInstant) -> Bool {
        guard now - arrival > Self.target else {
            lateSince = nil
            return true
        }
        let since = lateSince ?? now
        lateSince = since
        return now - since < Self.interval
    }

    /// The queue is empty, and so it is short.
    package mutating func emptied() { lateSince = nil }
}
