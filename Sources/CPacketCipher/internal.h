#ifndef CPACKETCIPHER_INTERNAL_H
#define CPACKETCIPHER_INTERNAL_H

#include "CPacketCipher.h"
#include <string.h>

/* Where each form of a key lies inside PACKET_KEY_BYTES. */
enum { KEY_RAW = 0, KEY_SODIUM_AES = 64, KEY_IPSEC_MB_AES = 64 + 512 };

static inline const uint8_t *key_part(const packet_key *key, size_t offset) {
    return (const uint8_t *)key + offset;
}

static inline void nonce_little(uint8_t nonce[12], uint64_t counter) {
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(counter >> (8 * i));
}

static inline void nonce_big(uint8_t nonce[12], uint64_t counter) {
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(counter >> (56 - 8 * i));
}

int ipsec_mb_start(struct packet_engine *engine);
void ipsec_mb_stop(struct packet_engine *engine);
void ipsec_mb_expand_aes(void *destination, const uint8_t *raw);

#endif
