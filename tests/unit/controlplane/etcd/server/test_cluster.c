/* Several stepped members that pass their messages in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/etcd/server/server_internal.h"

#define MEMBERS_MAX 5
#define WAIT_MS_MAX 20000 /* only a broken test waits so long */

struct cluster;
struct machine {
    struct cluster *cluster;
    char *dir, name[8], url[32];
    struct etcd_config config;
    struct etcd_world world;
    struct etcd_server *server; /* NULL: down */
    uint64_t id;                /* once it was up */
    bool cut_off;
};
struct cluster {
    char dir[64], initial[256];
    struct machine machines[MEMBERS_MAX];
    size_t len;
    struct raft_message *queue;
    size_t queue_len, queue_cap;
    unsigned images;
    bool lose_images;
};

static struct machine *by_id(struct cluster *c, uint64_t id)
{
    for (size_t i = 0; i < c->len; i++)
        if (c->machines[i].id == id)
            return &c->machines[i];
    return NULL;
}

static void on_send(void *ctx, struct etcd_server *server, struct raft_message *message)
{
    struct cluster *c = ((struct machine *)ctx)->cluster;
    if (c->queue_len == c->queue_cap) {
        c->queue_cap = c->queue_cap ? c->queue_cap * 2 : 64;
        c->queue = kp_realloc(c->queue, c->queue_cap * sizeof *c->queue);
    }
    c->queue[c->queue_len++] = *message;
}

static bool reaches(struct machine *from, struct machine *to)
{
    return from && to && from->server && to->server && !from->cut_off && !to->cut_off;
}

static void on_send_snapshot(void *ctx, struct etcd_server *server, struct raft_message *message, const char *path)
{
    struct machine *from = ctx, *to = by_id(from->cluster, message->to);
    uint64_t id = message->to;
    bool ok = reaches(from, to) && !from->cluster->lose_images;
    if (ok) {
        server_receive_snapshot(to->server, message, path);
        from->cluster->images++;
    } else {
        raft_message_done(message);
        unlink(path);
    }
    server_snapshot_sent(server, id, ok);
}

static int on_get(void *ctx, const char *urls, const char *path, struct kp_buf *ret_body, uint64_t *ret_cluster_id,
                  struct kp_error *error)
{
    struct machine *from = ctx;
    const char *type;
    for (size_t i = 0; i < from->cluster->len; i++) {
        struct machine *m = &from->cluster->machines[i];
        if (m == from || !m->server || !strstr(urls, m->url))
            continue;
        *ret_cluster_id = m->server->cluster_id;
        return server_get(m->server, path, &type, ret_body, error);
    }
    return kp_fail(error, KP_EUNAVAILABLE, "nobody there");
}

static int on_ask(void *ctx, struct etcd_server *server, uint64_t to, const char *what, struct kp_bytes question,
                  struct kp_buf *ret_answer, struct kp_error *error)
{
    struct machine *from = ctx, *other = by_id(from->cluster, to);
    return reaches(from, other) ? server_question(other->server, what, question, ret_answer, error)
                                : kp_fail(error, KP_EUNAVAILABLE, "nobody there");
}

static void configure(struct cluster *c, struct machine *m, const char *state, const char *initial)
{
    m->world = (struct etcd_world){
        .ctx = m, .stepped = true, .send = on_send, .send_snapshot = on_send_snapshot, .get = on_get, .ask = on_ask};
    m->config = (struct etcd_config){.name = m->name,
                                     .data_dir = m->dir,
                                     .listen_client_urls = "http://127.0.0.1:2379",
                                     .advertise_client_urls = "http://127.0.0.1:2379",
                                     .listen_peer_urls = m->url,
                                     .initial_advertise_peer_urls = m->url,
                                     .initial_cluster = initial,
                                     .initial_cluster_token = "t",
                                     .initial_cluster_state = state,
                                     .heartbeat_ms = 10,
                                     .election_ms = 100,
                                     .snapshot_count = 50,
                                     .txn_ops_max = 128,
                                     .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT,
                                     .world = &m->world};
}

static struct machine *new_machine(struct cluster *c)
{
    assert_true(c->len < MEMBERS_MAX);
    struct machine *m = &c->machines[c->len++];
    m->cluster = c;
    snprintf(m->name, sizeof m->name, "m%zu", c->len);
    m->dir = kp_asprintf("%s/%s", c->dir, m->name);
    snprintf(m->url, sizeof m->url, "http://127.0.0.1:%zu", 2000 + c->len);
    return m;
}

