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

/* 0 if two tags are the same, else -1, in constant time. */
static inline int compare_tags(const uint8_t *first, const uint8_t *second) {
    uint64_t a[2], b[2];
    memcpy(a, first, sizeof a);
    memcpy(b, second, sizeof b);
    uint64_t difference = (a[0] ^ b[0]) | (a[1] ^ b[1]);
    /* Hides the value from the compiler, which could branch on a part of it otherwise. */
    __asm__ volatile("" : "+r"(difference));
    return -(int)((difference | (0 - difference)) >> 63);
}

int ipsec_mb_start(struct packet_engine *engine);
void ipsec_mb_stop(struct packet_engine *engine);
void ipsec_mb_expand_aes(void *destination, const uint8_t *raw);

#endif
