/* A cluster's SSH keys: made on the laptop, kept in its state, the host keys derived from the machines' names. */
#include "codec/codec.h"
#include "provisioner/remote/remote.h"
#include "tls/tls.h"

_Static_assert(TLS_SHA256_BYTES == SSHC_SEED_BYTES, "a hash is a seed");

void remote_keys_make(struct remote_keys *ret)
{
    uint8_t seed[SSHC_SEED_BYTES];
    kp_random_bytes(seed, sizeof(seed));
    sshc_key_from_seed(seed, &ret->identity);
    kp_random_bytes(ret->host_secret, sizeof(ret->host_secret));
}

static void set_bytes(struct kp_arena *arena, struct kp_value *object, const char *name, const uint8_t *data, size_t len)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_base64_encode(&text, data, len);
    kp_value_set(arena, object, name, kp_value_string(arena, text.data));
}

void remote_keys_print(const struct remote_keys *keys, struct kp_buf *out)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *root = kp_value_object(arena);
    set_bytes(arena, root, "identity", keys->identity.seed, sizeof(keys->identity.seed));
    set_bytes(arena, root, "hostSecret", keys->host_secret, sizeof(keys->host_secret));
    kp_value_print_pretty(root, 2, out);
}

static int get_bytes(const struct kp_value *root, const char *name, uint8_t *ret, size_t len, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf bytes = {0};
    const char *text = kp_value_str(kp_value_get(root, name));
    if (!text || kp_base64_decode(&bytes, text, strlen(text)) < 0 || bytes.len != len)
        return kp_fail(error, KP_ECORRUPT, REMOTE_KEYS_FILE ": %s must be %zu bytes in base64", name, len);
    memcpy(ret, bytes.data, len);
    return 0;
}

int remote_keys_parse(const char *text, size_t len, struct remote_keys *ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *root = NULL;
    uint8_t seed[SSHC_SEED_BYTES];
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    if (r < 0)
        return kp_wrap(error, REMOTE_KEYS_FILE);
    r = get_bytes(root, "identity", seed, sizeof(seed), error);
    if (r == 0)
        r = get_bytes(root, "hostSecret", ret->host_secret, sizeof(ret->host_secret), error);
    if (r == 0)
        sshc_key_from_seed(seed, &ret->identity);
    return r;
}

int remote_keys_load(const char *cluster, struct remote_keys *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = state_read_file(cluster, REMOTE_KEYS_FILE, &text, error);
    if (r == KP_ENOTFOUND)
        return kp_fail(error, r, "cluster %s has no SSH keys: it was made by an older kprov; machines made from now on get them "
                                 "(kprov apply, kprov repair)", cluster);
    return r < 0 ? r : remote_keys_parse(text.data ? text.data : "", text.len, ret, error);
}

int remote_keys_ensure(struct state *state, const char *cluster, struct remote_keys *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error missing = {0};
    int r = remote_keys_load(cluster, ret, &missing);
    if (r == 0)
        return 0;
    if (r != KP_ENOTFOUND)
        return kp_fail(error, r, "%s", missing.message);
    remote_keys_make(ret);
    remote_keys_print(ret, &text);
    return state_write_file(state, REMOTE_KEYS_FILE, text.data, text.len, error);
}

void remote_host_key(const struct remote_keys *keys, const char *machine, struct sshc_key *ret)
{
    uint8_t seed[TLS_SHA256_BYTES];
    tls_hmac_sha256(keys->host_secret, sizeof(keys->host_secret), machine, strlen(machine), seed);
    sshc_key_from_seed(seed, ret);
}
