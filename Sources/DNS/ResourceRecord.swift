import NetAddress

/// A TYPE or QTYPE number (RFC 1035 section 3.2.2 and IANA's registry).
package struct RecordType: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16

    package init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    package static let a = RecordType(rawValue: 1)
    package static let ns = RecordType(rawValue: 2)
    package static let cname = RecordType(rawValue: 5)
    package static let soa = RecordType(rawValue: 6)
    package static let ptr = RecordType(rawValue: 12)
    package static let hinfo = RecordType(rawValue: 13)
    package static let mx = RecordType(rawValue: 15)
    package static let txt = RecordType(rawValue: 16)
    package static let aaaa = RecordType(rawValue: 28)
    package static let srv = RecordType(rawValue: 33)
    package static let naptr = RecordType(rawValue: 35)
    package static let dname = RecordType(rawValue: 39)
    package static let opt = RecordType(rawValue: 41)
    package static let ds = RecordType(rawValue: 43)
    package static let rrsig = RecordType(rawValue: 46)
    package static let nsec = RecordType(rawValue: 47)
    package static let dnskey = RecordType(rawValue: 48)
    package static let nsec3 = RecordType(rawValue: 50)
    package static let nsec3Parameters = RecordType(rawValue: 51)
    package static let tlsa = RecordType(rawValue: 52)
    package static let svcb = RecordType(rawValue: 64)
    package static let https = RecordType(rawValue: 65)
    package static let ixfr = RecordType(rawValue: 251)
    package static let axfr = RecordType(rawValue: 252)
    package static let any = RecordType(rawValue: 255)
    package static let caa = RecordType(rawValue: 257)
}

/// A CLASS or QCLASS number. In multicast DNS the top bit is not part of the class: it asks for a
/// unicast response in a question and flushes caches in a record (RFC 6762 section 18.12, 18.13).
package struct RecordClass: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16

    package init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    package static let internet = RecordClass(rawValue: 1)
    package static let any = RecordClass(rawValue: 255)

    /// The class with multicast DNS's top bit set.
    package var marked: RecordClass { RecordClass(rawValue: rawValue | 0x8000) }
    package var unmarked: RecordClass { RecordClass(rawValue: rawValue & 0x7FFF) }
    package var isMarked: Bool { rawValue & 0x8000 != 0 }
}

/// RCODE with the eight upper bits that EDNS adds (RFC 6891 section 6.1.3).
package struct ResponseCode: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16

    package init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    package static let noError = ResponseCode(rawValue: 0)
    package static let formatError = ResponseCode(rawValue: 1)
    package static let serverFailure = ResponseCode(rawValue: 2)
    package static let nameError = ResponseCode(rawValue: 3)
    package static let notImplemented = ResponseCode(rawValue: 4)
    package static let refused = ResponseCode(rawValue: 5)
    /// BADVERS (RFC 6891 section 9).
    package static let badVersion = ResponseCode(rawValue: 16)
}

/// The second header word (RFC 1035 section 4.1.1, RFC 4035 section 3 for AD and CD).
package struct DNSFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt16

    package init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    package static let response = DNSFlags(rawValue: 0x8000)
    package static let authoritative = DNSFlags(rawValue: 0x0400)
    package static let truncated = DNSFlags(rawValue: 0x0200)
    package static let recursionDesired = DNSFlags(rawValue: 0x0100)
    package static let recursionAvailable = DNSFlags(rawValue: 0x0080)
    package static let authenticData = DNSFlags(rawValue: 0x0020)
    package static let checkingDisabled = DNSFlags(rawValue: 0x0010)

    package var opcode: UInt8 { UInt8(rawValue >> 11 & 15) }
    /// The four low bits of the response code.
    package var code: ResponseCode { ResponseCode(rawValue: rawValue & 15) }

    package func with(_ code: ResponseCode) -> DNSFlags {
        DNSFlags(rawValue: rawValue & 0xFFF0 | code.rawValue & 15)
    }
}

/// What is asked.
package struct DNSQuestion: Hashable, Sendable {
    package var name: DNSName
    package var type: RecordType
    package var recordClass: RecordClass

    package init(_ name: DNSName, _ type: RecordType, recordClass: RecordClass = .internet) {
        self.name = name
        self.type = type
        self.recordClass = recordClass
    }
}

/// One resource record.
package struct ResourceRecord: Hashable, Sendable {
    package var name: DNSName
    package var recordClass: RecordClass
    /// Seconds. A value with the top bit set reads as 0 (RFC 2181 section 8).
    package var ttl: UInt32
    package var data: RecordData

    package init(
        _ name: DNSName, _ data: RecordData, ttl: UInt32, recordClass: RecordClass = .internet
    ) {
        self.name = name
        self.data = data
        self.ttl = ttl
        self.recordClass = recordClass
    }

    package var type: RecordType { data.type }
}

/// The data of a record. Types without a case of their own travel as ``opaque`` (RFC 3597).
package enum RecordData: Hashable, Sendable {
    /// A or AAAA, by family.
    case address(IPAddress)
    case ns(DNSName)
    case cname(DNSName)
    case ptr(DNSName)
    case soa(StartOfAuthority)
    case mx(preference: UInt16, exchange: DNSName)
    /// Character strings of at most 255 bytes each.
    case txt([[UInt8]])
    case srv(ServiceLocation)
    case opaque(RecordType, [UInt8])

    package var type: RecordType {
        switch self {
        case .address(let ip): ip.isIPv4 ? .a : .aaaa
        case .ns: .ns
        case .cname: .cname
        case .ptr: .ptr
        case .soa: .soa
        case .mx: .mx
        case .txt: .txt
        case .srv: .srv
        case .opaque(let type, _): type
        }
    }
}

/// The data of an SOA record (RFC 1035 section 3.3.13); times in seconds.
package struct StartOfAuthority: Hashable, Sendable {
    package var primary: DNSName
    package var mailbox: DNSName
    package var serial: UInt32
    package var refresh: UInt32
    package var retry: UInt32
    package var expire: UInt32
    /// How long a negative answer may be kept (RFC 2308 section 4).
    package var minimum: UInt32

    package init(
        primary: DNSName, mailbox: DNSName, serial: UInt32, refresh: UInt32, retry: UInt32,
        expire: UInt32, minimum: UInt32
    ) {
        self.primary = primary
        self.mailbox = mailbox
        self.serial = serial
        self.refresh = refresh
        self.retry = retry
        self.expire = expire
        self.minimum = minimum
    }
}

/// The data of an SRV record (RFC 2782).
package struct ServiceLocation: Hashable, Sendable {
    package var priority: UInt16
    package var weight: UInt16
    package var port: UInt16
    package var target: DNSName

    package init(priority: UInt16 = 0, weight: UInt16 = 0, port: UInt16, target: DNSName) {
        self.priority = priority
        self.weight = weight
        self.port = port
        self.target = target
    }
}
