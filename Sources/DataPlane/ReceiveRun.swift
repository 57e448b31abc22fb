import WireGuard

/// Consecutive packets of one session, recorded together.
struct ReceiveRun: BitwiseCopyable {
    var localIndex: UInt32 = 0
    var slot = RouteTable.none
    var session: SessionHandle?
    var packets: UInt64 = 0
    var bytes: UInt64 = 0
    var hasData = false
    /// Where the run's packets came from was compared already.
    var isSourceKnown = false
}
