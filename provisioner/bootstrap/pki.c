/* The cluster's certificate authorities, and leaves signed by them. */
#include "provisioner/bootstrap/bootstrap.h"

static const struct {
    const char *name, *common_name;
    size_t offset;
} authorities[] = {
    {"ca", "kubernetes", offsetof(struct pki, ca)},
    {"etcd-ca", "etcd-ca", offsetof(struct pki, etcd_ca)},
    {"front-proxy-ca", "front-proxy-ca", offsetof(struct pki, front_proxy_ca)},
};

static struct pki_ca *authority(const struct pki *pki, size_t i)
{
    return (struct pki_ca *)(void *)((char *)(uintptr_t)pki + authorities[i].offset);
}

int pki_create(struct pki **ret_pki, struct kp_error *error)
{
    KP_AUTO(pki_free) struct pki *pki = kp_calloc(1, sizeof(*pki));
    for (size_t i = 0; i < KP_ARRAY_LEN(authorities); i++) {
        struct pki_ca *ca = authority(pki, i);
        const struct tls_cert_options options = {
            .subject.common_name = authorities[i].common_name,
            .lifetime_s = BOOTSTRAP_CA_LIFETIME_S,
        };
        if (tls_key_generate(TLS_KEY_ECDSA_P256, &ca->key, error) < 0 ||
            tls_cert_create_ca(ca->key, &options, &ca->cert, error) < 0)
            return kp_wrap(error, "make the authority %s", authorities[i].name);
    }
    int r = tls_key_generate(TLS_KEY_ECDSA_P256, &pki->service_accounts, error);
    if (r < 0)
        return r;
    *ret_pki = KP_TAKE(pki);
    return 0;
}

void pki_free(struct pki *pki)
{
    if (!pki)
        return;
    for (size_t i = 0; i < KP_ARRAY_LEN(authorities); i++) {
        tls_key_unref(authority(pki, i)->key);
        tls_cert_unref(authority(pki, i)->cert);
    }
    tls_key_unref(pki->service_accounts);
    free(pki);
}

static int set_key(struct kp_arena *arena, struct kp_value *object, const char *name, const struct tls_key *key,
                   struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int r = tls_key_to_pem(key, &pem, error);
    if (r == 0)
        kp_value_set(arena, object, name, kp_value_string(arena, pem.data));
    return r;
}

int pki_print(const struct pki *pki, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *root = kp_value_object(arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(authorities); i++) {
        KP_AUTO_BUF struct kp_buf pem = {0};
        tls_cert_to_pem(authority(pki, i)->cert, &pem);
        kp_value_set(arena, root, kp_arena_printf(arena, "%s.crt", authorities[i].name), kp_value_string(arena, pem.data));
        int r = set_key(arena, root, kp_arena_printf(arena, "%s.key", authorities[i].name), authority(pki, i)->key, error);
        if (r < 0)
            return r;
    }
    int r = set_key(arena, root, "sa.key", pki->service_accounts, error);
    if (r == 0)
        kp_value_print_pretty(root, 2, out);
    return r;
}

static int get_key(const struct kp_value *root, const char *name, struct tls_key **ret, struct kp_error *error)
{
    const char *pem = kp_value_str(kp_value_get(root, name));
    if (!pem)
        return kp_fail(error, KP_ECORRUPT, "the cluster's keys lack %s", name);
    return tls_key_from_pem(pem, strlen(pem), ret, error);
}

int pki_parse(const char *text, size_t len, struct pki **ret_pki, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(pki_free) struct pki *pki = kp_calloc(1, sizeof(*pki));
    struct kp_value *root = NULL;
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(authorities); i++) {
        const char *name = kp_arena_printf(arena, "%s.crt", authorities[i].name);
        const char *pem = kp_value_str(kp_value_get(root, name));
        if (!pem)
            return kp_fail(error, KP_ECORRUPT, "the cluster's keys lack %s", name);
        r = tls_cert_from_pem(pem, strlen(pem), &authority(pki, i)->cert, error);
        if (r == 0)
            r = get_key(root, kp_arena_printf(arena, "%s.key", authorities[i].name), &authority(pki, i)->key, error);
    }
    if (r == 0)
        r = get_key(root, "sa.key", &pki->service_accounts, error);
    if (r < 0)
        return r;
    *ret_pki = KP_TAKE(pki);
    return 0;
}

int pki_issue(const struct pki_ca *ca, const struct pki_leaf *leaf, struct kp_arena *arena, const char **ret_cert_pem,
              const char **ret_key_pem, struct kp_error *error)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO_BUF struct kp_buf cert_pem = {0}, key_pem = {0};
    const char *const organizations[] = {leaf->organization, NULL};
    const struct tls_cert_options options = {
        .subject = {.common_name = leaf->common_name,
                    .organizations = leaf->organization ? organizations : NULL,
                    .dns_names = leaf->dns_names,
                    .ip_addresses = leaf->ip_addresses},
        .usages = leaf->usages,
        .lifetime_s = BOOTSTRAP_LEAF_LIFETIME_S,
    };
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &key, error) < 0 ||
        tls_cert_create(key, &options, ca->cert, ca->key, &cert, error) < 0 || tls_key_to_pem(key, &key_pem, error) < 0)
        return kp_wrap(error, "issue a certificate for %s", leaf->common_name);
    tls_cert_to_pem(cert, &cert_pem);
    *ret_cert_pem = kp_arena_strndup(arena, cert_pem.data, cert_pem.len);
    *ret_key_pem = kp_arena_strndup(arena, key_pem.data, key_pem.len);
    return 0;
}
