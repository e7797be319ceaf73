/* Names and encodings in a database of stock etcd. */
#ifndef ETCD_SNAPSHOT_INTERNAL_H
#define ETCD_SNAPSHOT_INTERNAL_H

#include "controlplane/etcd/snapshot/snapshot.h"

/* Key of a revision: main (8 bytes, big endian), '_', sub (8 bytes, big endian), and 't' behind it for a deletion. */
#define REVISION_BYTES 17
#define TOMBSTONE_BYTES 18

/* The version of storage that is written. 3.5 reads it, and 3.6 takes it over; only from 3.6 on is it kept in meta, where
   its absence says 3.5. */
#define STORAGE_VERSION "3.5.0"

static inline void put_be64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}
static inline uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}
static inline struct kp_bytes bytes_of_text(const char *s)
{
    return (struct kp_bytes){.data = (const uint8_t *)s, .len = strlen(s)};
}

/* Messages of numbers alone (a lease, an alarm): field -> value, fields below 8. */
#define NUMBERS_MAX 8
void numbers_put(struct kp_buf *out, unsigned field, uint64_t value); /* 0 is left out */
bool numbers_parse(struct kp_bytes message, uint64_t ret_fields[NUMBERS_MAX]);

#endif
