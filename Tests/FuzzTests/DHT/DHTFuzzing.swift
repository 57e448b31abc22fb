import Cryptography
import Kademlia
import MeshBase
import MeshNode
import NetAddress
import PathDiscovery

/// What fuzzers call, and what the tests call with the corpus: bytes of a stranger, or of a hostile
/// member, through what reads them on the node's UDP port. The first byte chooses the part; a broken
/// promise traps.
package func fuzzDHT(_ input: [UInt8]) {
    guard let choice = input.first else { return }
    let bytes = Array(input.dropFirst())
    switch choice % 6 {
    case 0: fuzzBencode(bytes)
    case 1: fuzzQuestion(bytes)
    case 2: fuzzAnswer(bytes)
    case 3: fuzzSlot(bytes)
    case 4: fuzzEnvelope(bytes)
    default: fuzzContact(bytes)
    }
}

#if FUZZ_DHT
    /// The entry point of libFuzzer (`.scripts/fuzz`).
    @_cdecl("LLVMFuzzerTestOneInput")
    package func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
        fuzzDHT(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }
#endif

private let start = BootInstant(nanoseconds: 1_000_000_000)
private let stranger = SocketAddress(ip: .v4(0x2D12_0102), port: 6_881)
private let other = SocketAddress(ip: .v4(0x2D12_0202), port: 6_881)

private func secret(_ tag: UInt8) -> SecretBytes {
    SecretBytes(copying: [UInt8](repeating: tag, count: 32))
}

private func state(_ mix: (inout Fingerprint) -> Void) -> UInt64 {
    var fingerprint = Fingerprint()
    mix(&fingerprint)
    return fingerprint.value
}

/// Signatures rest on it: what was read is written as it came.
private func fuzzBencode(_ bytes: [UInt8]) {
    guard let value = try? Bencode(decoding: bytes) else { return }
    precondition(value.encoded == bytes)
}

/// A datagram at a node that serves: one answer at most, which fits, and no trace of what is refused.
private func fuzzQuestion(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 1)
    var node = DHTNode(configuration: DHTConfiguration(rules: .plain), at: start, random: &random)
    if let message = try? KRPCMessage(decoding: bytes) { checkStability(of: message) }
    let before = state { node.fingerprint(into: &$0) }
    var actions: [DHTAction] = []
    node.receive(bytes, from: stranger, at: start, random: &random, into: &actions)
    var answers = 0
    for action in actions {
        switch action {
        case .send(let answer, let target, _):
            precondition(target == stranger && answer.count <= 1_024)
            guard let message = try? KRPCMessage(decoding: answer) else {
                preconditionFailure("an answer that cannot be read")
            }
            if case .query = message.body { continue }
            answers += 1
        case .dropped:
            precondition(state { node.fingerprint(into: &$0) } == before)
        default: break
        }
    }
    precondition(answers <= 1)
}

/// What is written of a message is read and written as the same from then on. (Once something may
/// get lost: a method that we do not know, text that is none.)
private func checkStability(of message: KRPCMessage) {
    if case .failure = message.body { return }
    guard let once = try? KRPCMessage(decoding: message.encoded) else {
        preconditionFailure("a message that was written cannot be read")
    }
    precondition((try? KRPCMessage(decoding: once.encoded)) == once)
}

/// The fields of an answer to a question of ours, in a forger's hand who guessed all else.
private func fuzzAnswer(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 2)
    var node = DHTNode(configuration: DHTConfiguration(rules: .plain), at: start, random: &random)
    node.addBootstrap([stranger], at: start)
    var actions: [DHTAction] = []
    let signer = SigningKey(seed: secret(3))
    _ = node.get(signer.publicKey, salt: [], at: start, random: &random, into: &actions)
    let questions = actions.compactMap { action -> KRPCMessage? in
        guard case .send(let bytes, _, _) = action else { return nil }
        return try? KRPCMessage(decoding: bytes)
    }
    guard let question = questions.first else { preconditionFailure("nobody was asked") }
    let answer =
        Array("d1:r".utf8) + bytes + Array("1:t4:".utf8) + question.transaction
        + Array("1:y1:re".utf8)
    actions = []
    node.receive(answer, from: stranger, at: start, random: &random, into: &actions)
    for case .walked(_, let walk) in actions {
        precondition(walk.item?.isAuthentic ?? true)
    }
    for case .glimpsed(_, let item) in actions { precondition(item.isAuthentic) }
    precondition(node.nodeCount <= 1)
}

