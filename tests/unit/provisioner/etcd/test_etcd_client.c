/* kprov as a client of a member of etcd that runs here, over mutual TLS. */
#include "etcd_fixture.h"

static struct etcd_client *client;

static int setup(void **state)
{
    start_fixture();
    const char *const endpoints[] = {dead_url, url};
    assert_int_equal(etcd_client_open(pki, endpoints, 2, &client, &error), 0);
    return 0;
}

static int teardown(void **state)
{
    etcd_client_close(client);
    stop_fixture();
    return 0;
}

static void the_endpoint_that_answers_is_found(void **state)
{
    struct etcd_member_list list;
    if (etcd_client_members(client, arena, &list, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.items[0].name, "one");
    assert_string_equal(list.items[0].peer_url, peer_url);
    assert_string_equal(list.items[0].client_url, url);
    assert_false(list.items[0].learner);
    assert_int_equal(etcd_client_members_seen(client, arena, &list, &error), 0);
    assert_int_equal(list.len, 1);
}

static void the_status_tells_of_each_endpoint(void **state)
{
    struct etcd_member_status *status = NULL;
    etcd_client_status(client, arena, &status);
    assert_false(etcd_member_is_healthy(&status[0]));
    assert_int_equal(status[0].code, KP_EUNAVAILABLE);
    assert_non_null(strstr(status[0].problem, dead_url));
    assert_true(etcd_member_is_healthy(&status[1]));
    assert_string_equal(status[1].endpoint, url);
    assert_int_equal(status[1].leader, status[1].id);
    assert_true(status[1].db_size > 0);
}

static void adding_and_removing_twice_is_as_once(void **state)
{
    struct etcd_member first, second;
    struct etcd_member_list list;
    assert_int_equal(etcd_client_member_add(client, "http://127.0.0.1:9", arena, &first, &error), 0);
    assert_int_equal(etcd_client_member_add(client, "http://127.0.0.1:9", arena, &second, &error), 0);
    assert_true(first.learner);
    assert_int_equal(first.id, second.id);
    assert_string_equal(second.name, "");
    assert_int_equal(etcd_client_member_promote(client, first.id, &error), KP_ECONFLICT); /* it never caught up */
    assert_int_equal(etcd_client_member_remove(client, first.id, &error), 0);
    assert_int_equal(etcd_client_member_remove(client, first.id, &error), 0);
    assert_int_equal(etcd_client_members(client, arena, &list, &error), 0);
    assert_int_equal(list.len, 1);
    assert_int_equal(etcd_client_member_promote(client, list.items[0].id, &error), 0); /* it has its vote */
    assert_int_equal(etcd_client_move_leader(client, list.items[0].id, &error), 0);    /* and leads */
    assert_int_equal(etcd_client_delete(client, "/none", &error), 0);
}

static void a_snapshot_is_whole(void **state)
{
    const char *path = kp_arena_printf(arena, "%s/snapshot.db", dir);
    struct etcd_snapshot snapshot;
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    if (etcd_client_snapshot(client, fd, &snapshot, &error) < 0)
        fail_msg("%s", error.message);
    close(fd);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, snapshot.bytes);
    assert_int_equal(st.st_size % 512, TLS_SHA256_BYTES); /* whole pages, and their sum */
    assert_string_equal(snapshot.endpoint, url);
}

static void a_file_that_cannot_be_written_is_told(void **state)
{
    struct etcd_snapshot snapshot;
    int fd = open("/dev/full", O_WRONLY);
    assert_int_equal(etcd_client_snapshot(client, fd, &snapshot, &error), KP_EQUOTA);
    close(fd);
    assert_non_null(strstr(error.message, "write the snapshot: No space left on device"));
    assert_non_null(strstr(error.message, url));
}

static void when_nobody_answers_every_endpoint_is_named(void **state)
{
    KP_AUTO(etcd_client_close) struct etcd_client *nobody = NULL;
    struct etcd_member_list list;
    const char *const endpoints[] = {dead_url, "https://127.0.0.1:1"};
    assert_int_equal(etcd_client_open(pki, endpoints, 2, &nobody, &error), 0);
    assert_int_equal(etcd_client_members(nobody, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, dead_url));
    assert_non_null(strstr(error.message, "https://127.0.0.1:1"));
}

static void another_clusters_certificate_is_refused(void **state)
{
    KP_AUTO(pki_free) struct pki *other = NULL;
    KP_AUTO(etcd_client_close) struct etcd_client *stranger = NULL;
    struct etcd_member_list list;
    const char *const endpoints[] = {url};
    assert_int_equal(pki_create(&other, NULL), 0);
    assert_int_equal(etcd_client_open(other, endpoints, 1, &stranger, &error), 0);
    assert_int_equal(etcd_client_members(stranger, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "certificate"));
}

static void a_member_that_lost_its_data_does_not_begin_again(void **state)
{
    etcd_client_close(client);
    client = NULL;
    etcd_server_stop(server);
    server = NULL;
    const struct etcd_config config = {
        .name = "one", .data_dir = kp_arena_printf(arena, "%s/empty", dir), .begun_file = kp_arena_printf(arena, "%s/begun", dir),
        .listen_client_urls = "http://127.0.0.1:0", .advertise_client_urls = "http://127.0.0.1:0", .listen_peer_urls = peer_url,
        .initial_advertise_peer_urls = peer_url, .initial_cluster = kp_arena_printf(arena, "one=%s", peer_url),
        .initial_cluster_token = "t", .initial_cluster_state = "new", .heartbeat_ms = 20, .election_ms = 200, .snapshot_count = 10000,
        .txn_ops_max = 128, .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT, .watch_progress_interval_ms = 60000, .bcrypt_cost = 4,
    };
    assert_int_equal(etcd_server_start(&config, &server, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "has begun before"));
    server = NULL;
}

static void whom_fewer_follow_is_not_believed(void **state)
{
    struct etcd_member_status status[] = {
        {.id = 1, .leader = 1, .problem = ""}, {.id = 2, .leader = 3, .problem = ""}, {.id = 3, .leader = 3, .problem = ""}, {.code = KP_EUNAVAILABLE}};
    etcd_mark_apart(status, 4);
    assert_true(status[0].apart);
    assert_false(etcd_member_is_healthy(&status[0]));
    assert_false(status[1].apart);
    assert_false(status[2].apart);
}

static void of_two_camps_of_one_size_neither_is_believed(void **state)
{
    struct etcd_member_status status[] = {{.id = 1, .leader = 1, .problem = ""}, {.id = 2, .leader = 2, .problem = ""}, {.id = 3, .problem = ""}};
    etcd_mark_apart(status, 3);
    assert_true(status[0].apart);
    assert_true(status[1].apart);
    assert_false(status[2].apart); /* it follows nobody yet */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_endpoint_that_answers_is_found),
        T(the_status_tells_of_each_endpoint),
        T(adding_and_removing_twice_is_as_once),
        T(a_snapshot_is_whole),
        T(a_file_that_cannot_be_written_is_told),
        T(when_nobody_answers_every_endpoint_is_named),
        T(another_clusters_certificate_is_refused),
        T(a_member_that_lost_its_data_does_not_begin_again),
        cmocka_unit_test(whom_fewer_follow_is_not_believed),
        cmocka_unit_test(of_two_camps_of_one_size_neither_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
