/* An authority replaced: in every phase what the phase before issued is trusted by what this one trusts, and at the end the old is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/bootstrap/bootstrap.h"

static struct kp_arena *arena;
static struct pki *pki;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    return pki_create(&pki, NULL);
}

static int teardown(void **state)
{
    pki_free(pki);
    pki = NULL;
    kp_arena_free(arena);
    return 0;
}

static struct tls_cert *leaf(const struct pki_ca *ca)
{
    const struct pki_leaf what = {.common_name = "someone", .usages = TLS_USAGE_CLIENT};
    const char *cert_pem = NULL, *key_pem = NULL;
    struct tls_cert *cert = NULL;
    assert_int_equal(pki_issue(ca, &what, arena, &cert_pem, &key_pem, NULL), 0);
    assert_int_equal(tls_cert_from_pem(cert_pem, strlen(cert_pem), &cert, NULL), 0);
    return cert;
}

static bool trusts(const struct pki_ca *ca, const struct tls_cert *cert)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    pki_trust(ca, &pem);
    return tls_cert_verify(cert, NULL, pem.data, TLS_USAGE_CLIENT, 0, NULL) == 0;
}

/* Machines are never further apart than one phase. */
static void each_phase_trusts_what_the_neighbouring_ones_issue(void **state)
{
    for (enum pki_authority authority = 0; authority < PKI_SERVICE_ACCOUNTS; authority++) {
        struct pki_ca *ca = pki_authority(pki, authority);
        KP_AUTO(tls_cert_unref) struct tls_cert *old = leaf(ca);
        assert_int_equal(pki_rotate_begin(pki, authority, NULL), 0);
        assert_int_equal(pki->phase, PKI_TRUST);
        KP_AUTO(tls_cert_unref) struct tls_cert *in_trust = leaf(ca);
        assert_true(trusts(ca, old) && trusts(ca, in_trust));
        KP_AUTO_BUF struct kp_buf trusted = {0};
        pki_trust(ca, &trusted);
        pki_rotate_next(pki);
        assert_int_equal(pki->phase, PKI_REISSUE);
        KP_AUTO(tls_cert_unref) struct tls_cert *reissued = leaf(ca);
        assert_true(trusts(ca, old) && trusts(ca, in_trust) && trusts(ca, reissued));
        assert_int_equal(tls_cert_verify(reissued, NULL, trusted.data, TLS_USAGE_CLIENT, 0, NULL), 0); /* by a machine of the phase before */
        pki_rotate_next(pki);
        assert_int_equal(pki->phase, PKI_DROP);
        assert_true(trusts(ca, reissued) && !trusts(ca, old) && !trusts(ca, in_trust));
        assert_null(ca->other_key);
        pki_rotate_next(pki);
        assert_int_equal(pki->phase, PKI_STEADY);
    }
}

static void service_account_keys_change_the_same_way(void **state)
{
    KP_AUTO(tls_key_unref) struct tls_key *old = tls_key_ref(pki->service_accounts);
    assert_int_equal(pki_rotate_begin(pki, PKI_SERVICE_ACCOUNTS, NULL), 0);
    KP_AUTO(tls_key_unref) struct tls_key *next = tls_key_ref(pki->other_service_accounts);
    assert_true(tls_key_equal(pki->service_accounts, old));
    pki_rotate_next(pki);
    assert_true(tls_key_equal(pki->service_accounts, next) && tls_key_equal(pki->other_service_accounts, old));
    pki_rotate_next(pki);
    assert_null(pki->other_service_accounts);
}

static void one_rotation_at_a_time(void **state)
{
    assert_int_equal(pki_rotate_begin(pki, PKI_ETCD, NULL), 0);
    assert_int_equal(pki_rotate_begin(pki, PKI_CLUSTER, NULL), KP_ECONFLICT);
}

static void a_rotation_survives_being_written_and_read_in_every_phase(void **state)
{
    assert_int_equal(pki_rotate_begin(pki, PKI_CLUSTER, NULL), 0);
    for (enum pki_phase phase = PKI_TRUST; phase <= PKI_DROP; phase++) {
        KP_AUTO_BUF struct kp_buf text = {0}, before = {0}, after = {0};
        KP_AUTO(pki_free) struct pki *read = NULL;
        pki_rotate_set_done(pki, "demo-cp-1");
        pki_rotate_set_done(pki, "demo-cp-1");
        assert_int_equal(pki_print(pki, &text, NULL), 0);
        assert_int_equal(pki_parse(text.data, text.len, &read, NULL), 0);
        assert_int_equal(read->phase, phase);
        assert_int_equal(read->rotating, PKI_CLUSTER);
        assert_int_equal(read->done.len, 1);
        assert_true(pki_rotate_is_done(read, "demo-cp-1") && !pki_rotate_is_done(read, "demo-cp-2"));
        pki_trust(&pki->ca, &before);
        pki_trust(&read->ca, &after);
        assert_string_equal(before.data, after.data);
        pki_rotate_next(pki);
        assert_int_equal(pki->done.len, 0);
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_int_equal(pki_print(pki, &text, NULL), 0);
    assert_null(strstr(text.data, "rotation"));
}

static void a_rotation_that_nobody_knows_is_refused(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO(pki_free) struct pki *read = NULL;
    assert_int_equal(pki_rotate_begin(pki, PKI_CLUSTER, NULL), 0);
    assert_int_equal(pki_print(pki, &text, NULL), 0);
    char *phase = strstr(text.data, "\"trust\"");
    assert_non_null(phase);
    memcpy(phase, "\"tr__t\"", 7);
    assert_int_equal(pki_parse(text.data, text.len, &read, NULL), KP_ECORRUPT);
}

static void authorities_have_names(void **state)
{
    enum pki_authority authority = PKI_CLUSTER;
    assert_int_equal(pki_authority_parse("service-accounts", &authority, NULL), 0);
    assert_int_equal(authority, PKI_SERVICE_ACCOUNTS);
    assert_int_equal(pki_authority_parse("ca", &authority, NULL), KP_EUSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_phase_trusts_what_the_neighbouring_ones_issue, setup, teardown),
        cmocka_unit_test_setup_teardown(service_account_keys_change_the_same_way, setup, teardown),
        cmocka_unit_test_setup_teardown(one_rotation_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rotation_survives_being_written_and_read_in_every_phase, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rotation_that_nobody_knows_is_refused, setup, teardown),
        cmocka_unit_test(authorities_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
