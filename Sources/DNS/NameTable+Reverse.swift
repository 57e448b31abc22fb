import NetAddress

/// A zone under `in-addr.arpa` or `ip6.arpa` that covers overlay addresses.
struct ReverseZone: Sendable {
    let apex: DNSName
    let prefix: IPPrefix

    /// The zones that together cover `prefix` exactly: zones end at whole octets of IPv4 and whole
    /// nibbles of IPv6, so an odd length takes up to 128 of them.
    static func zones(for prefix: IPPrefix) -> [ReverseZone] {
        let step = prefix.address.isIPv4 ? 8 : 4
        let rounded = (prefix.length + step - 1) / step * step
        var result: [ReverseZone] = []
        for index in 0..<(UInt64(1) << UInt64(rounded - prefix.length)) {
            guard let base = prefix.address.adding(index, above: rounded),
                let part = IPPrefix(base, length: rounded), let apex = reverseName(part)
            else { continue }
            result.append(ReverseZone(apex: apex, prefix: part))
        }
        return result
    }
}

/// An address and the name it belongs to, ordered by address.
struct ReverseHost: Hashable, Comparable, Sendable {
    let address: IPAddress
    let name: DNSName

    static func < (lhs: ReverseHost, rhs: ReverseHost) -> Bool {
        (lhs.address, lhs.name) < (rhs.address, rhs.name)
    }
}

extension NameTable {
    /// Names in reverse zones are read back into addresses, so no table of them is needed: a name
    /// exists when some address lies under it.
    func resolveReverse(_ question: DNSQuestion, apex: DNSName, into answer: inout NameAnswer) {
        if question.name == apex {
            answer.answers = apexRecords(apex).selected(by: question.type)
            answer.needsAuthority = answer.answers.isEmpty
            return
        }
        guard let prefix = reversePrefix(of: question.name) else {
            answer.code = .nameError
            answer.needsAuthority = true
            return
        }
        let first = firstHost(notBefore: prefix.address)
        guard first < reverseHosts.count, prefix.contains(reverseHosts[first].address) else {
            answer.code = .nameError
            answer.needsAuthority = true
            return
        }
        if prefix.length == prefix.address.bitWidth, question.type == .ptr || question.type == .any
        {
            for host in reverseHosts[first...].prefix(while: { $0.address == prefix.address }) {
                answer.answers.append(
                    ResourceRecord(question.name, .ptr(host.name), ttl: NameTable.positiveTTL))
            }
        }
        answer.needsAuthority = answer.answers.isEmpty
    }

    private func firstHost(notBefore address: IPAddress) -> Int {
        var low = 0
        var high = reverseHosts.count
        while low < high {
            let middle = (low + high) / 2
            if reverseHosts[middle].address < address { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// The name under which the records of `prefix` live; its length is whole octets or nibbles.
package func reverseName(_ prefix: IPPrefix) -> DNSName? {
    var labels: [[UInt8]] = []
    let bytes = prefix.address.bytes
    if prefix.address.isIPv4 {
        for byte in bytes.prefix(prefix.length / 8).reversed() {
            labels.append(Array(String(byte).utf8))
        }
        labels += [Array("in-addr".utf8), Array("arpa".utf8)]
    } else {
        let nibbles = bytes.flatMap { [$0 >> 4, $0 & 15] }
        for nibble in nibbles.prefix(prefix.length / 4).reversed() {
            labels.append(Array(String(nibble, radix: 16).utf8))
        }
        labels += [Array("ip6".utf8), Array("arpa".utf8)]
    }
    return DNSName(labels: labels)
}

/// The address block that a name in a reverse zone stands for; `nil` when a label is not a number
/// in its one canonical spelling.
func reversePrefix(of name: DNSName) -> IPPrefix? {
    var labels = Array(name.labels.reversed())
    guard labels.count > 2, text(labels[0]) == "arpa" else { return nil }
    let isIPv4 = text(labels[1]) == "in-addr"
    guard isIPv4 || text(labels[1]) == "ip6" else { return nil }
    labels.removeFirst(2)
    let radix = isIPv4 ? 10 : 16
    guard labels.count <= (isIPv4 ? 4 : 32) else { return nil }
    var digits: [UInt8] = []
    for label in labels {
        let spelling = text(label)
        guard let value = UInt8(spelling, radix: radix), isIPv4 || value < 16,
            String(value, radix: radix) == spelling
        else { return nil }
        digits.append(value)
    }
    let length = digits.count * (isIPv4 ? 8 : 4)
    digits += Array(repeating: 0, count: (isIPv4 ? 4 : 32) - digits.count)
    let bytes =
        isIPv4
        ? digits : stride(from: 0, to: 32, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    return IPAddress(bytes: bytes).flatMap { IPPrefix($0, length: length) }
}

private func text(_ label: ArraySlice<UInt8>) -> String {
    String(decoding: label.map(foldCase), as: UTF8.self)
}

extension IPAddress {
    /// The address with `index` added at bit `length`, for walking the blocks of a prefix.
    fileprivate func adding(_ index: UInt64, above length: Int) -> IPAddress? {
        guard length > 0 else { return self }
        switch self {
        case .v4(let value):
            return .v4(value | UInt32(truncatingIfNeeded: index) << UInt32(32 - length))
        case .v6(let high, let low):
            return length <= 64
                ? .v6(high | index << UInt64(64 - length), low)
                : .v6(high, low | index << UInt64(128 - length))
        }
    }
}
