/* Little-endian writing and bounds-checked reading, for the encodings of this folder. */
#ifndef ETCD_RAFT_BYTES_INTERNAL_H
#define ETCD_RAFT_BYTES_INTERNAL_H

#include "base/base.h"

static inline void put_u8(struct kp_buf *out, uint8_t v) { kp_buf_append(out, &v, 1); }

static inline void put_u32(struct kp_buf *out, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    kp_buf_append(out, b, sizeof(b));
}

static inline void put_u64(struct kp_buf *out, uint64_t v)
{
    put_u32(out, (uint32_t)v);
    put_u32(out, (uint32_t)(v >> 32));
}

/* A cursor: once bad, it stays bad and gives zeroes, so that callers check once at the end. */
struct cursor {
    const uint8_t *data;
    size_t left;
    bool bad;
};

static inline const uint8_t *get_bytes(struct cursor *in, size_t len)
{
    if (in->bad || in->left < len) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *at = in->data;
    in->data += len;
    in->left -= len;
    return at;
}

static inline uint8_t get_u8(struct cursor *in)
{
    const uint8_t *b = get_bytes(in, 1);
    return b ? b[0] : 0;
}

static inline uint32_t get_u32(struct cursor *in)
{
    const uint8_t *b = get_bytes(in, 4);
    return b ? (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24 : 0;
}

static inline uint64_t get_u64(struct cursor *in)
{
    uint64_t low = get_u32(in);
    return low | (uint64_t)get_u32(in) << 32;
}

/* 0 or 1; anything else is bad, so that every value has one encoding. */
static inline bool get_bool(struct cursor *in)
{
    uint8_t v = get_u8(in);
    if (v > 1)
        in->bad = true;
    return v == 1;
}

#endif
