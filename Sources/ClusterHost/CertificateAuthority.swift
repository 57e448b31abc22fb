import ClusterPlan
import Crypto
import FoundationEssentials
import MeshBase
import NetAddress
import SwiftASN1
import X509

/// The datastore's certificate authority: whoever holds its key can admit machines.
///
/// Certificates are valid from 1970 to 9999, because nothing here may depend on a machine's clock;
/// what ends a machine's access is the mesh (its membership), not a date.
struct CertificateAuthority {
    let certificate: Certificate
    private let key: P256.Signing.PrivateKey

    /// A new authority.
    init(name: String) throws(HostFailure) {
        key = P256.Signing.PrivateKey()
        let issuer = Certificate.PrivateKey(key)
        certificate = try wrapped("creating the authority") {
            let subject = try DistinguishedName { CommonName(name) }
            return try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(),
                publicKey: issuer.publicKey, notValidBefore: Validity.start,
                notValidAfter: Validity.end, issuer: subject, subject: subject,
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: issuer.publicKey)
                },
                issuerPrivateKey: issuer)
        }
    }

    /// The authority of a certificate and a 32-byte key that belong together.
    init(certificate der: [UInt8], key raw: [UInt8]) throws(HostFailure) {
        let parsed = try wrapped("reading the authority") {
            (try Certificate(derEncoded: der), try P256.Signing.PrivateKey(rawRepresentation: raw))
        }
        guard parsed.0.publicKey == Certificate.PublicKey(parsed.1.publicKey) else {
            throw HostFailure("the authority's key does not fit its certificate")
        }
        (certificate, key) = parsed
    }

    /// Secret: 32 bytes for a sealed grant or a 0600 file.
    var rawKey: [UInt8] { Array(key.rawRepresentation) }

    /// Signs a certificate for `identity` and the key in a certificate signing request. The names
    /// come from what the mesh knows about the machine, never from the request.
    func issue(
        for identity: HostIdentity, request: SigningRequest, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8] {
        let issuer = Certificate.PrivateKey(key)
        return try wrapped("signing a certificate") {
            let usage: [ExtendedKeyUsage.Usage] =
                role == .server ? [.serverAuth, .clientAuth] : [.clientAuth]
            let certificate = try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(),
                publicKey: request.publicKey, notValidBefore: Validity.start,
                notValidAfter: Validity.end, issuer: self.certificate.subject,
                subject: try DistinguishedName { CommonName(identity.commonName) },
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage(usage)
                    SubjectAlternativeNames(identity.alternativeNames)
                    AuthorityKeyIdentifier(
                        keyIdentifier: SubjectKeyIdentifier(hash: issuer.publicKey).keyIdentifier)
                },
                issuerPrivateKey: issuer)
            return try certificate.derBytes
        }
    }
}

/// A certificate signing request that its own P-256 key signed: proof that the asker has the key.
struct SigningRequest {
    fileprivate let publicKey: Certificate.PublicKey

    /// `nil` when the bytes are no such request. They come from another machine.
    init?(der: [UInt8]) {
        guard let request = try? CertificateSigningRequest(derEncoded: der),
            P256.Signing.PublicKey(request.publicKey) != nil,
            request.publicKey.isValidSignature(request.signature, for: request)
        else { return nil }
        publicKey = request.publicKey
    }
}

/// The key of this machine in the datastore. It is made once and never leaves.
struct HostKey {
    private let key: P256.Signing.PrivateKey

    init() {
        key = P256.Signing.PrivateKey()
    }

    init(pem: String) throws(HostFailure) {
        key = try wrapped("reading the datastore key") {
            try P256.Signing.PrivateKey(pemRepresentation: pem)
        }
    }

    /// Secret: for a 0600 file.
    var pem: String { key.pemRepresentation }

    /// A DER certificate signing request that names the machine's mesh addresses.
    func request(for identity: HostIdentity) throws(HostFailure) -> [UInt8] {
        try wrapped("making a certificate request") {
            let names = try Certificate.Extensions {
                SubjectAlternativeNames(identity.alternativeNames)
            }
            let request = try CertificateSigningRequest(
                version: .v1, subject: try DistinguishedName { CommonName(identity.commonName) },
                privateKey: Certificate.PrivateKey(key),
                attributes: try CertificateSigningRequest.Attributes([
                    .init(ExtensionRequest(extensions: names))
                ]),
                signatureAlgorithm: .ecdsaWithSHA256)
            var serializer = DER.Serializer()
            try serializer.serialize(request)
            return serializer.serializedBytes
        }
    }

    /// Checks that `certificate` is for this key and `identity`, and that `authority` signed it.
    func check(
        certificate der: [UInt8], authority: [UInt8], identity: HostIdentity
    ) throws(HostFailure) {
        let pair = try wrapped("reading the granted certificate") {
            (try Certificate(derEncoded: der), try Certificate(derEncoded: authority))
        }
        let names = try wrapped("reading the granted names") {
            try pair.0.extensions.subjectAlternativeNames
        }
        guard pair.1.publicKey.isValidSignature(pair.0.signature, for: pair.0) else {
            throw HostFailure("the granted certificate is not signed by the authority")
        }
        guard pair.0.publicKey == Certificate.PublicKey(key.publicKey) else {
            throw HostFailure("the granted certificate is for another key")
        }
        let expected = Set(identity.alternativeNames)
        guard let names, expected.isSubset(of: names) else {
            throw HostFailure("the granted certificate does not name this machine's addresses")
        }
    }
}

extension HostIdentity {
    /// X.520 allows a common name 64 characters; the member's name may have 70.
    fileprivate var commonName: String { String(name.suffix(64)) }

    /// The mesh addresses and the name. Loopback is among them since a datastore checks the source
    /// address of a peer against its certificate, and members that share a machine meet there.
    fileprivate var alternativeNames: [GeneralName] {
        [
            .ipAddress(ASN1OctetString(contentBytes: ipv4.bytes[...])),
            .ipAddress(ASN1OctetString(contentBytes: ipv6.bytes[...])),
            .dnsName(dnsName),
            .ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1])),
        ]
    }
}

private enum Validity {
    static let start = Date(timeIntervalSince1970: 0)
    /// 9999-12-31T23:59:59Z, the value of "no expiry" (RFC 5280 section 4.1.2.5).
    static let end = Date(timeIntervalSince1970: 253_402_300_799)
}

extension Certificate {
    var derBytes: [UInt8] {
        get throws {
            var serializer = DER.Serializer()
            try serializer.serialize(self)
            return serializer.serializedBytes
        }
    }
}

/// The PEM text of a DER certificate.
func certificatePEM(_ der: [UInt8]) -> String {
    PEMDocument(type: "CERTIFICATE", derBytes: der).pemString + "\n"
}

/// The DER bytes in a PEM certificate.
func certificateDER(_ pem: String) throws(HostFailure) -> [UInt8] {
    try wrapped("reading a certificate") { try PEMDocument(pemString: pem).derBytes }
}

/// Turns the libraries' errors, which may quote input at length, into one sentence.
private func wrapped<Value>(
    _ doing: String, _ body: () throws -> Value
) throws(HostFailure) -> Value {
    do {
        return try body()
    } catch let failure as HostFailure {
        throw failure
    } catch {
        throw HostFailure("\(doing) failed: \(type(of: error))")
    }
}
