/* Members that talk to each other over loopback. */
#include "tests/support/peer_world.h"

static void messages_arrive_in_order(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_know(&a, &b);
    world_know(&b, &a);
    world_wait_connected(&a, 2);
    for (uint64_t i = 0; i < 1000; i++) {
        struct raft_message message = message_of(1, 2, i, 300);
        peer_send(a.transport, &message);
        assert_null(message.entries); /* taken over */
    }
    WORLD_WAIT(&b, messages_len, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(b.messages[i].index, i);
        assert_int_equal(b.messages[i].entries[0].data->len, 300);
    }
    struct peer_stats stats;
    assert_int_equal(peer_stats(a.transport, &stats, 1), 1);
    assert_int_equal(stats.messages_sent, 1000);
    assert_int_equal(peer_stats(b.transport, &stats, 1), 1);
    assert_int_equal(stats.messages_received, 1000);
    assert_int_equal(a.unreachable, 0);
    world_stop(&a);
    world_stop(&b);
}

static void large_messages_and_heartbeats_both_arrive(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    struct raft_message large = message_of(1, 2, 7, (size_t)20 << 20);
    struct raft_message beat = {.type = RAFT_MSG_HEARTBEAT, .from = 1, .to = 2, .term = 3};
    peer_send(a.transport, &large);
    peer_send(a.transport, &beat);
    WORLD_WAIT(&b, messages_len, 2);
    /* The heartbeat is not behind the megabytes. */
    assert_int_equal(b.messages[0].type, RAFT_MSG_HEARTBEAT);
    assert_int_equal(b.messages[1].entries[0].data->len, 20 << 20);
    world_stop(&a);
    world_stop(&b);
}

static void message_to_nobody_is_dropped(void **state)
{
    struct world a;
    world_start(&a, 1, NULL);
    struct raft_message message = message_of(1, 9, 0, 10);
    peer_send(a.transport, &message);
    assert_null(message.entries);
    world_stop(&a);
}

static void dead_peer_is_unreachable_and_found_again(void **state)
{
    struct world a, b;
    struct peer_config config = {0};
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port());
    config.listen_urls = url;
    world_start(&a, 1, NULL);
    const char *const urls[] = {"http://127.0.0.1:1", url}; /* the first is refused: each is tried */
    peer_set(a.transport, 2, urls, 2);
    WORLD_WAIT(&a, unreachable, 1);
    for (int round = 0; round < 2; round++) {
        world_start(&b, 2, &config);
        world_know(&b, &a); /* its call makes the other one try at once */
        world_wait_connected(&a, 2);
        struct raft_message message = message_of(1, 2, 5, 10);
        peer_send(a.transport, &message);
        WORLD_WAIT(&b, messages_len, 1);
        unsigned before = a.unreachable;
        world_stop(&b);
        WORLD_WAIT(&a, unreachable, before + 1);
    }
    struct peer_stats stats;
    assert_int_equal(peer_stats(a.transport, &stats, 1), 1);
    assert_true(stats.sent_failures >= 3);
    world_stop(&a);
}

static void expect_refused(struct world *a, const struct world *b, const char *text)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf answer = {0};
    world_know(a, b);
    WORLD_WAIT(a, unreachable, 1);
    assert_true(peer_ask(a->transport, b->id, "what", (struct kp_bytes){0}, WAIT_MS_MAX, &answer, &error) < 0);
    if (!strstr(error.message, text))
        fail_msg("%s", error.message);
    struct raft_message message = message_of(a->id, b->id, 5, 10);
    peer_send(a->transport, &message);
    struct peer_stats stats;
    assert_int_equal(peer_stats(a->transport, &stats, 1), 1);
    assert_int_equal(stats.active_since_ms, 0);
    assert_int_equal(b->messages_len, 0);
}

static void another_cluster_is_refused(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, &(struct peer_config){.cluster_id = 77});
    expect_refused(&a, &b, "cluster ID mismatch");
    world_stop(&a);
    world_stop(&b);
}

static void call_for_another_member_is_refused(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    b.id = 3; /* where a thinks 3 is, 2 listens */
    expect_refused(&a, &b, "member ID mismatch: meant for 3, this is 2");
    world_stop(&a);
    world_stop(&b);
}

