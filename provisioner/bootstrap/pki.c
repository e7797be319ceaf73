/* The cluster's certificate authorities, and leaves signed by them. */
#include "provisioner/bootstrap/bootstrap.h"

static const struct {
    const char *name, *file, *common_name;
    size_t offset;
} authorities[PKI_SERVICE_ACCOUNTS] = {
    [PKI_CLUSTER] = {"cluster", "ca", "kubernetes", offsetof(struct pki, ca)},
    [PKI_ETCD] = {"etcd", "etcd-ca", "etcd-ca", offsetof(struct pki, etcd_ca)},
    [PKI_FRONT_PROXY] = {"front-proxy", "front-proxy-ca", "front-proxy-ca", offsetof(struct pki, front_proxy_ca)},
};
static const char *const phase_names[] = {"steady", "trust", "reissue", "drop"};

const char *pki_authority_name(enum pki_authority authority)
{
    return authority == PKI_SERVICE_ACCOUNTS ? "service-accounts" : authorities[authority].name;
}

int pki_authority_parse(const char *name, enum pki_authority *ret, struct kp_error *error)
{
    for (enum pki_authority i = 0; i < PKI_AUTHORITIES; i++) {
        if (kp_streq(pki_authority_name(i), name)) {
            *ret = i;
            return 0;
        }
    }
    return kp_fail(error, KP_EUSAGE, "authority \"%s\": must be cluster, etcd, front-proxy or service-accounts", name);
}

const char *pki_phase_name(enum pki_phase phase)
{
    return phase_names[phase];
}

struct pki_ca *pki_authority(const struct pki *pki, enum pki_authority authority)
{
    KP_ASSERT(authority < PKI_SERVICE_ACCOUNTS);
    return (struct pki_ca *)(void *)((char *)(uintptr_t)pki + authorities[authority].offset);
}

int pki_make_authority(enum pki_authority authority, struct tls_key **ret_key, struct tls_cert **ret_cert, struct kp_error *error)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    const struct tls_cert_options options = {
        .subject.common_name = authorities[authority].common_name,
        .lifetime_s = BOOTSTRAP_CA_LIFETIME_S,
    };
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &key, error) < 0 || tls_cert_create_ca(key, &options, ret_cert, error) < 0)
        return kp_wrap(error, "make the authority %s", authorities[authority].name);
    *ret_key = KP_TAKE(key);
    return 0;
}

