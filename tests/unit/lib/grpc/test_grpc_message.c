/* Frames, packing, nesting bounds, status and time-out texts. */
#include "lib/grpc/grpc_internal.h"

#include "proto/etcd.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void message_round_trips_through_an_arena(void **state)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "key"};
    put.lease = -7;
    put.prev_kv = 1;
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(&put.base);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct grpc_frames frames = {.message_bytes_max = 1000};
    struct kp_bytes bytes;
    for (size_t i = 0; i < framed->len; i++) { /* byte by byte */
        assert_int_equal(grpc_frames_next(&frames, &bytes), 0);
        grpc_frames_feed(&frames, framed->data + i, 1);
    }
    assert_int_equal(grpc_frames_next(&frames, &bytes), 1);
    const Etcdserverpb__PutRequest *back =
        (const void *)grpc_unpack(&etcdserverpb__put_request__descriptor, arena, bytes.data, bytes.len);
    assert_non_null(back);
    assert_int_equal(back->key.len, 3);
    assert_memory_equal(back->key.data, "key", 3);
    assert_int_equal(back->lease, -7);
    assert_true(back->prev_kv);
    assert_true(grpc_frames_empty(&frames));
    grpc_frames_done(&frames);
}

static void frames_refuse_what_is_too_large_compressed_or_wrong(void **state)
{
    static const struct {
        uint8_t header[5];
        int rc;
    } cases[] = {
        {{0, 0, 0, 4, 1}, -GRPC_RESOURCE_EXHAUSTED},
        {{0, 0xff, 0xff, 0xff, 0xff}, -GRPC_RESOURCE_EXHAUSTED},
        {{1, 0, 0, 0, 1}, -GRPC_UNIMPLEMENTED},
        {{2, 0, 0, 0, 1}, -GRPC_INTERNAL},
        {{0, 0, 0, 0, 0}, 1},
        {{0, 0, 0, 4, 0}, 0},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct grpc_frames frames = {.message_bytes_max = 1024};
        struct kp_bytes bytes;
        grpc_frames_feed(&frames, cases[i].header, 5);
        assert_int_equal(grpc_frames_next(&frames, &bytes), cases[i].rc);
        grpc_frames_done(&frames);
    }
}

static void deep_nesting_is_refused_not_followed(void **state)
{
    /* TxnRequest.success (2) -> RequestOp.request_txn (4) -> TxnRequest ... built from the inside out. */
    KP_AUTO_BUF struct kp_buf inner = {0};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (int level = 0; level < 2000; level++) {
        KP_AUTO_BUF struct kp_buf outer = {0};
        kp_buf_putc(&outer, (char)((level % 2 ? 2 : 4) << 3 | 2));
        for (size_t len = inner.len;; len >>= 7) {
            kp_buf_putc(&outer, (char)((len & 0x7f) | (len > 0x7f ? 0x80 : 0)));
            if (len <= 0x7f)
                break;
        }
        kp_buf_append(&outer, inner.data, inner.len);
        kp_buf_done(&inner);
        inner = outer;
        outer = (struct kp_buf){0};
        if (level == 41)
            assert_non_null(grpc_unpack(&etcdserverpb__txn_request__descriptor, arena, inner.data, inner.len));
    }
    assert_null(grpc_unpack(&etcdserverpb__txn_request__descriptor, arena, inner.data, inner.len));
}

static void arena_cap_bounds_decoding(void **state)
{
    static uint8_t value[100000];
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.value = (ProtobufCBinaryData){sizeof(value), value};
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(&put.base);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(50000);
    assert_null(grpc_unpack(&etcdserverpb__put_request__descriptor, arena, framed->data + 5, framed->len - 5));
    assert_null(grpc_unpack(&etcdserverpb__put_request__descriptor, arena, framed->data + 5, 20000));
}

static void status_messages_survive_encoding(void **state)
{
    static const char text[] = "etcdserver: 100% \xc3\xa4\n done";
    KP_AUTO_BUF struct kp_buf wire = {0};
    KP_AUTO_BUF struct kp_buf back = {0};
    grpc_status_message_encode(&wire, text);
    assert_string_equal(wire.data, "etcdserver: 100%25 %C3%A4%0A done");
    grpc_status_message_decode(&back, wire.data);
    assert_string_equal(back.data, text);
    kp_buf_done(&back);
    kp_buf_done(&wire);
    grpc_status_message_encode(&wire, " a b ");
    assert_string_equal(wire.data, "%20a b%20");
    grpc_status_message_decode(&back, "%zz%4%00%");
    assert_string_equal(back.data, "%zz%4%00%");
}

static void statuses_and_codes_map_both_ways(void **state)
{
    for (int status = 0; status <= GRPC_UNAUTHENTICATED; status++) {
        int code = grpc_status_to_code(status);
        assert_true(status == 0 ? code == 0 : code < 0);
        if (status != GRPC_UNKNOWN && status != GRPC_ABORTED)
            assert_int_equal(grpc_status_from_code(code), status);
    }
    assert_int_equal(grpc_status_to_code(999), KP_EINTERNAL);
    assert_string_equal(grpc_status_name(5), "NOT_FOUND");
}

static void timeouts_parse_and_format(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"1H", 3600000}, {"2M", 120000}, {"3S", 3000}, {"100m", 100}, {"1500u", 2}, {"1n", 1}, {"99999999m", 99999999}};
    for (size_t i = 0; i < KP_ARRAY_LEN(good); i++) {
        int64_t ms = 0;
        assert_int_equal(grpc_timeout_parse(good[i].text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"", "S", "1", "1x", "123456789m", "-1S", "1S ", " 1S"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        int64_t ms;
        assert_int_equal(grpc_timeout_parse(bad[i], &ms), KP_EBADREQUEST);
    }
    char text[GRPC_TIMEOUT_TEXT_MAX];
    grpc_timeout_format(text, 1500);
    assert_string_equal(text, "1500m");
    grpc_timeout_format(text, 100000000);
    assert_string_equal(text, "100000S");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_round_trips_through_an_arena),
        cmocka_unit_test(frames_refuse_what_is_too_large_compressed_or_wrong),
        cmocka_unit_test(deep_nesting_is_refused_not_followed),
        cmocka_unit_test(arena_cap_bounds_decoding),
        cmocka_unit_test(status_messages_survive_encoding),
        cmocka_unit_test(statuses_and_codes_map_both_ways),
        cmocka_unit_test(timeouts_parse_and_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