static void up(struct machine *m)
{
    struct kp_error error = {0};
    if (server_open(&m->config, &m->server, &error) < 0)
        fail_msg("%s", error.message);
    m->id = m->server->member_id;
}

static void down(struct machine *m)
{
    server_close(m->server);
    m->server = NULL;
}

static void turn(struct cluster *c)
{
    for (size_t i = 0; i < c->len; i++) {
        struct machine *m = &c->machines[i];
        if (!m->server)
            continue;
        server_turn(m->server);
        server_upkeep_turn(m->server);
        while (server_watch_turn(m->server))
            ;
    }
    size_t len = c->queue_len;
    for (size_t i = 0; i < len; i++) {
        struct machine *from = by_id(c, c->queue[i].from), *to = by_id(c, c->queue[i].to);
        if (reaches(from, to))
            server_receive(to->server, &c->queue[i]);
        else
            raft_message_done(&c->queue[i]);
    }
    c->queue_len -= len;
    if (c->queue_len)
        memmove(c->queue, c->queue + len, c->queue_len * sizeof *c->queue);
    if (len == 0)
        kp_sleep_ms(1);
}

/* Until what stands there is so. */
#define UNTIL(c, condition)                                                                                            \
    do {                                                                                                               \
        int64_t give_up_ms = kp_mono_ms() + WAIT_MS_MAX;                                                               \
        while (!(condition)) {                                                                                         \
            if (kp_mono_ms() > give_up_ms)                                                                             \
                fail_msg("waited in vain for " #condition);                                                            \
            turn(c);                                                                                                   \
        }                                                                                                              \
    } while (0)

static struct machine *leader(struct cluster *c)
{
    for (size_t i = 0; i < c->len; i++) {
        struct machine *m = &c->machines[i];
        if (m->server && !m->cut_off && atomic_load(&m->server->node.is_leader))
            return m;
    }
    return NULL;
}

static struct machine *follower(struct cluster *c)
{
    for (size_t i = 0; i < c->len; i++) {
        struct machine *m = &c->machines[i];
        if (m->server && !m->cut_off && !atomic_load(&m->server->node.is_leader) && atomic_load(&m->server->node.leader))
            return m;
    }
    return NULL;
}

static bool all_published(struct cluster *c)
{
    for (size_t i = 0; i < c->len; i++)
        if (c->machines[i].server && !atomic_load(&c->machines[i].server->upkeep.published))
            return false;
    return true;
}

static int setup(void **state)
{
    struct cluster *c = kp_calloc(1, sizeof *c);
    strcpy(c->dir, "/tmp/test-cluster-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    for (int i = 0; i < 3; i++) {
        struct machine *m = new_machine(c);
        size_t at = strlen(c->initial);
        snprintf(c->initial + at, sizeof c->initial - at, "%s%s=%s", i ? "," : "", m->name, m->url);
    }
    for (int i = 0; i < 3; i++) {
        configure(c, &c->machines[i], "new", c->initial);
        up(&c->machines[i]);
    }
    UNTIL(c, leader(c) && all_published(c));
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct cluster *c = *state;
    for (size_t i = 0; i < c->len; i++) {
        down(&c->machines[i]);
        free(c->machines[i].dir);
    }
    for (size_t i = 0; i < c->queue_len; i++)
        raft_message_done(&c->queue[i]);
    free(c->queue);
    assert_int_equal(kp_remove_tree(c->dir, NULL), 0);
    free(c);
    return 0;
}

struct done_op {
    struct op op;
    bool done;
};
static void op_is_done(struct op *op) { ((struct done_op *)op->ctx)->done = true; }

static enum etcd_err run(struct machine *m, enum op_kind kind, const ProtobufCMessage *request)
{
    struct done_op d = {0};
    op_init(m->server, &d.op, kind, request);
    d.op.done = op_is_done;
    d.op.ctx = &d;
    op_propose(m->server, &d.op);
    UNTIL(m->cluster, d.done);
    op_done(&d.op);
    return d.op.err;
}

static ProtobufCBinaryData D(const char *s) { return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s}; }

static enum etcd_err put(struct machine *m, const char *key, const char *value)
{
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = D(key);
    request.value = D(value);
    return run(m, OP_PUT, &request.base);
}

static void read_is_done(struct read_wait *wait) { *(bool *)wait->ctx = true; }