/// The inside of a slot of the rendezvous, written by somebody who has the token.
private func fuzzSlot(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 4)
    let now = Now(boot: start, wall: WallTime(seconds: 1_700_000_000, nanoseconds: 0))
    let node = SigningKey(seed: secret(5)).publicKey
    var rendezvous = Rendezvous(node: node, secret: secret(6), at: start)
    rendezvous.setEndpoints([other], at: start)
    var actions: [RendezvousAction] = []
    rendezvous.timeout(at: now, random: &random, into: &actions)
    guard case .look(let slot, _, _)? = actions.first else { return }
    let keys = RendezvousKeys(slot, secret: secret(6))
    // As it is, and filled up to the size that every slot has.
    let size = RendezvousContent.plainSize
    let filled = Array((bytes + [UInt8](repeating: 0, count: size)).prefix(size))
    for plain in [bytes, filled] {
        let content = RendezvousContent.seal(plain: plain, slot: slot, keys: keys, random: &random)
        guard content.encoded.count <= MutableItem.valueLimit else { return }
        let item = MutableItem(signing: content, with: keys.signer, salt: keys.salt, sequence: 1)
        var copy = rendezvous
        actions = []
        copy.glimpse(slot, item: item, at: now, into: &actions)
        copy.read(slot, item: item, storers: 1, at: now, random: &random, into: &actions)
        for case .found(let records) in actions {
            precondition(records.count <= 6 && !records.isEmpty)
        }
        for case .write(_, let written) in actions {
            precondition(written.isAuthentic && written.sequence > item.sequence)
        }
    }
}

/// The envelope of the DHT among members: what a stranger sends, and what a member seals.
private func fuzzEnvelope(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 7)
    let envelope = DHTEnvelope(discoverySecret: secret(8))
    precondition(envelope.open(bytes) == nil)
    let sealed = envelope.seal(bytes, room: 64, random: &random)
    guard let (message, room) = envelope.open(sealed) else {
        preconditionFailure("what was sealed does not open")
    }
    precondition(message == bytes && room >= 64)
    for index in [0, 3, 4, 27, 28, sealed.count - 1] {
        var changed = sealed
        changed[index] ^= 1
        precondition(envelope.open(changed) == nil)
    }
}

/// A first contact: as a stranger sends it, and as somebody with the token does.
private func fuzzContact(_ bytes: [UInt8]) {
    var random = SeededGenerator(seed: 9)
    let signer = SigningKey(seed: secret(10))
    let configuration = PathConfiguration(
        meshID: [UInt8](repeating: 1, count: 16), discoverySecret: secret(11),
        admissionSecret: secret(12), signingKey: signer, staticKey: StaticPrivateKey(secret(13)),
        credential: [1], suites: 1, capabilities: 0, bootNonce: 1,
        verifyCredential: { bytes in
            guard bytes.count == 64, let node = Bytes32(bytes.prefix(32)),
                let key = Bytes32(bytes.suffix(32))
            else { return nil }
            return PeerCredential(node: NodeID(node), staticKey: StaticPublicKey(key))
        })
    let keys = ContactKeys(discoverySecret: secret(11))
    var datagrams = [bytes]
    for kind in [EnvelopeKind.hello, .welcome] {
        datagrams.append(keys.sealContact(kind, bytes, random: &random))
    }
    for datagram in datagrams {
        var finder = PathFinder(configuration: configuration)
        let before = state { finder.fingerprint(into: &$0) }
        var actions: [PathAction] = []
        finder.receive(datagram, from: stranger, at: start, random: &random, into: &actions)
        for action in actions {
            switch action {
            case .send(let answer, let target):
                precondition(target == stranger && answer.count <= datagram.count)
            case .dropped:
                precondition(state { finder.fingerprint(into: &$0) } == before)
            default: break
            }
        }
    }
    _ = try? ProbeMessage(decoding: bytes)
}
