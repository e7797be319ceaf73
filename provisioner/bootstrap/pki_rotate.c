/* An authority replaced by a new one: what is trusted and what signs, phase by phase. */
#include "provisioner/bootstrap/bootstrap.h"

int pki_rotate_begin(struct pki *pki, enum pki_authority authority, struct kp_error *error)
{
    if (pki->phase != PKI_STEADY)
        return kp_fail(error, KP_ECONFLICT, "the rotation of authority %s is under way: finish it first", pki_authority_name(pki->rotating));
    struct pki_ca *ca = authority == PKI_SERVICE_ACCOUNTS ? NULL : pki_authority(pki, authority);
    int r = ca ? pki_make_authority(authority, &ca->other_key, &ca->other_cert, error)
               : tls_key_generate(TLS_KEY_ECDSA_P256, &pki->other_service_accounts, error);
    if (r < 0)
        return r;
    pki->rotating = authority;
    pki->phase = PKI_TRUST;
    return 0;
}

static void swap_keys(struct tls_key **a, struct tls_key **b)
{
    struct tls_key *kept = *a;
    *a = *b;
    *b = kept;
}

static void drop_key(struct tls_key **key)
{
    tls_key_unref(*key);
    *key = NULL;
}

void pki_rotate_next(struct pki *pki)
{
    KP_ASSERT(pki->phase != PKI_STEADY);
    const bool accounts = pki->rotating == PKI_SERVICE_ACCOUNTS;
    struct pki_ca *ca = accounts ? NULL : pki_authority(pki, pki->rotating);
    struct tls_key **key = accounts ? &pki->service_accounts : &ca->key, **other = accounts ? &pki->other_service_accounts : &ca->other_key;
    if (pki->phase == PKI_TRUST) {
        swap_keys(key, other);
        if (ca) {
            struct tls_cert *kept = ca->cert;
            ca->cert = ca->other_cert;
            ca->other_cert = kept;
        }
    } else if (pki->phase == PKI_REISSUE) {
        drop_key(other);
        if (ca) {
            tls_cert_unref(ca->other_cert);
            ca->other_cert = NULL;
        }
    }
    pki->phase = pki->phase == PKI_DROP ? PKI_STEADY : pki->phase + 1;
    kp_strings_done(&pki->done);
    pki->done = (struct kp_strings){0};
}

bool pki_rotate_is_done(const struct pki *pki, const char *machine)
{
    for (size_t i = 0; i < pki->done.len; i++)
        if (kp_streq(pki->done.items[i], machine))
            return true;
    return false;
}

void pki_rotate_set_done(struct pki *pki, const char *machine)
{
    if (!pki_rotate_is_done(pki, machine))
        kp_strings_add(&pki->done, machine);
}
