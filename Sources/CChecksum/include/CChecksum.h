#ifndef CCHECKSUM_H
#define CCHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds count bytes, a multiple of 4, to an Internet checksum (RFC 1071) as native 32-bit words. It
   is C because a C compiler makes it for wider vector registers than the processor must have, and
   chooses when it runs. */
uint64_t checksum_add_words(const uint8_t *bytes, size_t count, uint64_t sum);

#endif
