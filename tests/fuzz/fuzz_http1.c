/* HTTP/1 heads and bodies: no crash, and the same result however the bytes are cut up. */
#include "lib/http/h1_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int run_body(const uint8_t *data, size_t len, size_t step, struct kp_buf *out)
{
    struct h1_body body = { 0 };
    int status = 0;
    h1_body_init(&body, H1_BODY_CHUNKED, 0);
    for (size_t at = 0; at < len && status == 0;) {
        const uint8_t *part;
        size_t used, part_len;
        status = h1_body_feed(&body, data + at, KP_MIN(step, len - at), &used, &part, &part_len);
        kp_buf_append(out, part, part_len);
        KP_ASSERT(status != 0 || used > 0);
        at += used;
    }
    h1_body_done(&body);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    bool is_request = data[0] & 1;
    const char *text = (const char *)data + 1;
    len--;
    size_t scan = 0, head_len = 0, whole_scan = 0;
    for (size_t i = 1; i <= len && head_len == 0; i++)
        head_len = h1_head_length(text, i, &scan);
    KP_ASSERT(head_len == h1_head_length(text, len, &whole_scan));
    if (head_len) {
        struct h1_head head;
        int status;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        if (h1_parse_head(text, head_len, is_request, arena, &head, &status, NULL) == 0)
            KP_ASSERT(!(head.chunked && head.content_length >= 0) && (!is_request || head.target[0] == '/' || head.target[0] == '*'));
    }
    KP_AUTO_BUF struct kp_buf whole = { 0 };
    KP_AUTO_BUF struct kp_buf pieces = { 0 };
    int a = run_body((const uint8_t *)text + head_len, len - head_len, SIZE_MAX, &whole);
    int b = run_body((const uint8_t *)text + head_len, len - head_len, 1, &pieces);
    KP_ASSERT(a == b && (a < 0 || whole.len == pieces.len));
    return 0;
}
