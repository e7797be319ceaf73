/* The protobuf encoding of mvccpb.KeyValue, done by hand: it is on every path of the store. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

enum { KV_KEY = 1, KV_CREATE = 2, KV_MOD = 3, KV_VERSION = 4, KV_VALUE = 5, KV_LEASE = 6 };
enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

static size_t varint_len(uint64_t value)
{
    size_t len = 1;
    for (; value >= 0x80; value >>= 7)
        len++;
    return len;
}

static uint8_t *put_varint(uint8_t *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *p++ = (uint8_t)(value | 0x80);
    *p++ = (uint8_t)value;
    return p;
}

static uint8_t *put_number(uint8_t *p, int field, int64_t value)
{
    if (value == 0)
        return p;
    *p++ = (uint8_t)(field << 3 | WIRE_VARINT);
    return put_varint(p, (uint64_t)value);
}

static uint8_t *put_bytes(uint8_t *p, int field, struct kp_bytes bytes)
{
    if (bytes.len == 0)
        return p;
    *p++ = (uint8_t)(field << 3 | WIRE_BYTES);
    p = put_varint(p, bytes.len);
    memcpy(p, bytes.data, bytes.len);
    return p + bytes.len;
}

static size_t number_len(int64_t value) { return value ? 1 + varint_len((uint64_t)value) : 0; }
static size_t bytes_len(struct kp_bytes b) { return b.len ? 1 + varint_len(b.len) + b.len : 0; }

struct kp_blob *mvcc_kv_encode(const struct mvcc_kv *kv)
{
    size_t len = bytes_len(kv->key) + number_len(kv->create_revision) + number_len(kv->mod_revision) +
                 number_len(kv->version) + bytes_len(kv->value) + number_len(kv->lease);
    struct kp_blob *blob = kp_blob_new(NULL, len);
    uint8_t *p = put_bytes(blob->data, KV_KEY, kv->key);
    p = put_number(p, KV_CREATE, kv->create_revision);
    p = put_number(p, KV_MOD, kv->mod_revision);
    p = put_number(p, KV_VERSION, kv->version);
    p = put_bytes(p, KV_VALUE, kv->value);
    p = put_number(p, KV_LEASE, kv->lease);
    KP_ASSERT(p == blob->data + len);
    return blob;
}

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool set_number(struct mvcc_kv *kv, uint64_t field, int64_t value)
{
    switch (field) {
    case KV_CREATE: kv->create_revision = value; return true;
    case KV_MOD: kv->mod_revision = value; return true;
    case KV_VERSION: kv->version = value; return true;
    case KV_LEASE: kv->lease = value; return true;
    default: return false;
    }
}

int mvcc_kv_decode(struct kp_bytes record, struct mvcc_kv *ret_kv, struct kp_error *error)
{
    struct mvcc_kv kv = {0};
    const uint8_t *p = record.data, *end = record.data + record.len;
    while (p < end) {
        uint64_t tag, value;
        if (!get_varint(&p, end, &tag) || !get_varint(&p, end, &value))
            return kp_fail(error, KP_ECORRUPT, "stored key-value of %zu bytes is cut", record.len);
        bool good;
        if ((tag & 7) == WIRE_BYTES) {
            good = value <= (uint64_t)(end - p) && (tag >> 3 == KV_KEY || tag >> 3 == KV_VALUE);
            if (good) {
                struct kp_bytes bytes = {.data = p, .len = (size_t)value};
                *(tag >> 3 == KV_KEY ? &kv.key : &kv.value) = bytes;
                p += value;
            }
        } else {
            good = (tag & 7) == WIRE_VARINT && set_number(&kv, tag >> 3, (int64_t)value);
        }
        if (!good)
            return kp_fail(error, KP_ECORRUPT, "stored key-value has an unknown field (tag %llu)", (unsigned long long)tag);
    }
    *ret_kv = kv;
    return 0;
}

int mvcc_bytes_compare(struct kp_bytes a, struct kp_bytes b)
{
    size_t len = KP_MIN(a.len, b.len);
    int order = len ? memcmp(a.data, b.data, len) : 0;
    if (order)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

bool mvcc_in_range(struct kp_bytes key, struct kp_bytes start, struct kp_bytes range_end)
{
    if (range_end.len == 0)
        return mvcc_bytes_compare(key, start) == 0;
    if (mvcc_bytes_compare(key, start) < 0)
        return false;
    return (range_end.len == 1 && range_end.data[0] == 0) || mvcc_bytes_compare(key, range_end) < 0;
}
