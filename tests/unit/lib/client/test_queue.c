/* The work queue: uniqueness, re-queue while processing, back-off, shutdown. */
#include "lib/client/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void expect_key(struct client_queue *queue, const char *want)
{
    char *key = client_queue_get(queue);
    assert_string_equal(key, want);
    client_queue_done(queue, key);
    free(key);
}

static void keys_come_out_once_and_in_order(void **state)
{
    (void)state;
    struct client_queue *queue = client_queue_new("t");
    client_queue_add(queue, "a");
    client_queue_add(queue, "b");
    client_queue_add(queue, "a");
    expect_key(queue, "a");
    expect_key(queue, "b");
    client_queue_shutdown(queue);
    assert_null(client_queue_get(queue));
    client_queue_free(queue);
}

static void key_added_while_processing_runs_again_after_done(void **state)
{
    (void)state;
    struct client_queue *queue = client_queue_new("t");
    client_queue_add(queue, "a");
    char *key = client_queue_get(queue);
    client_queue_add(queue, "a");
    client_queue_add(queue, "b");
    expect_key(queue, "b"); /* "a" must not be handed out twice at a time */
    client_queue_done(queue, key);
    free(key);
    expect_key(queue, "a");
    client_queue_shutdown(queue);
    client_queue_free(queue);
}

static void failures_count_and_forget_clears_them(void **state)
{
    (void)state;
    struct client_queue *queue = client_queue_new("t");
    client_queue_add_rate_limited(queue, "a");
    client_queue_add_rate_limited(queue, "a");
    assert_int_equal(client_queue_failures(queue, "a"), 2);
    expect_key(queue, "a"); /* blocks until the 5 ms have passed */
    client_queue_forget(queue, "a");
    assert_int_equal(client_queue_failures(queue, "a"), 0);
    client_queue_shutdown(queue);
    client_queue_free(queue);
}

static void delayed_keys_come_in_the_order_of_their_time(void **state)
{
    (void)state;
    struct client_queue *queue = client_queue_new("t");
    client_queue_add_after(queue, "late", 40);
    client_queue_add_after(queue, "soon", 10);
    client_queue_add_after(queue, "late2", 30);
    client_queue_add_after(queue, "late", 20); /* the earlier of two wins */
    expect_key(queue, "soon");
    expect_key(queue, "late");
    expect_key(queue, "late2");
    client_queue_shutdown(queue);
    client_queue_free(queue);
}

static void key_splits_into_namespace_and_name(void **state)
{
    (void)state;
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    assert_int_equal(client_key_split("kube-system/dns", ns, name), 0);
    assert_string_equal(ns, "kube-system");
    assert_string_equal(name, "dns");
    assert_int_equal(client_key_split("node-1", ns, name), 0);
    assert_string_equal(ns, "");
    assert_string_equal(name, "node-1");
    char big[CLIENT_KEY_PART_MAX + 8];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(client_key_split(big, ns, name), KP_EINVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_out_once_and_in_order),
        cmocka_unit_test(key_added_while_processing_runs_again_after_done),
        cmocka_unit_test(failures_count_and_forget_clears_them),
        cmocka_unit_test(delayed_keys_come_in_the_order_of_their_time),
        cmocka_unit_test(key_splits_into_namespace_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
