/* Random bytes from the kernel, and the identifiers made of them. */
#include "lib/base/base.h"

#include <errno.h>
#include <sys/random.h>

void kp_random_bytes(void *out, size_t len)
{
    uint8_t *to = out;
    while (len) {
        ssize_t got = getrandom(to, len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        KP_ASSERT(got > 0);
        to += got;
        len -= (size_t)got;
    }
}

uint64_t kp_random_u64(void)
{
    uint64_t value;
    kp_random_bytes(&value, sizeof(value));
    return value;
}

void kp_uuid4(char out[37])
{
    uint8_t b[16];
    kp_random_bytes(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562 5.4: version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 10 */
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void kp_random_suffix(char *out, size_t len)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    const unsigned count = sizeof(alphabet) - 1;
    const unsigned fair = 256 / count * count; /* bytes from here on would favour the first letters */
    for (size_t i = 0; i < len;) {
        uint8_t byte;
        kp_random_bytes(&byte, 1);
        if (byte < fair)
            out[i++] = alphabet[byte % count];
    }
    out[len] = '\0';
}
