/* The bytes between members, and configurations as values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "controlplane/etcd/raft/raft.h"

static struct raft_message sample(void)
{
    struct raft_message m = {.type = RAFT_MSG_APPEND, .to = 2, .from = 1, .term = 7, .index = 10, .log_term = 6,
                             .commit = 9, .commit_term = 5, .reject_hint = 3, .context = 11, .reject = true, .force = true};
    m.entries_len = 3;
    m.entries = kp_calloc(3, sizeof(*m.entries));
    m.entries[0] = (struct raft_entry){11, 7, RAFT_ENTRY_NORMAL, kp_blob_new("hello", 5)};
    m.entries[1] = (struct raft_entry){12, 7, RAFT_ENTRY_CONF_CHANGE, NULL};
    m.entries[2] = (struct raft_entry){13, 7, RAFT_ENTRY_NORMAL, NULL};
    m.snapshot = kp_calloc(1, sizeof(*m.snapshot));
    m.snapshot->index = 5;
    m.snapshot->term = 4;
    m.snapshot->data = kp_blob_new("image", 5);
    raft_id_set_add(&m.snapshot->conf.voters, 9);
    raft_id_set_add(&m.snapshot->conf.voters, 3);
    raft_id_set_add(&m.snapshot->conf.voters_outgoing, 3);
    raft_id_set_add(&m.snapshot->conf.learners, 4);
    raft_id_set_add(&m.snapshot->conf.learners_next, 3);
    m.snapshot->conf.auto_leave = true;
    return m;
}

static void a_message_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct raft_message in = sample(), out;
    KP_AUTO_BUF struct kp_buf bytes = {0};
    kp_buf_puts(&bytes, "before");
    raft_message_encode(&bytes, &in);
    assert_int_equal(raft_message_decode(bytes.data + 6, bytes.len - 6, &out, NULL), 0);
    assert_int_equal(out.type, in.type);
    assert_int_equal(out.to, 2);
    assert_int_equal(out.from, 1);
    assert_int_equal(out.term, 7);
    assert_int_equal(out.index, 10);
    assert_int_equal(out.log_term, 6);
    assert_int_equal(out.commit, 9);
    assert_int_equal(out.commit_term, 5);
    assert_int_equal(out.reject_hint, 3);
    assert_int_equal(out.context, 11);
    assert_true(out.reject && out.force);
    assert_int_equal(out.entries_len, 3);
    assert_memory_equal(out.entries[0].data->data, "hello", 5);
    assert_int_equal(out.entries[1].type, RAFT_ENTRY_CONF_CHANGE);
    assert_null(out.entries[2].data);
    assert_true(raft_conf_equal(&out.snapshot->conf, &in.snapshot->conf));
    assert_memory_equal(out.snapshot->data->data, "image", 5);
    raft_message_done(&in);
    raft_message_done(&out);
}

static void a_damaged_message_is_refused(void **state)
{
    (void)state;
    struct raft_message in = sample(), out = {0};
    KP_AUTO_BUF struct kp_buf bytes = {0};
    raft_message_encode(&bytes, &in);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(raft_message_decode(bytes.data, len, &out, NULL), KP_ECORRUPT);
    for (size_t i = 0; i < bytes.len * 8; i++) {
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << (i % 8)));
        assert_int_equal(raft_message_decode(bytes.data, bytes.len, &out, NULL), KP_ECORRUPT);
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << (i % 8)));
    }
    raft_message_done(&in);
}

static void a_member_without_a_random_function_is_refused(void **state)
{
    (void)state;
    KP_AUTO(raft_free) struct raft *raft = NULL;
    struct raft_config config = {.id = 3};
    struct kp_error error = {0};
    assert_int_equal(raft_new(&config, &raft, &error), KP_EINVALID); /* no random function */
    assert_null(raft);
}

static uint64_t zero(void *ctx, uint64_t bound) { return 0; }

static struct raft *member(uint64_t id)
{
    struct raft *raft = NULL;
    struct raft_config config = {.id = id, .random = zero};
    for (uint64_t i = 1; i <= 3; i++)
        raft_id_set_add(&config.conf.voters, i);
    assert_int_equal(raft_new(&config, &raft, NULL), 0);
    return raft;
}

static void what_no_peer_would_send_is_refused(void **state)
{
    (void)state;
    KP_AUTO(raft_free) struct raft *raft = member(1);
    struct raft_entry entry = {.index = 9, .term = 2};
    struct raft_snapshot snapshot = {.index = 0, .term = 1};
    const struct raft_message bad[] = {
        {.type = 0, .to = 1, .from = 2, .term = 2},
        {.type = RAFT_MSG_TYPE_COUNT, .to = 1, .from = 2, .term = 2},
        {.type = RAFT_MSG_VOTE, .to = 2, .from = 3, .term = 2},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 1, .term = 2},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 0, .term = 2},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = 0},
        {.type = RAFT_MSG_PROPOSE, .to = 1, .from = 2, .term = 2},
        {.type = RAFT_MSG_SNAPSHOT, .to = 1, .from = 2, .term = 2},
        {.type = RAFT_MSG_SNAPSHOT, .to = 1, .from = 2, .term = 2, .snapshot = &snapshot},
        {.type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 2, .snapshot = &snapshot},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = UINT64_MAX},
        {.type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 2, .commit = UINT64_MAX},
        {.type = RAFT_MSG_APPEND, .to = 1, .from = 2, .term = 2, .index = 1, .log_term = 1, .entries = &entry, .entries_len = 1},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        struct kp_error error = {0};
        assert_int_equal(raft_step(raft, &bad[i], &error), KP_EBADREQUEST);
        assert_true(error.message[0] != '\0');
    }
    /* A leader that knows more of this log than it holds: the member lost its disk. */
    struct raft_message lost = {.type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 3, .commit = 50};
    assert_int_equal(raft_step(raft, &lost, NULL), KP_ECORRUPT);
}

