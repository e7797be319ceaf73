/* Base64 in the standard and the URL alphabet (RFC 4648), and hex. */
#include "lib/base/base.h"

static const char alphabet_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t kp_base64_encoded_len(size_t len)
{
    return (len + 2) / 3 * 4;
}

static void encode(struct kp_buf *out, const uint8_t *in, size_t len, const char *alphabet, bool pad)
{
    kp_buf_reserve(out, kp_base64_encoded_len(len));
    char *to = out->data + out->len;
    for (; len >= 3; in += 3, len -= 3) {
        *to++ = alphabet[in[0] >> 2];
        *to++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
        *to++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
        *to++ = alphabet[in[2] & 63];
    }
    if (len) {
        *to++ = alphabet[in[0] >> 2];
        *to++ = alphabet[(in[0] & 3) << 4 | (len == 2 ? in[1] >> 4 : 0)];
        if (len == 2)
            *to++ = alphabet[(in[1] & 15) << 2];
        else if (pad)
            *to++ = '=';
        if (pad)
            *to++ = '=';
    }
    *to = '\0';
    out->len = (size_t)(to - out->data);
}

void kp_base64_encode(struct kp_buf *out, const void *data, size_t len)
{
    encode(out, data, len, alphabet_std, true);
}

void kp_base64url_encode(struct kp_buf *out, const void *data, size_t len)
{
    encode(out, data, len, alphabet_url, false);
}

/* The value of a digit, or -1. */
static int digit_value(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return -1;
}

/* Decodes len unpadded digits; on failure out is as it was. */
static int decode(struct kp_buf *out, const char *s, size_t len, bool url)
{
    if (len % 4 == 1)
        return KP_EBADREQUEST;
    kp_buf_reserve(out, len / 4 * 3 + 3);
    char *to = out->data + out->len;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < len; i++) {
        int value = digit_value(s[i], url);
        if (value < 0)
            goto bad;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            *to++ = (char)(bits >> count & 0xff);
        }
    }
    if (bits & ((1u << count) - 1)) /* bits that encode nothing must be zero */
        goto bad;
    *to = '\0';
    out->len = (size_t)(to - out->data);
    return 0;
bad:
    out->data[out->len] = '\0';
    return KP_EBADREQUEST;
}

int kp_base64_decode(struct kp_buf *out, const char *s, size_t len)
{
    if (len % 4)
        return KP_EBADREQUEST;
    if (len && s[len - 1] == '=')
        len -= s[len - 2] == '=' ? 2 : 1;
    return decode(out, s, len, false);
}

int kp_base64url_decode(struct kp_buf *out, const char *s, size_t len)
{
    return decode(out, s, len, true);
}

void kp_hex_encode(struct kp_buf *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = data;
    kp_buf_reserve(out, len * 2);
    for (size_t i = 0; i < len; i++) {
        kp_buf_putc(out, digits[in[i] >> 4]);
        kp_buf_putc(out, digits[in[i] & 15]);
    }
}
