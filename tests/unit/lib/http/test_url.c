/* URLs, queries, header lists, gzip. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/http/http.h"

static void urls_are_split(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_url url;
    assert_int_equal(http_url_parse("HTTPS://[fd00::1]:6443/a/b?c=d#e", arena, &url, NULL), 0);
    assert_string_equal(url.scheme, "https");
    assert_string_equal(url.host, "fd00::1");
    assert_int_equal(url.port, 6443);
    assert_string_equal(url.path, "/a/b");
    assert_string_equal(url.query, "c=d");
    assert_int_equal(http_url_parse("http://node.example", arena, &url, NULL), 0);
    assert_int_equal(url.port, 80);
    assert_string_equal(url.path, "/");
    assert_int_equal(http_url_parse("unix:///run/c.sock", arena, &url, NULL), 0);
    assert_string_equal(url.path, "/run/c.sock");
    static const char *const bad[] = { "", "ftp://x", "http://", "http://:80", "http://a:b", "http://a:70000", "http://u@h/", "http://a b/", "unix:", "https://[::1" };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        if (http_url_parse(bad[i], arena, &url, NULL) != KP_EBADREQUEST)
            fail_msg("\"%s\" was taken", bad[i]);
}

static void escapes_go_there_and_back(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = { 0 };
    kp_buf_puts(&out, "/api");
    http_query_append(&out, "labelSelector", "a=b,c in (d)");
    http_query_append(&out, "x", "");
    assert_string_equal(out.data, "/api?labelSelector=a%3Db%2Cc%20in%20%28d%29&x=");
    const char *iter = strchr(out.data, '?') + 1, *name, *value;
    assert_true(http_query_next(arena, &iter, &name, &value));
    assert_string_equal(value, "a=b,c in (d)");
    assert_true(http_query_next(arena, &iter, &name, &value));
    assert_string_equal(value, "");
    assert_false(http_query_next(arena, &iter, &name, &value));
    iter = "&&a=%zz&b&c=1+2";
    assert_true(http_query_next(arena, &iter, &name, &value));
    assert_string_equal(name, "b");
    assert_true(http_query_next(arena, &iter, &name, &value));
    assert_string_equal(value, "1 2");
    assert_null(http_percent_decode(arena, "%00", 3, false));
    assert_null(http_percent_decode(arena, "%4", 2, false));
}

static void tokens_are_found_in_lists(void **state)
{
    (void)state;
    const struct http_header headers[] = { { "Connection", "keep-alive , Upgrade" }, { "connection", "x" } };
    assert_true(http_header_has_token(headers, 2, "CONNECTION", "upgrade"));
    assert_true(http_header_has_token(headers, 2, "Connection", "X"));
    assert_false(http_header_has_token(headers, 2, "Connection", "grade"));
}

static void gzip_goes_there_and_back_within_a_bound(void **state)
{
    (void)state;
    char *text = kp_calloc(1, 200000);
    memset(text, 'k', 200000);
    KP_AUTO(kp_blob_unref) struct kp_blob *packed = http_gzip(text, 200000);
    assert_non_null(packed);
    assert_true(packed->len < 2000);
    KP_AUTO_BUF struct kp_buf out = { 0 };
    assert_int_equal(http_gunzip(packed->data, packed->len, 200000, &out), 0);
    assert_int_equal(out.len, 200000);
    assert_memory_equal(out.data, text, out.len);
    out.len = 0;
    assert_int_equal(http_gunzip(packed->data, packed->len, 199999, &out), KP_ETOOLARGE);
    assert_int_equal(http_gunzip(packed->data, packed->len - 5, 200000, &out), KP_EBADREQUEST);
    assert_int_equal(http_gunzip("nonsense", 8, 200000, &out), KP_EBADREQUEST);
    kp_random_bytes(text, 1000);
    assert_null(http_gzip(text, 1000));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_split),
        cmocka_unit_test(escapes_go_there_and_back),
        cmocka_unit_test(tokens_are_found_in_lists),
        cmocka_unit_test(gzip_goes_there_and_back_within_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
