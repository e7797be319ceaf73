/* Keys in SSH's formats: against ssh-keygen, and against a key pair of RFC 8032. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "ssh/ssh.h"

/* RFC 8032 7.1, test 1. */
static const uint8_t seed[SSHC_SEED_BYTES] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
                                              0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
static const uint8_t public_key[32] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                       0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};

static void public_half_is_that_of_the_rfc(void **state)
{
    struct sshc_key key;
    sshc_key_from_seed(seed, &key);
    assert_memory_equal(key.seed, seed, sizeof(seed));
    assert_memory_equal(key.public_key, public_key, sizeof(public_key));
}

static void lines_name_type_key_and_comment(void **state)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct sshc_key key;
    sshc_key_from_seed(seed, &key);
    sshc_key_public_line(&key, "kprov-demo", &out);
    assert_string_equal(out.data, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea kprov-demo\n");
    out.len = 0;
    sshc_key_host_line(&key, "10.0.0.5", 22, &out);
    assert_string_equal(out.data, "10.0.0.5 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n");
    out.len = 0;
    sshc_key_host_line(&key, "10.0.0.5", 2222, &out);
    assert_int_equal(strncmp(out.data, "[10.0.0.5]:2222 ssh-ed25519 ", 28), 0);
}

/* What the tools print of a private key that we wrote: its public half. */
static void expect_public_from(const char *const argv[], const struct sshc_key *key)
{
    KP_AUTO_BUF struct kp_buf out = {0}, complaint = {0}, expected = {0};
    struct kp_error error = {0};
    int status = 0;
    int r = kp_run(argv, 20000, &out, &complaint, &status, &error);
    if (r == KP_ENOTFOUND)
        skip(); /* named missing capability: the tool is not installed */
    assert_int_equal(r, 0);
    assert_int_equal(status, 0);
    sshc_key_public_line(key, NULL, &expected);
    expected.data[--expected.len] = 0;
    assert_non_null(strstr(out.data, expected.data));
}

static void write_temporary(const struct kp_buf *text, char path[64])
{
    struct kp_error error = {0};
    snprintf(path, 64, "/tmp/kprov-test-key-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(kp_write_file(path, text->data, text->len, 0600, &error), 0);
}

static void ssh_keygen_reads_the_private_key(void **state)
{
    static const char *const comments[] = {"", "a", "kprov cluster demo", "1234567"}; /* paddings differ */
    for (size_t i = 0; i < KP_ARRAY_LEN(comments); i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        struct sshc_key key;
        char path[64];
        sshc_key_from_seed(seed, &key);
        sshc_key_private_text(&key, comments[i], &text);
        write_temporary(&text, path);
        expect_public_from((const char *const[]){"ssh-keygen", "-y", "-f", path, NULL}, &key);
        unlink(path);
    }
}

static void dropbearkey_reads_the_private_key(void **state)
{
    KP_AUTO_BUF struct kp_buf blob = {0};
    struct sshc_key key;
    char path[64];
    sshc_key_from_seed(seed, &key);
    sshc_key_dropbear(&key, &blob);
    write_temporary(&blob, path);
    expect_public_from((const char *const[]){"dropbearkey", "-y", "-f", path, NULL}, &key);
    unlink(path);
}

static void quoted_words_are_read_back_by_a_shell(void **state)
{
    KP_AUTO_BUF struct kp_buf line = {0}, out = {0};
    struct kp_error error = {0};
    int status = 0;
    const char *const words[] = {"printf", "<%s>", "", "a b", "it's", "$HOME", "`id`", "new\nline", "\\", NULL};
    sshc_quote_words(&line, words);
    const char *const argv[] = {"sh", "-c", line.data, NULL};
    assert_int_equal(kp_run(argv, 20000, &out, NULL, &status, &error), 0);
    assert_string_equal(out.data, "<><a b><it's><$HOME><`id`><new\nline><\\>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_half_is_that_of_the_rfc),
        cmocka_unit_test(lines_name_type_key_and_comment),
        cmocka_unit_test(ssh_keygen_reads_the_private_key),
        cmocka_unit_test(dropbearkey_reads_the_private_key),
        cmocka_unit_test(quoted_words_are_read_back_by_a_shell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
