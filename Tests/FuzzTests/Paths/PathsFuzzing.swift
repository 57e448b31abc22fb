import Cryptography
import MeshBase
import NetAddress
import PathDiscovery

/// What fuzzers call, and what the tests call with the corpus: bytes of a member, of a stranger and
/// of a gateway through what reads them about paths. The first byte chooses the reader; a broken
/// promise traps.
package func fuzzPaths(_ input: [UInt8]) {
    guard let choice = input.first else { return }
    let bytes = Array(input.dropFirst())
    switch choice % 5 {
    case 0: fuzzProbe(bytes)
    case 1: fuzzEnvelope(bytes)
    case 2: fuzzGateway(bytes)
    case 3: fuzzPages(bytes)
    default: fuzzStream(bytes)
    }
}

#if FUZZ_PATHS
    /// The entry point of libFuzzer (`.scripts/fuzz`).
    @_cdecl("LLVMFuzzerTestOneInput")
    package func fuzzOnePath(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
        fuzzPaths(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }
#endif

/// What can be read is written as it was.
private func fuzzProbe(_ bytes: [UInt8]) {
    guard let message = try? ProbeMessage(decoding: bytes) else { return }
    precondition(message.encode() == bytes, "two spellings of one message")
    precondition(ProbeMessage.isProbe(bytes))
    if case .callMe(let call) = message { precondition(call.candidates.count <= 16) }
}

/// Strangers change nothing and get no answer.
private func fuzzEnvelope(_ bytes: [UInt8]) {
    var finder = FuzzedNode.finder
    var random = SeededGenerator(seed: 5)
    var actions: [PathAction] = []
    let source = SocketAddress(ip: .v4(0xC633_6401), port: 9)
    for datagram in [bytes, [0xEB, 0x56, 1] + bytes] {
        finder.receive(
            datagram, from: source, at: FuzzedNode.now, random: &random, into: &actions)
        precondition(finder.relayed(datagram, from: source) == nil)
    }
    precondition(fingerprint(finder) == fingerprint(FuzzedNode.finder))
    for action in actions {
        guard case .dropped = action else { preconditionFailure("a stranger caused \(action)") }
    }
}

/// A stream says the same however it is cut into pieces, and never more than was put in.
private func fuzzStream(_ bytes: [UInt8]) {
    for limit in [StreamFraming.strangerLimit, StreamFraming.memberLimit] {
        let whole = frames(of: [bytes], limit: limit)
        let pieces = bytes.map { [$0] }
        let parts = frames(of: pieces, limit: limit)
        precondition(whole.frames == parts.frames && whole.isBroken == parts.isBroken)
        precondition(whole.frames.allSatisfy { !$0.isEmpty && $0.count <= limit })
        let spoken = whole.frames.flatMap(StreamFraming.frame)
        precondition(bytes.starts(with: spoken))
    }
}

private func frames(of pieces: [[UInt8]], limit: Int) -> (frames: [[UInt8]], isBroken: Bool) {
    var framing = StreamFraming(limit: limit)
    var result: [[UInt8]] = []
    for piece in pieces {
        framing.append(piece)
        reading: while true {
            switch framing.next() {
            case .datagram(let datagram): result.append(datagram)
            case .incomplete: break reading
            case .broken: return (result, true)
            }
        }
    }
    return (result, false)
}

/// Whatever a gateway says, what is mapped is an address, and little is sent.
private func fuzzGateway(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 6)
    var mapper = PortMapper(internalPort: 41_641, random: &random)
    var actions: [PortMappingAction] = []
    let gateway = IPAddress.v4(0xC0A8_0101)
    var now = FuzzedNode.now
    mapper.setGateway(gateway, client: .v4(0xC0A8_0102), at: now, into: &actions)
    // Every speech has its turn: PCP, NAT-PMP, UPnP.
    for _ in 0..<8 {
        let before = actions.count
        for port: UInt16 in [5_351, 1_900] {
            mapper.receive(
                bytes, from: SocketAddress(ip: gateway, port: port), at: now, random: &random,
                into: &actions)
        }
        precondition(actions.count - before <= 10)
        if let mapped = mapper.mapped { precondition(mapped.port != 0) }
        guard let due = mapper.deadline else { preconditionFailure("it has given up") }
        now = max(now, due)
        mapper.timeout(at: now, random: &random, into: &actions)
    }
}

/// The pages of a UPnP device, each given where the next is awaited.
private func fuzzPages(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 7)
    var mapper = PortMapper(internalPort: 41_641, random: &random)
    var actions: [PortMappingAction] = []
    let gateway = IPAddress.v4(0xC0A8_0101)
    var now = FuzzedNode.now
    mapper.setGateway(gateway, client: .v4(0xC0A8_0102), at: now, into: &actions)
    for _ in 0..<6 {
        now = max(now, mapper.deadline ?? now)
        mapper.timeout(at: now, random: &random, into: &actions)
    }
    let place = Array("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/d.xml\r\n\r\n".utf8)
    mapper.receive(
        place, from: SocketAddress(ip: gateway, port: 1_900), at: now, random: &random,
        into: &actions)
    for _ in 0..<8 {
        var exchange: UInt32?
        for case .exchange(let number, let request, let address) in actions {
            precondition(address.ip == gateway, "somebody else is called")
            precondition(!request.contains(0))
            exchange = number
        }
        actions = []
        guard let exchange else { return }
        mapper.exchanged(exchange, answer: bytes, at: now, random: &random, into: &actions)
    }
}

private func fingerprint(_ finder: PathFinder) -> UInt64 {
    var fingerprint = Fingerprint()
    finder.fingerprint(into: &fingerprint)
    return fingerprint.value
}

/// One member, the same for every input.
private enum FuzzedNode {
    static let now = BootInstant(nanoseconds: 1_000_000_000)

    static let finder = PathFinder(
        configuration: PathConfiguration(
            meshID: [UInt8](repeating: 9, count: 16),
            discoverySecret: SecretBytes(copying: [UInt8](repeating: 1, count: 32)),
            admissionSecret: SecretBytes(copying: [UInt8](repeating: 2, count: 32)),
            signingKey: SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 3, count: 32))),
            staticKey: StaticPrivateKey(SecretBytes(copying: [UInt8](repeating: 4, count: 32))),
            credential: [1], suites: 1, capabilities: 0, bootNonce: 5,
            verifyCredential: { _ in nil }))
}
