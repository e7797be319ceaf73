/* A cluster's SSH keys: to text and back, and host keys that follow from names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/remote/remote.h"

static void keys_are_read_back_as_written(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct remote_keys keys, again;
    remote_keys_make(&keys);
    remote_keys_print(&keys, &text);
    assert_int_equal(remote_keys_parse(text.data, text.len, &again, &error), 0);
    assert_memory_equal(&again, &keys, sizeof(keys));
}

static void host_keys_follow_from_names(void **state)
{
    struct remote_keys keys, others;
    struct sshc_key a, again, b, foreign;
    remote_keys_make(&keys);
    remote_keys_make(&others);
    remote_host_key(&keys, "demo-cp-1", &a);
    remote_host_key(&keys, "demo-cp-1", &again);
    remote_host_key(&keys, "demo-cp-2", &b);
    remote_host_key(&others, "demo-cp-1", &foreign);
    assert_memory_equal(&a, &again, sizeof(a));
    assert_memory_not_equal(a.public_key, b.public_key, sizeof(a.public_key));
    assert_memory_not_equal(a.public_key, foreign.public_key, sizeof(a.public_key));
    assert_memory_not_equal(a.public_key, keys.identity.public_key, sizeof(a.public_key));
}

static void damaged_text_names_the_field(void **state)
{
    static const char *const texts[][2] = {
        {"", "ssh.json"},
        {"{}", "identity"},
        {"{\"identity\":\"AAAA\",\"hostSecret\":\"AAAA\"}", "identity must be 32 bytes"},
        {"{\"identity\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}", "hostSecret"},
        {"{\"identity\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"hostSecret\":\"!\"}", "hostSecret"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++) {
        struct remote_keys keys;
        struct kp_error error = {0};
        assert_true(remote_keys_parse(texts[i][0], strlen(texts[i][0]), &keys, &error) < 0);
        assert_non_null(strstr(error.message, texts[i][1]));
    }
}

static void command_line_keeps_words_apart(void **state)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    const char *const argv[] = {"sh", "-c", "echo $1", "it's", NULL};
    remote_command_line(argv, &line);
    assert_string_equal(line.data, "exec env PATH=/usr/lib/kprov/bin:/usr/sbin:/usr/bin:/sbin:/bin 'sh' '-c' 'echo $1' 'it'\\''s'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_read_back_as_written),
        cmocka_unit_test(host_keys_follow_from_names),
        cmocka_unit_test(damaged_text_names_the_field),
        cmocka_unit_test(command_line_keeps_words_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
