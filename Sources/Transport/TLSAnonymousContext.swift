import COpenSSL

/// TLS whose ends do not ask who the other one is: for carrying what authenticates itself through
/// networks that let nothing but TLS pass. It keeps nothing secret from whoever sits in between.
package final class TLSAnonymousContext: @unchecked Sendable {
    /// Written once; OpenSSL counts and locks what sessions share of it.
    let pointer: OpaquePointer
    let isServer: Bool

    /// A server shows a certificate that it has signed itself. `nil` when the library cannot start.
    package init?(isServer: Bool) {
        guard
            let context = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method())
        else { return nil }
        pointer = context
        self.isServer = isServer
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        guard copenssl_require_tls12(context) == 1,
            !isServer || copenssl_use_own_certificate(context) == 1
        else { return nil }
    }

    deinit {
        SSL_CTX_free(pointer)
    }
}
