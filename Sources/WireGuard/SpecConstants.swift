import Cryptography
import MeshBase

/// Numbers of the WireGuard protocol: "WireGuard: Next Generation Kernel Network Tunnel"
/// (Donenfeld), section 6.5 and section 5.4. Both ends must agree on them.
package enum WireGuardSpecification {
    package static let construction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
    package static let identifier = "WireGuard v1 zx2c4 Jason@zx2c4.com"
    package static let labelMAC1 = "mac1----"
    package static let labelCookie = "cookie--"

    package static let rekeyAfterMessages: UInt64 = 1 << 60
    package static let rekeyAfterTime = Duration.seconds(120)
    package static let rejectAfterTime = Duration.seconds(180)
    package static let rekeyAttemptTime = Duration.seconds(90)
    package static let rekeyTimeout = Duration.seconds(5)
    package static let keepaliveTimeout = Duration.seconds(10)
    package static let cookieRefreshTime = Duration.seconds(120)
}

/// Numbers that are ours (or common to implementations) and that a peer need not share.
package enum HandshakePolicy {
    /// Jitter on retransmission, so that two ends that began together do not stay in step.
    static let rekeyTimeoutJitter = Duration.zero...Duration.milliseconds(334)

    /// From an initiation to the next over a way that was seen to work a moment ago, until
    /// REKEY_TIMEOUT takes over: two more messages of 148 bytes for one tunnel, and responders take
    /// one each 20 ms.
    static let hurriedPauses: [Duration] = [.seconds(1), .seconds(2)]

    /// Initiations of one peer closer together than this are refused, as in wireguard-go.
    static let minimumInitiationInterval = Duration.milliseconds(20)

    /// From an initiation to the next when the peer turns out to be elsewhere: most answers come
    /// sooner, and it exceeds ``minimumInitiationInterval`` by more than packets overtake.
    static let patienceAfterMove = Duration.milliseconds(100)

    /// AES-GCM counts blocks under one key towards its confidentiality bound: 2^28 packets of at
    /// most 94 blocks stay near 2^34.6, where the distinguishing advantage is below 2^-58.
    static let rekeyAfterMessagesAES: UInt64 = 1 << 28

    /// How long a live tunnel may wait for a look at its session's counters: the packet threads
    /// do not report each packet, so timers are judged by polling.
    static let pollInterval = Duration.seconds(1)

    /// A reservation of this many seconds of stamps: one disk write serves many initiations.
    static let timestampReservation: UInt64 = 60

    /// Handshake messages with a valid mac1 within one second above which cookies are demanded.
    /// At about 0.25 ms each this many are a quarter of one core.
    package static let handshakesPerSecondBeforeLoad = 1000

    /// Under load, each source address gets 20 handshakes a second, 5 at once (wireguard-go).
    static let sourceInterval = Duration.milliseconds(50)
    static let sourceBurst = 5

    /// Sources remembered by the limiter. Each proved its address with a cookie; 8,192 entries
    /// of 40 bytes stay under half a megabyte.
    static let maximumSources = 8192

    /// Peers of one device: the mesh plans for a few thousand machines.
    package static let maximumPeers = 16_384
}

extension PacketSuite {
    /// What a handshake for this suite agrees on first. Stock WireGuard has one suite and says
    /// nothing of it; the other one is named, so that the two can never be confused.
    var noiseParameters: NoiseParameters {
        switch self {
        case .chaCha20Poly1305: plainParameters
        case .aes256GCM: aesParameters
        }
    }
}

private let plainParameters = NoiseParameters(
    prologue: Array(WireGuardSpecification.identifier.utf8))
private let aesParameters = NoiseParameters(
    prologue: Array("\(WireGuardSpecification.identifier) AES-256-GCM".utf8))
