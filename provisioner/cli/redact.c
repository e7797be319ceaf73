/* Takes secrets out of a text that leaves the machine: keys, tokens, passwords. Pure; rather too much than too little. */
#include <ctype.h>
#include <strings.h>

#include "provisioner/cli/cli.h"

#define REMOVED "[removed]"
#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
#define JWT_BEGIN "eyJ"               /* base64 of {" */
#define PEM_BASE64 "LS0tLS1CRUdJTi"   /* base64 of -----BEGIN */
#define PEM_BASE64_CERT "LS0tLS1CRUdJTiBDRVJU" /* ... CERT: no secret */

/* What a value follows, with ':' or '=' in between: the whole word, or its end. */
static const char *const names[] = {"client-key-data", "token", "password", "passwd", "passphrase", "authorization", "private-key",
                                    "private_key", "privatekey", "secret-key", "secretkey", "encryption-key", "api-key", "apikey"};

static size_t span(const char *at, size_t left, const char *set)
{
    size_t n = 0;
    while (n < left && at[n] && strchr(set, at[n]))
        n++;
    return n;
}

/* Bytes of a PEM block of a private key that begins here, or 0. One that never ends reaches to the end of the text. */
static size_t private_key(const char *at, size_t left)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ", mark[] = "PRIVATE KEY";
    if (left < sizeof(begin) - 1 || memcmp(at, begin, sizeof(begin) - 1) != 0)
        return 0;
    const char *label = at + sizeof(begin) - 1;
    size_t label_len = 0;
    while (label_len < left - (sizeof(begin) - 1) && label_len < 64 && label[label_len] != '-' && label[label_len] != '\n')
        label_len++;
    if (!memmem(label, label_len, mark, sizeof(mark) - 1))
        return 0;
    const char *stop = memmem(at, left, end, sizeof(end) - 1);
    if (!stop)
        return left;
    const char *dashes = memmem(stop + sizeof(end) - 1, left - (size_t)(stop + sizeof(end) - 1 - at), "-----", 5);
    return dashes ? (size_t)(dashes + 5 - at) : left;
}

/* Bytes of a token or an encoded key that begins here, or 0. */
static size_t token(const char *at, size_t left)
{
    if (left > strlen(PEM_BASE64) && memcmp(at, PEM_BASE64, strlen(PEM_BASE64)) == 0) {
        bool certificate = left > strlen(PEM_BASE64_CERT) && memcmp(at, PEM_BASE64_CERT, strlen(PEM_BASE64_CERT)) == 0;
        return certificate ? 0 : span(at, left, BASE64);
    }
    if (left > strlen(JWT_BEGIN) && memcmp(at, JWT_BEGIN, strlen(JWT_BEGIN)) == 0) {
        size_t head = span(at, left, BASE64);
        if (head < left && at[head] == '.') {
            size_t body = span(at + head + 1, left - head - 1, BASE64);
            if (body > 8)
                return head + 1 + body + span(at + head + 1 + body, left - head - 1 - body, BASE64 ".");
        }
    }
    return 0;
}

/* Where the value begins that a secret's name before it announces, or 0: `token: x`, `"token": "x"`, `--token=x`. */
static size_t announced(const char *at, size_t left)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i]);
        if (left <= n || strncasecmp(at, names[i], n) != 0)
            continue;
        n += span(at + n, left - n, "\"'\\");
        n += span(at + n, left - n, " ");
        if (n >= left || (at[n] != ':' && at[n] != '='))
            continue;
        n++;
        return n + span(at + n, left - n, " \"'\\");
    }
    return 0;
}

static size_t value_len(const char *at, size_t left)
{
    size_t n = 0;
    while (n < left && !strchr("\n\r\"',}\\", at[n]))
        n++;
    return n;
}

void cli_redact(const char *text, size_t len, struct kp_buf *out)
{
    static const char bearer[] = "bearer ";
    for (size_t i = 0; i < len;) {
        const char *at = text + i;
        size_t left = len - i, skip = private_key(at, left), keep = 0;
        bool begins = i == 0 || !isalnum((unsigned char)text[i - 1]);
        if (!skip && begins)
            skip = token(at, left);
        if (!skip && (keep = announced(at, left)) > 0)
            skip = value_len(at + keep, left - keep);
        if (!skip && begins && left > sizeof(bearer) - 1 && strncasecmp(at, bearer, sizeof(bearer) - 1) == 0) {
            keep = sizeof(bearer) - 1;
            skip = span(at + keep, left - keep, BASE64 ".~");
        }
        if (skip) {
            kp_buf_append(out, at, keep);
            kp_buf_puts(out, REMOVED);
            i += keep + skip;
        } else {
            kp_buf_putc(out, *at);
            i++;
        }
    }
}
