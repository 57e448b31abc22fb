import COpenSSL

/// What TLS clients of this program share: the trusted authorities, and TLS 1.2 at least
/// (RFC 8310 section 9, RFC 9325 section 3.1.1).
package final class TLSClientContext: @unchecked Sendable {
    /// Written once; OpenSSL counts and locks what sessions share of it.
    let pointer: OpaquePointer

    /// Trusts the machine's authorities, or those in SSL_CERT_FILE and SSL_CERT_DIR
    /// (openssl-env(7)). `nil` when the library cannot start.
    package init?() {
        guard let context = SSL_CTX_new(TLS_client_method()) else { return nil }
        pointer = context
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        guard copenssl_require_tls12(context) == 1, SSL_CTX_set_default_verify_paths(context) == 1
        else { return nil }
    }

    deinit {
        SSL_CTX_free(pointer)
    }
}