static void a_log_that_contradicts_itself_does_not_start(void **state)
{
    (void)state;
    struct raft *raft = NULL;
    struct raft_config config = {.id = 1, .random = zero, .snapshot_index = 5, .snapshot_term = 2};
    raft_id_set_add(&config.conf.voters, 1);
    struct raft_entry gap = {.index = 7, .term = 2}, old = {.index = 6, .term = 1}, good = {.index = 6, .term = 2};
    config.entries_len = 1;
    config.entries = &gap;
    assert_int_equal(raft_new(&config, &raft, NULL), KP_EINVALID);
    config.entries = &old;
    assert_int_equal(raft_new(&config, &raft, NULL), KP_EINVALID);
    config.entries = &good;
    config.hard_state.commit = 7;
    assert_int_equal(raft_new(&config, &raft, NULL), KP_ECORRUPT);
    config.hard_state.commit = 6;
    config.applied = 7;
    assert_int_equal(raft_new(&config, &raft, NULL), KP_ECORRUPT);
    config.applied = 6;
    assert_int_equal(raft_new(&config, &raft, NULL), 0);
    raft_free(raft);
}

/* ---- configurations --------------------------------------------------------------------------------------------- */
static struct raft_conf_change change_of(enum raft_transition transition, size_t len, const enum raft_change_type *types,
                                         const uint64_t *ids)
{
    struct raft_conf_change change = {.transition = transition, .len = len};
    for (size_t i = 0; i < len; i++) {
        change.changes[i].type = types[i];
        change.changes[i].id = ids[i];
    }
    return change;
}

static void a_demoted_voter_stays_one_until_the_joint_configuration_is_left(void **state)
{
    (void)state;
    struct raft_conf_state conf = {0}, joint, left;
    for (uint64_t i = 1; i <= 3; i++)
        raft_id_set_add(&conf.voters, i);
    struct raft_conf_change change = change_of(RAFT_TRANSITION_IMPLICIT, 2,
                                               (enum raft_change_type[]){RAFT_ADD_LEARNER, RAFT_ADD_VOTER}, (uint64_t[]){3, 4});
    assert_int_equal(raft_conf_apply(&conf, &change, &joint, NULL), 0);
    assert_true(raft_conf_is_joint(&joint) && joint.auto_leave);
    assert_true(raft_conf_votes(&joint, 3) && raft_id_set_has(&joint.learners_next, 3));
    assert_int_equal(raft_conf_apply(&joint, &change, &left, NULL), KP_EINVALID);
    struct raft_conf_change leave = {0};
    assert_int_equal(raft_conf_apply(&joint, &leave, &left, NULL), 0);
    assert_false(raft_conf_votes(&left, 3));
    assert_true(raft_id_set_has(&left.learners, 3) && raft_id_set_has(&left.voters, 4));
    assert_int_equal(raft_conf_apply(&left, &leave, &left, NULL), KP_EINVALID);
}

static void members_have_a_maximum(void **state)
{
    (void)state;
    struct raft_conf_state conf = {0};
    for (uint64_t i = 1; i <= RAFT_MEMBERS_MAX; i++)
        raft_id_set_add(i % 2 ? &conf.voters : &conf.learners, i);
    struct raft_conf_change change = change_of(RAFT_TRANSITION_AUTO, 1, (enum raft_change_type[]){RAFT_ADD_VOTER},
                                               (uint64_t[]){RAFT_MEMBERS_MAX + 1});
    assert_int_equal(raft_conf_apply(&conf, &change, &conf, NULL), KP_EINVALID);
    change.changes[0].id = 2; /* a promotion takes no more room */
    assert_int_equal(raft_conf_apply(&conf, &change, &conf, NULL), 0);
}

static void a_change_keeps_its_context(void **state)
{
    (void)state;
    struct raft_conf_change change = change_of(RAFT_TRANSITION_EXPLICIT, 1, (enum raft_change_type[]){RAFT_REMOVE},
                                               (uint64_t[]){77}), out;
    change.context = (struct kp_bytes){(const uint8_t *)"name", 4};
    KP_AUTO(kp_blob_unref) struct kp_blob *data = raft_conf_change_encode(&change);
    assert_int_equal(raft_conf_change_decode(data, &out, NULL), 0);
    assert_int_equal(out.transition, RAFT_TRANSITION_EXPLICIT);
    assert_int_equal(out.len, 1);
    assert_int_equal(out.changes[0].id, 77);
    assert_int_equal(out.context.len, 4);
    assert_memory_equal(out.context.data, "name", 4);
    for (size_t len = 1; len < data->len; len++) {
        KP_AUTO(kp_blob_unref) struct kp_blob *part = kp_blob_new(data->data, len);
        assert_int_equal(raft_conf_change_decode(part, &out, NULL), KP_ECORRUPT);
    }
    assert_int_equal(raft_conf_change_decode(NULL, &out, NULL), 0);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_out_as_it_went_in),
        cmocka_unit_test(a_damaged_message_is_refused),
        cmocka_unit_test(a_member_without_a_random_function_is_refused),
        cmocka_unit_test(what_no_peer_would_send_is_refused),
        cmocka_unit_test(a_log_that_contradicts_itself_does_not_start),
        cmocka_unit_test(a_demoted_voter_stays_one_until_the_joint_configuration_is_left),
        cmocka_unit_test(members_have_a_maximum),
        cmocka_unit_test(a_change_keeps_its_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