static void questions_are_answered(void **state)
{
    static const int codes[] = {KP_ENOTFOUND, KP_EINVALID, KP_EUNAVAILABLE, KP_EQUOTA, KP_EAGAIN};
    struct world a, b;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf answer = {0};
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_know(&a, &b);
    const struct kp_bytes question = {(const uint8_t *)"revision 7", 10};
    assert_int_equal(peer_ask(a.transport, 2, "hash", question, WAIT_MS_MAX, &answer, &error), 0);
    assert_string_equal(answer.data, "hash of revision 7");
    for (size_t i = 0; i < KP_ARRAY_LEN(codes); i++) {
        b.question_code = codes[i];
        assert_int_equal(peer_ask(a.transport, 2, "fail", question, WAIT_MS_MAX, &answer, &error), codes[i]);
        assert_string_equal(error.message, "refused: revision 7");
    }
    assert_int_equal(peer_ask(a.transport, 2, "hang", question, 20, &answer, &error), KP_ETIMEOUT);
    assert_int_equal(peer_ask(a.transport, 5, "hash", question, 20, &answer, &error), KP_EUNAVAILABLE);
    const char *const dead[] = {"http://127.0.0.1:1"};
    peer_set(a.transport, 4, dead, 1);
    assert_int_equal(peer_ask(a.transport, 4, "hash", question, WAIT_MS_MAX, &answer, &error), KP_EUNAVAILABLE);
    assert_string_equal(answer.data, "hash of revision 7"); /* nothing was added */
    world_stop(&a);
    world_stop(&b);
}

static void get_works_without_a_transport(void **state)
{
    struct world b;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf body = {0};
    uint64_t cluster = 0;
    world_start(&b, 2, NULL);
    char url[64], urls[128];
    world_url(&b, url);
    snprintf(urls, sizeof(urls), "http://127.0.0.1:1,%s", url);
    assert_int_equal(peer_get(urls, &(struct peer_tls_files){0}, "/members", WAIT_MS_MAX, &body, &cluster, &error), 0);
    assert_string_equal(body.data, "[{\"id\":1}]");
    assert_int_equal(cluster, CLUSTER);
    assert_int_equal(peer_get(urls, &(struct peer_tls_files){0}, "/nothing", WAIT_MS_MAX, &body, &cluster, &error), KP_ENOTFOUND);
    assert_int_equal(peer_get("http://127.0.0.1:1", &(struct peer_tls_files){0}, "/members", WAIT_MS_MAX, &body, &cluster, &error),
                     KP_EUNAVAILABLE);
    world_stop(&b);
}

static void removed_peer_gets_what_is_queued(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    for (uint64_t i = 0; i < 50; i++) {
        struct raft_message message = message_of(1, 2, i, 50000);
        peer_send(a.transport, &message);
    }
    peer_remove(a.transport, 2);
    struct peer_stats stats;
    assert_int_equal(peer_stats(a.transport, &stats, 1), 0);
    WORLD_WAIT(&b, messages_len, 50);
    world_know(&a, &b); /* and may come back */
    world_wait_connected(&a, 2);
    world_stop(&a);
    world_stop(&b);
}

static void changed_urls_are_used(void **state)
{
    struct world a, b;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    const char *const dead[] = {"http://127.0.0.1:1"};
    peer_set(a.transport, 2, dead, 1);
    WORLD_WAIT(&a, unreachable, 1);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    peer_set(a.transport, 2, (const char *const[]){"gopher://x"}, 1); /* of no use: nothing to connect to */
    struct raft_message message = message_of(1, 2, 0, 10);
    peer_send(a.transport, &message);
    world_stop(&a);
    world_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order),
        cmocka_unit_test(large_messages_and_heartbeats_both_arrive),
        cmocka_unit_test(message_to_nobody_is_dropped),
        cmocka_unit_test(dead_peer_is_unreachable_and_found_again),
        cmocka_unit_test(another_cluster_is_refused),
        cmocka_unit_test(call_for_another_member_is_refused),
        cmocka_unit_test(questions_are_answered),
        cmocka_unit_test(get_works_without_a_transport),
        cmocka_unit_test(removed_peer_gets_what_is_queued),
        cmocka_unit_test(changed_urls_are_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
