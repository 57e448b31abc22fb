import COpenSSL

/// One TLS connection, without sockets: bytes of the wire in and out, bytes of the conversation in
/// and out. Used by one thread at a time.
///
/// Nothing that was said leaves before the handshake is over: a client's before the server has
/// proved who it is, where its context asks for that.
package final class TLSSession {
    private let session: OpaquePointer
    /// Owned by the session.
    private let fromWire: OpaquePointer
    private let toWire: OpaquePointer
    /// Said before the handshake was over.
    private var early: [UInt8] = []
    private var isOpen = false
    /// Why nothing can come of it any more.
    package private(set) var failure: String?
    /// The other end will say no more.
    package private(set) var hasEnded = false

    private init?(_ context: OpaquePointer) {
        guard let session = SSL_new(context) else { return nil }
        guard let fromWire = BIO_new(BIO_s_mem()), let toWire = BIO_new(BIO_s_mem()) else {
            SSL_free(session)
            return nil
        }
        SSL_set_bio(session, fromWire, toWire)
        self.session = session
        self.fromWire = fromWire
        self.toWire = toWire
    }

    /// A client's.
    ///
    /// - Parameters:
    ///   - name: what the server's certificate must be for: a DNS name, or an address in text.
    ///   - isAddress: which of both it is.
    package convenience init?(_ context: TLSClientContext, name: String, isAddress: Bool) {
        self.init(context.pointer)
        let isSet =
            isAddress
            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name) == 1
            : SSL_set1_host(session, name) == 1 && copenssl_set_server_name(session, name) == 1
        guard isSet else { return nil }
        SSL_set_connect_state(session)
        advance()
    }

    /// A client's or server's that does not ask who the other one is.
    package convenience init?(_ context: TLSAnonymousContext) {
        self.init(context.pointer)
        if context.isServer {
            SSL_set_accept_state(session)
        } else {
            SSL_set_connect_state(session)
        }
        advance()
    }

    deinit {
        SSL_free(session)
    }

    /// Takes bytes that arrived and appends what they say to `plain`.
    package func receive(_ bytes: [UInt8], into plain: inout [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty, failure == nil {
            let taken = rest.withUnsafeBytes {
                BIO_write(fromWire, $0.baseAddress, Int32(clamping: $0.count))
            }
            guard taken > 0 else { return fail("no memory") }
            rest = rest.dropFirst(Int(taken))
            advance()
        }
        guard isOpen else { return }
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while failure == nil {
            ERR_clear_error()
            let count = SSL_read(session, &chunk, Int32(chunk.count))
            guard count > 0 else {
                judge(count)
                return
            }
            plain.append(contentsOf: chunk[..<Int(count)])
        }
    }

    /// Says `bytes`, now or as soon as the server is known.
    package func send(_ bytes: [UInt8]) {
        guard isOpen else {
            early += bytes
            return
        }
        guard failure == nil, !bytes.isEmpty else { return }
        ERR_clear_error()
        // A memory buffer takes everything at once.
        let count = SSL_write(session, bytes, Int32(clamping: bytes.count))
        if count <= 0 { judge(count) }
    }

    /// What has to go onto the wire.
    package func takeOutput() -> [UInt8] {
        let waiting = BIO_ctrl_pending(toWire)
        guard waiting > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: waiting) { room, count in
            count = max(0, Int(BIO_read(toWire, room.baseAddress, Int32(clamping: waiting))))
        }
    }

    private func advance() {
        guard !isOpen, failure == nil else { return }
        ERR_clear_error()
        let result = SSL_do_handshake(session)
        guard result == 1 else { return judge(result) }
        isOpen = true
        let said = early
        early = []
        send(said)
    }

    private func judge(_ result: Int32) {
        switch SSL_get_error(session, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
        case SSL_ERROR_ZERO_RETURN: hasEnded = true
        default:
            let verdict = SSL_get_verify_result(session)
            let reason =
                verdict == X509_V_OK
                ? ERR_reason_error_string(ERR_peek_error()).map { String(cString: $0) }
                : X509_verify_cert_error_string(verdict).map { String(cString: $0) }
            fail(reason ?? "the connection broke")
        }
    }

    private func fail(_ reason: String) {
        failure = reason
    }
}
