#include "CChecksum.h"

#include <string.h>

#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
uint64_t checksum_add_words(const uint8_t *bytes, size_t count, uint64_t sum) {
    for (size_t offset = 0; offset < count; offset += 4) {
        uint32_t word;
        memcpy(&word, bytes + offset, sizeof word);
        sum += word;
    }
    return sum;
}
