/* One member without its sockets: requests through raft, log and store, over restarts and kills. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controlplane/etcd/server/server_internal.h"

struct fixture {
    char dir[64];
    struct etcd_config config;
    struct etcd_server *server;
};

static void start(struct fixture *f)
{
    struct kp_error error = {0};
    if (server_open(&f->config, &f->server, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(node_start(f->server, &error), 0);
    assert_int_equal(upkeep_start(f->server, &error), 0);
    while (!atomic_load(&f->server->upkeep.published))
        kp_sleep_ms(1);
}

static void stop(struct fixture *f)
{
    server_close(f->server);
    f->server = NULL;
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-member-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->config = (struct etcd_config){.name = "one",
                                     .data_dir = f->dir,
                                     .listen_client_urls = "http://127.0.0.1:2379",
                                     .advertise_client_urls = "http://127.0.0.1:2379",
                                     .listen_peer_urls = "http://127.0.0.1:2380",
                                     .initial_advertise_peer_urls = "http://127.0.0.1:2380",
                                     .initial_cluster = "one=http://127.0.0.1:2380",
                                     .initial_cluster_token = "t",
                                     .initial_cluster_state = "new",
                                     .heartbeat_ms = 20,
                                     .election_ms = 200,
                                     .snapshot_count = 100,
                                     .backend_batch_interval_ms = 20,
                                     .txn_ops_max = 128,
                                     .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT};
    start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->server)
        stop(f);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static ProtobufCBinaryData D(const char *s) { return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s}; }

static enum etcd_err put_lease(struct fixture *f, const char *key, const char *value, int64_t lease)
{
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = D(key);
    request.value = D(value);
    request.lease = lease;
    return op_run(f->server, OP_PUT, &request.base, NULL);
}
static enum etcd_err put(struct fixture *f, const char *key, const char *value) { return put_lease(f, key, value, 0); }

static const char *get(struct fixture *f, const char *key)
{
    static char value[256];
    struct mvcc_range_request r = {.key = {(const uint8_t *)key, strlen(key)}};
    struct mvcc_range_result result;
    assert_int_equal(node_wait_read(f->server), ETCD_OK);
    assert_int_equal(mvcc_range(f->server->mvcc, &r, &result, NULL), MVCC_OK);
    const char *found = NULL;
    if (result.len) {
        snprintf(value, sizeof value, "%.*s", (int)result.items[0].kv.value.len, result.items[0].kv.value.data);
        found = value;
    }
    mvcc_range_done(&result);
    return found;
}

static void what_was_put_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", "1"), ETCD_OK);
    assert_string_equal(get(f, "a"), "1");
    uint64_t member = f->server->member_id;
    stop(f);
    start(f);
    assert_int_equal(f->server->member_id, member);
    assert_int_equal(put(f, "b", "2"), ETCD_OK);
    assert_string_equal(get(f, "a"), "1");
    assert_string_equal(get(f, "b"), "2");
    assert_int_equal(mvcc_revision(f->server->mvcc), 3);
}

static void the_log_is_cut_behind_snapshots(void **state)
{
    struct fixture *f = *state;
    char key[32];
    for (int i = 0; i < 450; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(put(f, key, "v"), ETCD_OK);
    }
    int64_t deadline_ms = kp_mono_ms() + 10000;
    while (f->server->upkeep.last_snapshot < 300 && kp_mono_ms() < deadline_ms)
        kp_sleep_ms(20);
    assert_true(f->server->upkeep.last_snapshot >= 300);
    stop(f);
    start(f);
    assert_true(f->server->upkeep.last_snapshot >= 300);
    assert_string_equal(get(f, "k0"), "v");
    assert_string_equal(get(f, "k449"), "v");
    assert_int_equal(mvcc_revision(f->server->mvcc), 451);
}

static Etcdserverpb__RequestOp put_op(Etcdserverpb__PutRequest *put)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op.request_put = put;
    return op;
}

static void a_transaction_takes_one_branch_and_nests(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", "1"), ETCD_OK);
    Etcdserverpb__PutRequest inner_put = ETCDSERVERPB__PUT_REQUEST__INIT, outer_put = inner_put, other = inner_put;
    inner_put.key = D("inner");
    outer_put.key = D("outer");
    other.key = D("other");
    Etcdserverpb__RequestOp inner_op = put_op(&inner_put), outer_op = put_op(&outer_put), other_op = put_op(&other);
    Etcdserverpb__RequestOp *inner_ops[] = {&inner_op}, *other_ops[] = {&other_op};
    Etcdserverpb__TxnRequest inner = ETCDSERVERPB__TXN_REQUEST__INIT, txn = inner;
    inner.n_success = 1;
    inner.success = inner_ops;
    Etcdserverpb__RequestOp nested = ETCDSERVERPB__REQUEST_OP__INIT;
    nested.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
    nested.request_txn = &inner;
    Etcdserverpb__RequestOp *ops[] = {&outer_op, &nested};
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    compare.key = D("a");
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
    compare.value = D("1");
    Etcdserverpb__Compare *compares[] = {&compare};
    txn.n_compare = 1;
    txn.compare = compares;
    txn.n_success = 2;
    txn.success = ops;
    txn.n_failure = 1;
    txn.failure = other_ops;
    assert_int_equal(request_check(&f->config, OP_TXN, &txn.base), ETCD_OK);
    struct kp_blob *response = NULL;
    assert_int_equal(op_run(f->server, OP_TXN, &txn.base, &response), ETCD_OK);
    Etcdserverpb__TxnResponse *decoded =
        etcdserverpb__txn_response__unpack(NULL, response->len - 5, response->data + 5);
    assert_non_null(decoded);
    assert_true(decoded->succeeded);
    assert_int_equal(decoded->n_responses, 2);
    assert_int_equal(decoded->responses[1]->response_case, ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN);
    assert_int_equal(decoded->header->revision, 3);
    etcdserverpb__txn_response__free_unpacked(decoded, NULL);
    kp_blob_unref(response);
    assert_non_null(get(f, "outer"));
    assert_non_null(get(f, "inner"));
    assert_null(get(f, "other"));
    /* A transaction that cannot be done in full is not begun. */
    inner_put.lease = 99;
    assert_int_equal(op_run(f->server, OP_TXN, &txn.base, NULL), ETCD_LEASE_NOT_FOUND);
    assert_int_equal(mvcc_revision(f->server->mvcc), 3);
    /* What etcd refuses before it proposes. */
    inner_put.key = D("outer");
    assert_int_equal(request_check(&f->config, OP_TXN, &txn.base), ETCD_DUPLICATE_KEY);
    f->config.txn_ops_max = 1;
    assert_int_equal(request_check(&f->config, OP_TXN, &txn.base), ETCD_TOO_MANY_OPS);
    compare.key = D("");
    f->config.txn_ops_max = 2;
    assert_int_equal(request_check(&f->config, OP_TXN, &txn.base), ETCD_EMPTY_KEY);
}

