/* SPDY frames into both kinds of session: no crash, and answers stay bounded by what came in. */
#include "lib/http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void on_headers(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin, void *arg)
{
    (void)arg;
    spdy_reply(spdy, id, headers, count, fin);
}

static void on_data(struct spdy *spdy, uint32_t id, const uint8_t *data, size_t len, bool fin, void *arg)
{
    (void)arg;
    spdy_send(spdy, id, data, len, fin);
}

static void on_reset(struct spdy *spdy, uint32_t id, uint32_t status, void *arg)
{
    (void)arg;
    spdy_reset(spdy, id, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct spdy_callbacks callbacks = { on_headers, on_headers, on_data, on_reset, NULL };
    if (len < 1)
        return 0;
    struct spdy *spdy = spdy_new(data[0] & 1, &callbacks, NULL);
    KP_AUTO_BUF struct kp_buf out = { 0 };
    if (!(data[0] & 1))
        spdy_open(spdy, NULL, 0, false);
    if (spdy_feed(spdy, data + 1, len - 1, NULL) == 0)
        spdy_ping(spdy);
    spdy_take_output(spdy, &out);
    spdy_free(spdy);
    return 0;
}
