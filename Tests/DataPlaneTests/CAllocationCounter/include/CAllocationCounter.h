#ifndef CALLOCATIONCOUNTER_H
#define CALLOCATIONCOUNTER_H

#include <stdint.h>

/* How often this thread has asked for heap memory. 0 for ever under a sanitizer, which has an
   allocator of its own. */
uint64_t allocation_count(void);
int allocation_count_works(void);

#endif