static void deep_nesting_is_refused_before_it_is_decoded(void **state)
{
    KP_AUTO_BUF struct kp_buf bytes = {0};
    for (int i = 0; i < 40; i++) { /* TxnRequest{success: RequestOp{request_txn: ...}}, inside out */
        KP_AUTO_BUF struct kp_buf op = {0}, txn = {0};
        encode_message(&op, 4, bytes.data, bytes.len);
        encode_message(&txn, 2, op.data, op.len);
        kp_buf_done(&bytes);
        kp_buf_append(&bytes, txn.data, txn.len);
        bool fine = txn_depth_is_fine((uint8_t *)bytes.data, bytes.len);
        assert_int_equal(fine, i < ETCD_TXN_DEPTH_MAX);
    }
    assert_null(request_decode(OP_TXN, (uint8_t *)bytes.data, bytes.len));
    assert_null(request_decode(OP_PUT, (const uint8_t *)"\x0a\x7f", 2));
    assert_null(request_decode(OP_KIND_END, (const uint8_t *)"", 0));
}

static void a_lease_expires_by_itself(void **state)
{
    struct fixture *f = *state;
    Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    grant.id = 5;
    grant.ttl = 1;
    assert_int_equal(op_run(f->server, OP_LEASE_GRANT, &grant.base, NULL), ETCD_OK);
    assert_int_equal(put_lease(f, "a", "1", 5), ETCD_OK);
    assert_int_equal(put_lease(f, "b", "1", 6), ETCD_LEASE_NOT_FOUND);
    assert_non_null(get(f, "a"));
    int64_t deadline_ms = kp_mono_ms() + 10000;
    while (get(f, "a") && kp_mono_ms() < deadline_ms)
        kp_sleep_ms(50);
    assert_null(get(f, "a"));
}

