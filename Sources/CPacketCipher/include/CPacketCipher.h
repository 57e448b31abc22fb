#ifndef CPACKETCIPHER_H
#define CPACKETCIPHER_H

#include <stddef.h>
#include <stdint.h>

/*
 * The two packet suites over interchangeable implementations, each called through one function
 * pointer. Nonces are built here as the Noise specification says: four zero bytes, then the 64-bit
 * counter, little-endian for ChaCha20-Poly1305 and big-endian for AES-256-GCM.
 */

enum {
    PACKET_TAG_BYTES = 16,
    /* Room for one key in every form that an implementation wants: 32 raw bytes, libsodium's
       expanded AES key (512), IPsec-MB's (1,024). A multiple of 64 keeps each part aligned. */
    PACKET_KEY_BYTES = 64 + 512 + 1024,
    /* The part that ChaCha20-Poly1305 needs. */
    PACKET_KEY_RAW_BYTES = 64,
};

/* One direction's key, prepared by packet_key_prepare. Aligned to 64 bytes. */
typedef void packet_key;

struct packet_engine;

/* Writes count bytes of ciphertext and 16 of tag to output; input and output must not overlap. */
typedef void (*packet_seal_function)(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output);

/* Takes count bytes of ciphertext and tag; writes count - 16 bytes of plaintext. Input and output
   are the same or do not overlap. Returns 0, or -1 when the tag is wrong: then the output is garbage
   and must not be used. */
typedef int (*packet_open_function)(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output);

enum packet_implementation {
    PACKET_SODIUM = 0,
    PACKET_IPSEC_MB = 1,
};

/* One thread's engine: an engine may hold per-thread scratch and must stay on its thread. */
struct packet_engine {
    enum packet_implementation implementation;
    /* The library's per-thread manager, or NULL. */
    void *manager;
    packet_seal_function seal_chacha;
    packet_open_function open_chacha;
    /* NULL when this machine has no constant-time AES for this implementation. */
    packet_seal_function seal_aes;
    packet_open_function open_aes;
};

/* Fills *engine; returns 0, or -1 when the implementation is absent from this machine. */
int packet_engine_start(struct packet_engine *engine, enum packet_implementation implementation);
void packet_engine_stop(struct packet_engine *engine);

/* Writes PACKET_KEY_RAW_BYTES at key, or, with the AES schedules, PACKET_KEY_BYTES. */
void packet_key_prepare(packet_key *key, const uint8_t *raw, int for_aes);

#endif
