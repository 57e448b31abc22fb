#include "internal.h"
#include <sodium.h>

static void seal_chacha(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    (void)engine;
    uint8_t nonce[12];
    nonce_little(nonce, counter);
    crypto_aead_chacha20poly1305_ietf_encrypt(
        output, NULL, input, count, NULL, 0, NULL, nonce, key_part(key, KEY_RAW));
}

static int open_chacha(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    (void)engine;
    uint8_t nonce[12];
    nonce_little(nonce, counter);
    return crypto_aead_chacha20poly1305_ietf_decrypt(
        output, NULL, NULL, input, count, NULL, 0, nonce, key_part(key, KEY_RAW));
}

static void seal_aes(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    (void)engine;
    uint8_t nonce[12];
    nonce_big(nonce, counter);
    crypto_aead_aes256gcm_encrypt_afternm(
        output, NULL, input, count, NULL, 0, NULL, nonce,
        (const crypto_aead_aes256gcm_state *)key_part(key, KEY_SODIUM_AES));
}

static int open_aes(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    (void)engine;
    uint8_t nonce[12];
    nonce_big(nonce, counter);
    return crypto_aead_aes256gcm_decrypt_afternm(
        output, NULL, NULL, input, count, NULL, 0, nonce,
        (const crypto_aead_aes256gcm_state *)key_part(key, KEY_SODIUM_AES));
}

int packet_engine_start(struct packet_engine *engine, enum packet_implementation implementation) {
    if (sodium_init() < 0) return -1;
    memset(engine, 0, sizeof *engine);
    engine->implementation = implementation;
    if (implementation == PACKET_IPSEC_MB) return ipsec_mb_start(engine);
    engine->seal_chacha = seal_chacha;
    engine->open_chacha = open_chacha;
    if (crypto_aead_aes256gcm_is_available()) {
        engine->seal_aes = seal_aes;
        engine->open_aes = open_aes;
    }
    return 0;
}

void packet_engine_stop(struct packet_engine *engine) {
    if (engine->implementation == PACKET_IPSEC_MB) ipsec_mb_stop(engine);
    memset(engine, 0, sizeof *engine);
}

void packet_key_prepare(packet_key *key, const uint8_t *raw, int for_aes) {
    _Static_assert(sizeof(crypto_aead_aes256gcm_state) <= 512, "the key layout reserves 512");
    uint8_t *bytes = key;
    memcpy(bytes + KEY_RAW, raw, 32);
    if (!for_aes) return;
    if (sodium_init() >= 0 && crypto_aead_aes256gcm_is_available()) {
        crypto_aead_aes256gcm_beforenm(
            (crypto_aead_aes256gcm_state *)(bytes + KEY_SODIUM_AES), raw);
    }
    ipsec_mb_expand_aes(bytes + KEY_IPSEC_MB_AES, raw);
}