static void an_alarm_stops_writes_until_it_is_cleared(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", "1"), ETCD_OK);
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    alarm.memberid = f->server->member_id;
    alarm.alarm = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
    assert_int_equal(op_run(f->server, OP_ALARM, &alarm.base, NULL), ETCD_OK);
    assert_int_equal(put(f, "a", "2"), ETCD_NO_SPACE);
    stop(f);
    start(f);
    assert_int_equal(put(f, "a", "2"), ETCD_NO_SPACE);
    Etcdserverpb__DeleteRangeRequest delete = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    delete.key = D("a");
    assert_int_equal(op_run(f->server, OP_DELETE_RANGE, &delete.base, NULL), ETCD_OK);
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
    assert_int_equal(op_run(f->server, OP_ALARM, &alarm.base, NULL), ETCD_OK);
    assert_int_equal(put(f, "a", "3"), ETCD_OK);
}

static void a_missing_log_is_noticed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", "1"), ETCD_OK);
    stop(f);
    char wal[128];
    snprintf(wal, sizeof wal, "%s/member/wal", f->dir);
    assert_int_equal(kp_remove_tree(wal, NULL), 0);
    struct kp_error error = {0};
    struct etcd_server *server = NULL;
    assert_int_equal(server_open(&f->config, &server, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "there is no log"));
}

/* In a child: numbered puts, each number written to the pipe once it is acknowledged. */
static void write_until_killed(struct fixture *f, int fd, int from)
{
    start(f);
    char key[32];
    for (int i = from;; i++) {
        snprintf(key, sizeof key, "n%d", i);
        if (put(f, key, key) != ETCD_OK || write(fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static void kill_9_loses_nothing_acknowledged(void **state)
{
    struct fixture *f = *state;
    stop(f);
    int acknowledged = -1;
    for (int round = 0; round < 5; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            write_until_killed(f, fds[1], acknowledged + 1);
        }
        close(fds[1]);
        int number, enough = acknowledged + 20 + 13 * round;
        while (read(fds[0], &number, sizeof number) == sizeof number) {
            acknowledged = number;
            if (number == enough)
                kill(pid, SIGKILL);
        }
        waitpid(pid, NULL, 0);
        assert_true(acknowledged >= enough);
        close(fds[0]);
    }
    start(f);
    char key[32];
    for (int i = 0; i <= acknowledged; i++) {
        snprintf(key, sizeof key, "n%d", i);
        const char *value = get(f, key);
        assert_non_null(value);
        assert_string_equal(value, key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_is_cut_behind_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_takes_one_branch_and_nests, setup, teardown),
        cmocka_unit_test(deep_nesting_is_refused_before_it_is_decoded),
        cmocka_unit_test_setup_teardown(a_lease_expires_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(an_alarm_stops_writes_until_it_is_cleared, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_log_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(kill_9_loses_nothing_acknowledged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