int pki_create(struct pki **ret_pki, struct kp_error *error)
{
    KP_AUTO(pki_free) struct pki *pki = kp_calloc(1, sizeof(*pki));
    for (enum pki_authority i = 0; i < PKI_SERVICE_ACCOUNTS; i++) {
        int r = pki_make_authority(i, &pki_authority(pki, i)->key, &pki_authority(pki, i)->cert, error);
        if (r < 0)
            return r;
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
    for (enum pki_authority i = 0; i < PKI_SERVICE_ACCOUNTS; i++) {
        struct pki_ca *ca = pki_authority(pki, i);
        tls_key_unref(ca->key);
        tls_cert_unref(ca->cert);
        tls_key_unref(ca->other_key);
        tls_cert_unref(ca->other_cert);
    }
    tls_key_unref(pki->service_accounts);
    tls_key_unref(pki->other_service_accounts);
    kp_strings_done(&pki->done);
    free(pki);
}

/* ---- the document */
static int set_key(struct kp_arena *arena, struct kp_value *object, const char *name, const struct tls_key *key,
                   struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int r = tls_key_to_pem(key, &pem, error);
    if (r == 0)
        kp_value_set(arena, object, name, kp_value_string(arena, pem.data));
    return r;
}

static int set_pair(struct kp_arena *arena, struct kp_value *object, const char *name, const struct tls_key *key, const struct tls_cert *cert,
                    struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    tls_cert_to_pem(cert, &pem);
    kp_value_set(arena, object, kp_arena_printf(arena, "%s.crt", name), kp_value_string(arena, pem.data));
    return set_key(arena, object, kp_arena_printf(arena, "%s.key", name), key, error);
}

static struct kp_value *rotation(const struct pki *pki, struct kp_arena *arena)
{
    struct kp_value *object = kp_value_object(arena), *machines = kp_value_array(arena);
    kp_value_set(arena, object, "authority", kp_value_string(arena, pki_authority_name(pki->rotating)));
    kp_value_set(arena, object, "phase", kp_value_string(arena, phase_names[pki->phase]));
    for (size_t i = 0; i < pki->done.len; i++)
        kp_value_append(arena, machines, kp_value_string(arena, pki->done.items[i]));
    kp_value_set(arena, object, "machines", machines);
    return object;
}

int pki_print(const struct pki *pki, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *root = kp_value_object(arena);
    int r = 0;
    for (enum pki_authority i = 0; r == 0 && i < PKI_SERVICE_ACCOUNTS; i++) {
        const struct pki_ca *ca = pki_authority(pki, i);
        r = set_pair(arena, root, authorities[i].file, ca->key, ca->cert, error);
        if (r == 0 && ca->other_cert)
            r = set_pair(arena, root, kp_arena_printf(arena, "%s.other", authorities[i].file), ca->other_key, ca->other_cert, error);
    }
    if (r == 0)
        r = set_key(arena, root, "sa.key", pki->service_accounts, error);
    if (r == 0 && pki->other_service_accounts)
        r = set_key(arena, root, "sa.other.key", pki->other_service_accounts, error);
    if (pki->phase != PKI_STEADY)
        kp_value_set(arena, root, "rotation", rotation(pki, arena));
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

static int get_pair(const struct kp_value *root, const char *name, struct tls_key **ret_key, struct tls_cert **ret_cert, struct kp_error *error)
{
    KP_AUTO_FREE char *cert = kp_asprintf("%s.crt", name);
    KP_AUTO_FREE char *key = kp_asprintf("%s.key", name);
    const char *pem = kp_value_str(kp_value_get(root, cert));
    if (!pem)
        return kp_fail(error, KP_ECORRUPT, "the cluster's keys lack %s", cert);
    int r = tls_cert_from_pem(pem, strlen(pem), ret_cert, error);
    return r < 0 ? r : get_key(root, key, ret_key, error);
}

static int get_rotation(const struct kp_value *object, struct pki *pki, struct kp_error *error)
{
    const struct kp_value *machines = kp_value_get(object, "machines");
    const char *phase = kp_value_str(kp_value_get(object, "phase")), *authority = kp_value_str(kp_value_get(object, "authority"));
    enum pki_phase i = PKI_TRUST;
    while (i <= PKI_DROP && !kp_streq(phase_names[i], phase))
        i++;
    if (i > PKI_DROP || !authority || pki_authority_parse(authority, &pki->rotating, error) < 0)
        return kp_fail(error, KP_ECORRUPT, "the cluster's keys are in a rotation that nobody knows");
    pki->phase = i;
    for (size_t m = 0; machines && machines->kind == KP_VALUE_ARRAY && m < machines->array.len; m++) {
        const char *name = kp_value_str(machines->array.items[m]);
        if (name)
            kp_strings_add(&pki->done, name);
    }
    return 0;
}

int pki_parse(const char *text, size_t len, struct pki **ret_pki, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(pki_free) struct pki *pki = kp_calloc(1, sizeof(*pki));
    struct kp_value *root = NULL;
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    for (enum pki_authority i = 0; r == 0 && i < PKI_SERVICE_ACCOUNTS; i++) {
        struct pki_ca *ca = pki_authority(pki, i);
        const char *other = kp_arena_printf(arena, "%s.other", authorities[i].file);
        r = get_pair(root, authorities[i].file, &ca->key, &ca->cert, error);
        if (r == 0 && kp_value_get(root, kp_arena_printf(arena, "%s.crt", other)))
            r = get_pair(root, other, &ca->other_key, &ca->other_cert, error);
    }
    if (r == 0)
        r = get_key(root, "sa.key", &pki->service_accounts, error);
    if (r == 0 && kp_value_get(root, "sa.other.key"))
        r = get_key(root, "sa.other.key", &pki->other_service_accounts, error);
    if (r == 0 && kp_value_get(root, "rotation"))
        r = get_rotation(kp_value_get(root, "rotation"), pki, error);
    if (r < 0)
        return r;
    *ret_pki = KP_TAKE(pki);
    return 0;
}

void pki_trust(const struct pki_ca *ca, struct kp_buf *out)
{
    tls_cert_to_pem(ca->cert, out);
    if (ca->other_cert)
        tls_cert_to_pem(ca->other_cert, out);
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
