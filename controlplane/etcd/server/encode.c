/* Writing protobuf by hand where stored records go out as they are. */
#include "controlplane/etcd/server/encode_internal.h"

static void put_varint(struct kp_buf *out, uint64_t value)
{
    char bytes[10];
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[len++] = (char)(value | 0x80);
    bytes[len++] = (char)value;
    kp_buf_append(out, bytes, len);
}

void encode_number(struct kp_buf *out, unsigned field, int64_t value)
{
    if (value == 0)
        return;
    put_varint(out, field << 3);
    put_varint(out, (uint64_t)value);
}

void encode_message(struct kp_buf *out, unsigned field, const void *data, size_t len)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, len);
    if (len)
        kp_buf_append(out, data, len);
}

void encode_bytes(struct kp_buf *out, unsigned field, const void *data, size_t len)
{
    if (len)
        encode_message(out, field, data, len);
}

/* The length is written into a fixed room of five bytes: a longer varint than needed is valid protobuf, and nothing
   has to be moved. */
#define LENGTH_ROOM 5
size_t encode_begin(struct kp_buf *out, unsigned field)
{
    put_varint(out, field << 3 | 2);
    kp_buf_append(out, "\0\0\0\0\0", LENGTH_ROOM);
    return out->len;
}

void encode_end(struct kp_buf *out, size_t begin)
{
    size_t len = out->len - begin;
    uint8_t *p = (uint8_t *)out->data + begin - LENGTH_ROOM;
    for (int i = 0; i < LENGTH_ROOM - 1; i++, len >>= 7)
        p[i] = (uint8_t)(len | 0x80);
    KP_ASSERT(len < 0x80);
    p[LENGTH_ROOM - 1] = (uint8_t)len;
}

void encode_range(struct kp_buf *out, const struct mvcc_range_result *result, bool keys_only)
{
    size_t total = 0;
    for (size_t i = 0; !keys_only && i < result->len; i++)
        total += result->items[i].record.len + 8;
    kp_buf_reserve(out, total + 64);
    for (size_t i = 0; i < result->len; i++) {
        const struct mvcc_item *item = &result->items[i];
        if (keys_only) {
            struct kp_blob *bare = mvcc_kv_encode(&item->kv);
            encode_message(out, 2, bare->data, bare->len);
            kp_blob_unref(bare);
        } else {
            encode_message(out, 2, item->record.data, item->record.len);
        }
    }
    encode_number(out, 3, result->more);
    encode_number(out, 4, result->count);
}

/* Of a message in a field below 16. */
static size_t message_bytes(size_t len)
{
    size_t bytes = 2 + len;
    for (size_t rest = len; rest >= 0x80; rest >>= 7)
        bytes++;
    return bytes;
}

void encode_event(struct kp_buf *out, unsigned field, const struct mvcc_event *event, bool with_prev)
{
    const struct kp_blob *prev = with_prev ? event->prev : NULL;
    size_t len = (event->is_delete ? 2 : 0) + message_bytes(event->record->len) + (prev ? message_bytes(prev->len) : 0);
    put_varint(out, field << 3 | 2);
    put_varint(out, len);
    encode_number(out, 1, event->is_delete);
    encode_message(out, 2, event->record->data, event->record->len);
    if (prev)
        encode_message(out, 3, prev->data, prev->len);
}

#define FRAME_HEADER 5 /* a compression flag and the length, big endian */
void frame_begin(struct kp_buf *out)
{
    KP_ASSERT(out->len == 0);
    kp_buf_append(out, "\0\0\0\0\0", FRAME_HEADER);
}

struct kp_blob *frame_take(struct kp_buf *out)
{
    KP_ASSERT(out->len >= FRAME_HEADER && out->len - FRAME_HEADER <= UINT32_MAX);
    uint32_t len = (uint32_t)(out->len - FRAME_HEADER);
    struct kp_blob *blob = kp_blob_new(out->data, out->len);
    for (int i = 0; i < 4; i++)
        blob->data[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    kp_buf_done(out);
    return blob;
}
