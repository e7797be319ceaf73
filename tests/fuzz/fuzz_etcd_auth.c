/* What clients send to say who they are, ranges of permissions, and log entries that carry a user. */
#include "controlplane/etcd/auth/auth_internal.h"
#include "controlplane/etcd/server/node_internal.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct jwt *make_jwt(void)
{
    char path[] = "/tmp/fuzz-etcd-auth-XXXXXX";
    char options[64];
    struct jwt *jwt = NULL;
    int fd = mkstemp(path);
    KP_ASSERT(fd >= 0 && write(fd, "secret", 6) == 6);
    close(fd);
    snprintf(options, sizeof options, "sign-method=HS256,priv-key=%s", path);
    KP_ASSERT(jwt_open(options, &jwt, NULL) == 0);
    unlink(path);
    return jwt;
}

/* The text as a token, and well signed as what a token says. */
static void token(const char *text)
{
    static struct jwt *jwt;
    static struct tls_jws *jws;
    static const struct kp_bytes secret = {(const uint8_t *)"secret", 6};
    uint64_t index;
    struct auth_identity who;
    if (!jwt) {
        jwt = make_jwt();
        KP_ASSERT(tls_jws_new("HS256", secret, (struct kp_bytes){0}, &jws, NULL) == 0);
    }
    (void)token_index(text, &index);
    (void)jwt_verify(jwt, text, 1000, &who);
    KP_AUTO_BUF struct kp_buf signed_text = {0};
    KP_ASSERT(tls_jws_sign(jws, text, &signed_text, NULL) == 0);
    if (jwt_verify(jwt, signed_text.data, 1000, &who) == AUTH_OK)
        KP_ASSERT(strlen(who.user) <= AUTH_NAME_MAX);
}

/* Ranges of two strings each, split at '|' and ';': what was granted is covered, whatever else is. */
static void permissions(const uint8_t *data, size_t len)
{
    struct permission_set set = {0};
    struct kp_bytes ranges[32][2];
    size_t count = 0;
    while (len && count < KP_ARRAY_LEN(ranges)) {
        const uint8_t *end = memchr(data, ';', len);
        size_t part = end ? (size_t)(end - data) : len;
        const uint8_t *middle = memchr(data, '|', part);
        size_t key_len = middle ? (size_t)(middle - data) : part;
        ranges[count][0] = (struct kp_bytes){data, key_len};
        ranges[count][1] = (struct kp_bytes){middle ? middle + 1 : data, middle ? part - key_len - 1 : 0};
        if (permission_is_valid(ranges[count][0], ranges[count][1])) {
            permission_set_add(&set, ranges[count][0], ranges[count][1]);
            count++;
        }
        data += KP_MIN(part + 1, len);
        len -= KP_MIN(part + 1, len);
    }
    permission_set_merge(&set);
    KP_ASSERT(set.len <= count);
    for (size_t i = 0; i < count; i++)
        KP_ASSERT(permission_set_covers(&set, ranges[i][0], ranges[i][1]));
    permission_set_done(&set);
}

static void entry(const uint8_t *data, size_t len)
{
    enum op_kind kind;
    uint64_t id;
    struct auth_identity who;
    struct kp_bytes request;
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(data, len);
    if (entry_parse(blob, &kind, &id, &who, &request))
        KP_ASSERT(strlen(who.user) <= AUTH_NAME_MAX && request.len <= len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0 || len > 8192)
        return 0;
    KP_AUTO_FREE char *text = kp_strndup((const char *)data + 1, len - 1);
    switch (data[0] % 3) {
    case 0: token(text); break;
    case 1: permissions(data + 1, len - 1); break;
    default: entry(data + 1, len - 1); break;
    }
    return 0;
}
