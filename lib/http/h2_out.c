/* What a connection is about to write in one go: small pieces are copied next to each other, large ones referred to. */
#include "lib/http/server_internal.h"

#define COPIED_BYTES_MAX ((size_t)48 << 10) /* joined up to this much, */
#define BYTES_MAX ((size_t)256 << 10)       /* with what is referred to up to this */
#define REFERRED_BYTES_MIN 2048             /* below, copying costs less than one more part */

bool h2_out_is_full(const struct h2_out *out)
{
    return out->copied.len >= COPIED_BYTES_MAX || out->bytes >= BYTES_MAX || out->parts_len >= LOOP_PARTS_MAX - 1;
}

void h2_out_copy(struct h2_out *out, const void *data, size_t len)
{
    struct http_slice *last = out->parts_len ? &out->parts[out->parts_len - 1] : NULL;
    if (!last || last->blob) {
        KP_ASSERT(out->parts_len < LOOP_PARTS_MAX);
        last = &out->parts[out->parts_len++];
        *last = (struct http_slice){ .offset = out->copied.len };
    }
    kp_buf_append(&out->copied, data, len);
    last->len += len;
    out->bytes += len;
}

void h2_out_take(struct h2_out *out, const struct http_slice *slice, bool may_refer)
{
    if (may_refer && slice->len >= REFERRED_BYTES_MIN && out->parts_len < LOOP_PARTS_MAX - 1) {
        out->parts[out->parts_len++] = *slice;
        out->bytes += slice->len;
        return;
    }
    h2_out_copy(out, slice->blob->data + slice->offset, slice->len);
    kp_blob_unref(slice->blob);
}

void h2_out_write(struct h2_out *out, struct transport *transport)
{
    struct loop_part parts[LOOP_PARTS_MAX];
    if (out->parts_len == 1 && !out->parts[0].blob) {
        transport_write(transport, out->copied.data, out->copied.len);
    } else if (out->parts_len) {
        for (size_t i = 0; i < out->parts_len; i++) {
            const struct http_slice *part = &out->parts[i];
            const uint8_t *base = part->blob ? part->blob->data : (const uint8_t *)out->copied.data;
            parts[i] = (struct loop_part){ .data = base + part->offset, .len = part->len, .blob = part->blob };
        }
        transport_write_parts(transport, parts, out->parts_len);
    }
    for (size_t i = 0; i < out->parts_len; i++)
        kp_blob_unref(out->parts[i].blob);
    out->parts_len = out->bytes = out->copied.len = 0;
}