/* A linearizable read at this member. */
static void expect(struct machine *m, const char *key, const char *value)
{
    bool done = false;
    struct read_wait wait = {.deadline_ms = kp_mono_ms() + WAIT_MS_MAX, .done = read_is_done, .ctx = &done};
    node_read(m->server, &wait);
    UNTIL(m->cluster, done);
    assert_int_equal(wait.err, ETCD_OK);
    struct mvcc_range_request r = {.key = {(const uint8_t *)key, strlen(key)}};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_range(m->server->mvcc, &r, &result, NULL), MVCC_OK);
    assert_int_equal(result.len, 1);
    assert_int_equal(result.items[0].kv.value.len, strlen(value));
    assert_memory_equal(result.items[0].kv.value.data, value, strlen(value));
    mvcc_range_done(&result);
}

static void a_leader_is_elected_and_every_member_takes_requests(void **state)
{
    struct cluster *c = *state;
    struct machine *l = leader(c), *f = follower(c);
    assert_int_equal(put(l, "a", "1"), ETCD_OK);
    expect(f, "a", "1");
    assert_int_equal(put(f, "b", "2"), ETCD_OK);
    expect(l, "b", "2");
    for (size_t i = 0; i < c->len; i++)
        expect(&c->machines[i], "b", "2");
}

static void two_go_on_without_the_third_which_catches_up(void **state)
{
    struct cluster *c = *state;
    assert_int_equal(put(leader(c), "a", "1"), ETCD_OK);
    struct machine *dead = leader(c);
    down(dead);
    UNTIL(c, leader(c));
    assert_int_equal(put(leader(c), "a", "2"), ETCD_OK);
    assert_int_equal(put(follower(c), "b", "3"), ETCD_OK);
    up(dead);
    expect(dead, "a", "2");
    expect(dead, "b", "3");
}

static void a_leader_without_a_quorum_steps_down(void **state)
{
    struct cluster *c = *state;
    struct machine *alone = leader(c);
    alone->cut_off = true;
    UNTIL(c, leader(c) && !atomic_load(&alone->server->node.leader));
    assert_int_equal(put(leader(c), "a", "2"), ETCD_OK);
    alone->cut_off = false;
    expect(alone, "a", "2");
}

static enum etcd_err put_in_term(struct machine *m, const char *key, uint64_t term)
{
    struct done_op d = {0};
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = request.value = D(key);
    op_init(m->server, &d.op, OP_PUT, &request.base);
    d.op.only_term = term;
    d.op.done = op_is_done;
    d.op.ctx = &d;
    op_propose(m->server, &d.op);
    UNTIL(m->cluster, d.done);
    op_done(&d.op);
    return d.op.err;
}

static void what_belongs_to_a_term_is_not_passed_on_to_another_leader(void **state)
{
    struct cluster *c = *state;
    struct machine *old = leader(c);
    uint64_t term = atomic_load(&old->server->node.term);
    assert_int_equal(put_in_term(old, "a", term), ETCD_OK);
    assert_int_equal(put_in_term(old, "b", term + 1), ETCD_NOT_LEADER);
    assert_int_equal(put_in_term(follower(c), "b", term), ETCD_NOT_LEADER);
    old->cut_off = true;
    UNTIL(c, leader(c) && !atomic_load(&old->server->node.leader));
    old->cut_off = false;
    UNTIL(c, atomic_load(&old->server->node.leader));
    assert_int_equal(put_in_term(old, "b", term), ETCD_NOT_LEADER);
    /* Others wait behind nothing that was refused. */
    assert_int_equal(put(old, "c", "1"), ETCD_OK);
    expect(leader(c), "c", "1");
}

struct seen {
    struct mvcc_watcher *watcher;
    int64_t revisions[1024];
    size_t len;
};
static bool on_events(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    struct seen *seen = ctx;
    assert_int_equal(batch->compact_revision, 0);
    for (size_t i = 0; i < batch->len; i++)
        seen->revisions[seen->len++] = batch->events[i]->revision;
    return true;
}

