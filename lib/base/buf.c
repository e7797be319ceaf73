/* Growable byte buffers. */
#include "lib/base/base.h"

#define BUF_CAP_MIN ((size_t)64)

void kp_buf_done(struct kp_buf *buf)
{
    free(buf->data);
    *buf = (struct kp_buf){0};
}

void kp_buf_reserve(struct kp_buf *buf, size_t extra)
{
    KP_ASSERT(extra < SIZE_MAX / 4 && buf->len < SIZE_MAX / 4);
    size_t need = buf->len + extra + 1;
    if (need <= buf->cap)
        return;
    size_t cap = KP_MAX(buf->cap * 2, BUF_CAP_MIN);
    cap = KP_MAX(cap, need);
    buf->data = kp_realloc(buf->data, cap);
    buf->cap = cap;
    buf->data[buf->len] = '\0';
}

void kp_buf_append(struct kp_buf *buf, const void *data, size_t len)
{
    kp_buf_reserve(buf, len);
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void kp_buf_puts(struct kp_buf *buf, const char *s)
{
    kp_buf_append(buf, s, strlen(s));
}

void kp_buf_putc(struct kp_buf *buf, char c)
{
    if (buf->len + 2 > buf->cap)
        kp_buf_reserve(buf, 1);
    buf->data[buf->len++] = c;
    buf->data[buf->len] = '\0';
}

void kp_buf_printf(struct kp_buf *buf, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    va_list again;
    va_copy(again, ap);
    kp_buf_reserve(buf, 0);
    size_t room = buf->cap - buf->len;
    int len = vsnprintf(buf->data + buf->len, room, format, ap);
    KP_ASSERT(len >= 0);
    if ((size_t)len >= room) {
        kp_buf_reserve(buf, (size_t)len);
        vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
    }
    buf->len += (size_t)len;
    va_end(again);
    va_end(ap);
}

void kp_buf_consume(struct kp_buf *buf, size_t len)
{
    KP_ASSERT(len <= buf->len);
    if (!len)
        return;
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
    buf->data[buf->len] = '\0';
}

char *kp_buf_take(struct kp_buf *buf)
{
    kp_buf_reserve(buf, 0);
    char *data = buf->data;
    *buf = (struct kp_buf){0};
    return data;
}
