#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// These are macros, which Swift does not see.

static inline long copenssl_require_tls12(SSL_CTX *context) {
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

static inline long copenssl_set_server_name(SSL *session, const char *name) {
    return SSL_set_tlsext_host_name(session, name);
}

/* Makes a P-256 key and a certificate for ten years that it signs itself; 1 when it worked. */
static inline int copenssl_use_own_certificate(SSL_CTX *context) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    int worked = 0;
    if (key != NULL && certificate != NULL) {
        X509_NAME *name = X509_get_subject_name(certificate);
        worked = X509_set_version(certificate, 2) == 1 &&
                 ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
                 X509_gmtime_adj(X509_getm_notBefore(certificate), -86400) != NULL &&
                 X509_gmtime_adj(X509_getm_notAfter(certificate), 315360000L) != NULL &&
                 X509_NAME_add_entry_by_txt(
                     name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0) == 1 &&
                 X509_set_issuer_name(certificate, name) == 1 &&
                 X509_set_pubkey(certificate, key) == 1 &&
                 X509_sign(certificate, key, EVP_sha256()) > 0 &&
                 SSL_CTX_use_certificate(context, certificate) == 1 &&
                 SSL_CTX_use_PrivateKey(context, key) == 1;
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return worked;
}
