/* WebSocket frames: the same messages and verdict however the bytes are cut up. */
#include "lib/http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int on_message(enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    struct kp_buf *log = arg;
    kp_buf_printf(log, "%d %zu ", opcode, len);
    kp_buf_append(log, data, len);
    return 0;
}

static int run(const uint8_t *data, size_t len, size_t step, bool server, struct kp_buf *log)
{
    struct ws_parser_config config = { .server = server, .message_bytes_max = 100000, .on_message = on_message, .arg = log };
    struct ws_parser *parser = ws_parser_new(&config);
    int code = 0, close_code = 0;
    for (size_t at = 0; at < len && code == 0; at += step)
        code = ws_parser_feed(parser, data + at, KP_MIN(step, len - at), &close_code);
    ws_parser_free(parser);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    KP_AUTO_BUF struct kp_buf whole = { 0 };
    KP_AUTO_BUF struct kp_buf pieces = { 0 };
    int a = run(data + 1, len - 1, len, data[0] & 1, &whole);
    int b = run(data + 1, len - 1, 1 + data[0] % 7, data[0] & 1, &pieces);
    KP_ASSERT(a == b && whole.len == pieces.len && (whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0));
    return 0;
}
