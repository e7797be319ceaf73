/* Protobuf messages whose fields are all numbers. */
#include "controlplane/etcd/snapshot/snapshot_internal.h"

static void put_varint(struct kp_buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        kp_buf_putc(out, (char)(value | 0x80));
    kp_buf_putc(out, (char)value);
}

void numbers_put(struct kp_buf *out, unsigned field, uint64_t value)
{
    if (value == 0)
        return;
    kp_buf_putc(out, (char)(field << 3));
    put_varint(out, value);
}

static bool get_varint(struct kp_bytes *rest, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && rest->len > 0; shift += 7) {
        uint8_t byte = *rest->data++;
        rest->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

bool numbers_parse(struct kp_bytes message, uint64_t ret_fields[NUMBERS_MAX])
{
    memset(ret_fields, 0, NUMBERS_MAX * sizeof *ret_fields);
    while (message.len > 0) {
        uint64_t tag, value;
        if (!get_varint(&message, &tag) || !get_varint(&message, &value) || (tag & 7) != 0)
            return false;
        if (tag >> 3 > 0 && tag >> 3 < NUMBERS_MAX)
            ret_fields[tag >> 3] = value;
    }
    return true;
}
