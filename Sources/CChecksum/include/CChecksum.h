#ifndef CCHECKSUM_H
#define CCHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds count bytes, a multiple of 4, to an Internet checksum (RFC 1071) as native 32-bit words. It
   is C because a C compiler makes it once for each width of vector registers and the loader
   chooses; Swift has no such choice. */
uint64_t checksum_add_words(const uint8_t *bytes, size_t count, uint64_t sum);

#endif
