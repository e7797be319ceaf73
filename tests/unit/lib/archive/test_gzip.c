/* Bytes to gzip and back, and bytes that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "archive/archive.h"

static void what_goes_in_comes_out(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 65536, 300000};
    for (size_t i = 0; i < KP_ARRAY_LEN(sizes); i++) {
        KP_AUTO_BUF struct kp_buf data = {0}, gz = {0}, back = {0};
        for (size_t n = 0; n < sizes[i]; n++)
            kp_buf_putc(&data, (char)(n * n >> 7));
        kp_buf_puts(&back, "before");
        assert_int_equal(archive_gzip(data.data ? data.data : "", data.len, &gz, NULL), 0);
        assert_true(archive_is_gzip(gz.data, gz.len));
        assert_int_equal(archive_gunzip(gz.data, gz.len, sizes[i], &back, NULL), 0);
        assert_int_equal(back.len, data.len + 6);
        assert_memory_equal(back.data + 6, data.data ? data.data : "", data.len);
    }
}

static void what_is_no_gzip_is_refused_and_leaves_nothing(void **state)
{
    KP_AUTO_BUF struct kp_buf gz = {0}, out = {0};
    struct kp_error error = {0};
    assert_false(archive_is_gzip("{}", 2));
    assert_false(archive_is_gzip("\x1f\x8b", 2));
    assert_int_equal(archive_gzip("a long enough text, a long enough text", 38, &gz, NULL), 0);
    kp_buf_puts(&out, "kept");
    for (size_t cut = 0; cut < gz.len; cut++)
        assert_int_equal(archive_gunzip(gz.data, cut, 1000, &out, &error), KP_ECORRUPT);
    gz.data[gz.len - 6] ^= 1; /* its checksum */
    assert_int_equal(archive_gunzip(gz.data, gz.len, 1000, &out, &error), KP_ECORRUPT);
    gz.data[gz.len - 6] ^= 1;
    assert_int_equal(archive_gunzip(gz.data, gz.len, 37, &out, &error), KP_ETOOLARGE);
    assert_string_equal(out.data, "kept");
    assert_int_equal(out.len, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_goes_in_comes_out), cmocka_unit_test(what_is_no_gzip_is_refused_and_leaves_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
