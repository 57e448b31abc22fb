#include "CChecksum.h"

#include <string.h>

/* Compilers turn this into vector code of the widest registers that they may use. */
static inline __attribute__((always_inline)) uint64_t add_words(
    const uint8_t *bytes, size_t count, uint64_t sum) {
    for (size_t offset = 0; offset < count; offset += 4) {
        uint32_t word;
        memcpy(&word, bytes + offset, sizeof word);
        sum += word;
    }
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t add_words_avx2(
    const uint8_t *bytes, size_t count, uint64_t sum) {
    return add_words(bytes, count, sum);
}
#endif

uint64_t checksum_add_words(const uint8_t *bytes, size_t count, uint64_t sum) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return add_words_avx2(bytes, count, sum);
#endif
    return add_words(bytes, count, sum);
}