static void a_follower_far_behind_gets_an_image_and_its_watchers_every_event(void **state)
{
    struct cluster *c = *state;
    struct machine *behind = follower(c);
    struct seen seen = {0};
    struct mvcc_watch_request watch = {.key = {(const uint8_t *)"k", 1}, .range_end = {(const uint8_t *)"l", 1}};
    assert_int_equal(mvcc_watch(behind->server->mvcc, &watch, on_events, &seen, NULL, &seen.watcher), MVCC_OK);
    char key[16];
    for (int i = 0; i < 300; i++) {
        if (i == 10) {
            expect(behind, "k9", "v");
            behind->cut_off = true;
            UNTIL(c, leader(c));
        }
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(put(leader(c), key, "v"), ETCD_OK);
    }
    /* The log in memory goes further back than the disk's: forget it, as time would. */
    struct node *node = &leader(c)->server->node;
    raft_compact(node->raft, atomic_load(&node->applied));
    behind->cut_off = false;
    expect(behind, "k299", "v");
    assert_true(c->images > 0);
    UNTIL(c, seen.len >= 300);
    assert_int_equal(seen.len, 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(seen.revisions[i], i + 2);
    mvcc_watch_cancel(behind->server->mvcc, seen.watcher);
    /* What was installed is what a restart finds. */
    down(behind);
    up(behind);
    assert_int_equal(put(leader(c), "k0", "w"), ETCD_OK);
    expect(behind, "k0", "w");
    expect(behind, "k299", "v");
}

static enum etcd_err change(struct machine *m, enum op_kind kind, uint64_t id, const char *url, bool learner)
{
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    char *urls[] = {(char *)(uintptr_t)url};
    member.id = id;
    member.peerurls = urls;
    member.n_peerurls = url ? 1 : 0;
    member.islearner = learner;
    enum etcd_err err = cluster_check_change(m->server, kind, &member);
    return err == ETCD_OK ? run(m, kind, &member.base) : err;
}

static bool all_know(struct cluster *c, size_t members)
{
    for (size_t i = 0; i < c->len; i++)
        if (c->machines[i].server && c->machines[i].server->members.len != members)
            return false;
    return true;
}

static void a_learner_joins_catches_up_and_is_promoted(void **state)
{
    struct cluster *c = *state;
    assert_int_equal(put(leader(c), "a", "1"), ETCD_OK);
    struct machine *m = new_machine(c);
    assert_int_equal(change(leader(c), OP_MEMBER_ADD, 77, m->url, true), ETCD_OK);
    assert_int_equal(change(leader(c), OP_MEMBER_ADD, 78, "http://127.0.0.1:1", true), ETCD_TOO_MANY_LEARNERS);
    assert_int_equal(change(leader(c), OP_MEMBER_ADD, 78, m->url, false), ETCD_PEER_URL_EXISTS);
    assert_int_equal(change(leader(c), OP_MEMBER_PROMOTE, 77, NULL, false), ETCD_LEARNER_NOT_READY);
    UNTIL(c, all_know(c, 4)); /* whichever it asks */
    char initial[320];
    snprintf(initial, sizeof initial, "%s,%s=%s", c->initial, m->name, m->url);
    configure(c, m, "existing", initial);
    up(m);
    assert_int_equal(m->id, 77);
    UNTIL(c, atomic_load(&m->server->upkeep.published));
    assert_true(atomic_load(&m->server->learner));
    assert_true(c->images > 0);
    expect(m, "a", "1");
    enum etcd_err err = ETCD_LEARNER_NOT_READY;
    UNTIL(c, (err = change(leader(c), OP_MEMBER_PROMOTE, 77, NULL, false)) != ETCD_LEARNER_NOT_READY);
    assert_int_equal(err, ETCD_OK);
    UNTIL(c, !atomic_load(&m->server->learner));
    assert_int_equal(change(leader(c), OP_MEMBER_PROMOTE, 77, NULL, false), ETCD_MEMBER_NOT_LEARNER);
    assert_int_equal(put(m, "b", "2"), ETCD_OK);
    down(m);
    up(m);
    expect(m, "b", "2");
}

static void a_removed_leader_hands_over_and_knows(void **state)
{
    struct cluster *c = *state;
    struct machine *gone = leader(c);
    assert_int_equal(change(gone, OP_MEMBER_REMOVE, 12345, NULL, false), ETCD_MEMBER_NOT_FOUND);
    assert_int_equal(change(gone, OP_MEMBER_REMOVE, gone->id, NULL, false), ETCD_OK);
    UNTIL(c, server_is_removed(gone->server) && leader(c) && leader(c) != gone);
    assert_int_equal(put(leader(c), "a", "1"), ETCD_OK);
    assert_int_equal(leader(c)->server->members.len, 2);
    /* It stays out, also with its data. */
    down(gone);
    struct kp_error error = {0};
    struct etcd_server *server = NULL;
    assert_int_equal(server_open(&gone->config, &server, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "permanently removed"));
    /* Two of two are needed now: removing one more is refused while the other is away. */
    struct machine *f = follower(c);
    f->cut_off = true;
    for (int i = 0; i < 50 && leader(c); i++)
        turn(c);
    f->cut_off = false;
    UNTIL(c, leader(c) && follower(c));
    assert_int_equal(put(follower(c), "a", "2"), ETCD_OK);
}

static void a_member_that_was_away_learns_that_it_is_removed(void **state)
{
    struct cluster *c = *state;
    struct machine *away = follower(c);
    away->cut_off = true;
    UNTIL(c, leader(c));
    enum etcd_err err = ETCD_UNHEALTHY;
    UNTIL(c, leader(c) && (err = change(leader(c), OP_MEMBER_REMOVE, away->id, NULL, false)) != ETCD_UNHEALTHY);
    assert_int_equal(err, ETCD_OK);
    away->cut_off = false;
    UNTIL(c, server_is_removed(away->server));
}

static void a_member_without_its_data_does_not_begin_anew(void **state)
{
    struct cluster *c = *state;
    struct machine *m = follower(c);
    down(m);
    assert_int_equal(kp_remove_tree(m->dir, NULL), 0);
    struct kp_error error = {0};
    assert_int_equal(server_open(&m->config, &m->server, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "has already been bootstrapped"));
}

static void the_last_one_can_be_forced_to_go_on_alone(void **state)
{
    struct cluster *c = *state;
    assert_int_equal(put(leader(c), "a", "1"), ETCD_OK);
    struct machine *last = follower(c);
    expect(last, "a", "1");
    for (size_t i = 0; i < c->len; i++)
        down(&c->machines[i]);
    last->config.force_new_cluster = true;
    up(last);
    expect(last, "a", "1");
    assert_int_equal(put(last, "b", "2"), ETCD_OK);
    assert_int_equal(last->server->members.len, 1);
    down(last);
    last->config.force_new_cluster = false;
    up(last);
    expect(last, "b", "2");
}

static void a_follower_asks_the_leader_about_leases(void **state)
{
    struct cluster *c = *state;
    struct machine *f = follower(c);
    Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    grant.id = 5;
    grant.ttl = 600;
    assert_int_equal(run(f, OP_LEASE_GRANT, &grant.base), ETCD_OK);
    int64_t ttl_s = 0, granted_s = 0, remaining_s = 0;
    bool found = false;
    assert_int_equal(lease_renew_anywhere(f->server, 5, &ttl_s), ETCD_OK);
    assert_int_equal(ttl_s, 600);
    assert_int_equal(lease_renew_anywhere(f->server, 6, &ttl_s), ETCD_OK);
    assert_int_equal(ttl_s, 0);
    assert_int_equal(lease_remaining_anywhere(f->server, 5, &found, &granted_s, &remaining_s), ETCD_OK);
    assert_true(found && granted_s == 600 && remaining_s > 500);
    f->cut_off = true;
    assert_int_equal(lease_renew_anywhere(f->server, 5, &ttl_s), ETCD_TIMEOUT);
}

static void a_member_that_holds_something_else_raises_the_alarm(void **state)
{
    struct cluster *c = *state;
    struct machine *f = follower(c);
    for (size_t i = 0; i < c->len; i++)
        c->machines[i].server->config.corrupt_check_ms = 30;
    assert_int_equal(put(leader(c), "a", "1"), ETCD_OK);
    expect(f, "a", "1");
    for (int i = 0; i < 50; i++)
        turn(c);
    assert_false(atomic_load(&f->server->alarms.corrupt));
    struct mvcc_put_request rot = {.key = {(const uint8_t *)"rot", 3}, .value = {(const uint8_t *)"x", 1}};
    mvcc_begin(f->server->mvcc);
    assert_int_equal(mvcc_put(f->server->mvcc, &rot, NULL, NULL), MVCC_OK);
    mvcc_end(f->server->mvcc);
    assert_int_equal(put(leader(c), "a", "2"), ETCD_OK);
    UNTIL(c, atomic_load(&leader(c)->server->alarms.corrupt) && atomic_load(&f->server->alarms.corrupt));
    assert_int_equal(leader(c)->server->alarms.items[0].member_id, f->id);
    assert_int_equal(put(leader(c), "a", "3"), ETCD_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_leader_is_elected_and_every_member_takes_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(two_go_on_without_the_third_which_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_leader_without_a_quorum_steps_down, setup, teardown),
        cmocka_unit_test_setup_teardown(what_belongs_to_a_term_is_not_passed_on_to_another_leader, setup, teardown),
        cmocka_unit_test_setup_teardown(a_follower_far_behind_gets_an_image_and_its_watchers_every_event, setup, teardown),
        cmocka_unit_test_setup_teardown(a_learner_joins_catches_up_and_is_promoted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_leader_hands_over_and_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_member_that_was_away_learns_that_it_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_member_without_its_data_does_not_begin_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_follower_asks_the_leader_about_leases, setup, teardown),
        cmocka_unit_test_setup_teardown(a_member_that_holds_something_else_raises_the_alarm, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_one_can_be_forced_to_go_on_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
