/* Which way leads to etcd: its port where that lets us in, else an API server that has its store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/http.h"
#include "loop/loop.h"
#include "provisioner/cli/cli.h"
#include "provisioner/etcd/etcd.h"

#define OPEN_ADDRESS "127.231.17.1" /* somebody listens on its port 2379 */
#define SHUT_ADDRESS "127.231.17.2"

static char dir[64];
static struct kp_arena *arena;
static struct pki *pki;
static struct loop *loop;
static struct pool *pool;
static struct http_server *api;
static int ready_status, asked; /* atomic */
static struct kp_error error;
static struct cloud_machine machine = {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON};
static const struct cloud_machine_list machines = {&machine, 1};

static void answer(struct http_request *req, void *arg)
{
    bool ready = kp_streq(req->path, "/readyz/etcd");
    if (ready)
        __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    http_respond(req, ready ? __atomic_load_n(&ready_status, __ATOMIC_RELAXED) : 404, NULL, 0, "none", 4);
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/kprov-etcd-open-XXXXXX");
    assert_non_null(mkdtemp(dir));
    setenv("KPROV_STATE_DIR", dir, 1);
    arena = kp_arena_new(0);
    assert_int_equal(pki_create(&pki, NULL), 0);
    loop = loop_new();
    assert_int_equal(loop_start(loop, "test-api", NULL), 0);
    pool = pool_new("test-api", 2, 16);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = pool, .handler = answer};
    assert_int_equal(http_server_new(loop, &config, &api, NULL), 0);
    const char *path = kp_arena_printf(arena, "%s/demo", dir), *text = kp_arena_printf(
        arena, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:%u'}}]\n"
               "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n", http_server_port(api));
    assert_int_equal(kp_mkdir_p(path, 0700, NULL), 0);
    assert_int_equal(kp_write_file(kp_arena_printf(arena, "%s/admin.conf", path), text, strlen(text), 0600, NULL), 0);
    ready_status = 200;
    asked = 0;
    return 0;
}

static int teardown(void **state)
{
    http_server_free(api);
    pool_free(pool);
    loop_free(loop);
    pki_free(pki);
    kp_arena_free(arena);
    return kp_remove_tree(dir, NULL);
}

static int listen_at(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(ETCD_CLIENT_PORT)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    inet_pton(AF_INET, address, &at.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static struct etcd_client *open_etcd(const char *address, bool *hidden)
{
    struct etcd_client *client = NULL;
    machine.address = address;
    if (cli_etcd_open("demo", pki, &machines, 0, hidden, &client, &error) < 0)
        fail_msg("%s", error.message);
    return client;
}

static void a_port_that_lets_us_in_is_the_way(void **state)
{
    bool hidden = false;
    KP_AUTO_CLOSE int fd = listen_at(OPEN_ADDRESS);
    KP_AUTO(etcd_client_close) struct etcd_client *client = open_etcd(OPEN_ADDRESS, &hidden);
    assert_false(hidden);
    assert_int_equal(__atomic_load_n(&asked, __ATOMIC_RELAXED), 0);
    assert_string_equal(etcd_client_endpoint(client, 0), "https://" OPEN_ADDRESS ":2379");
}

static void else_the_api_server_is(void **state)
{
    bool hidden = false;
    struct etcd_member_list list;
    KP_AUTO(etcd_client_close) struct etcd_client *client = open_etcd(SHUT_ADDRESS, &hidden);
    assert_true(hidden);
    assert_int_equal(etcd_client_members(client, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "https://" SHUT_ADDRESS ":2379, through the API server: "));
}

static void what_was_found_is_asked_for_first_the_next_time(void **state)
{
    bool hidden = true;
    KP_AUTO_CLOSE int fd = listen_at(OPEN_ADDRESS);
    KP_AUTO(etcd_client_close) struct etcd_client *through = open_etcd(OPEN_ADDRESS, &hidden);
    assert_true(hidden);
    __atomic_store_n(&ready_status, 500, __ATOMIC_RELAXED);
    KP_AUTO(etcd_client_close) struct etcd_client *straight = open_etcd(OPEN_ADDRESS, &hidden);
    assert_false(hidden);
}

static void an_api_server_without_its_store_is_no_way(void **state)
{
    bool hidden = false;
    struct etcd_member_list list;
    __atomic_store_n(&ready_status, 500, __ATOMIC_RELAXED);
    KP_AUTO(etcd_client_close) struct etcd_client *client = open_etcd(SHUT_ADDRESS, &hidden);
    assert_false(hidden);
    assert_int_equal(etcd_client_members(client, arena, &list, &error), KP_EUNAVAILABLE);
    assert_null(strstr(error.message, "through the API server"));
}

static void without_a_control_plane_the_remedy_is_told(void **state)
{
    struct etcd_client *client = NULL;
    machine.power = CLOUD_POWER_OFF;
    machine.address = SHUT_ADDRESS;
    assert_int_equal(cli_etcd_open("demo", pki, &machines, 0, NULL, &client, &error), KP_ENOTFOUND);
    assert_non_null(strstr(error.message, "kprov repair demo"));
    assert_int_equal(cli_etcd_open("demo", pki, &machines, CLI_ETCD_OFF_TOO, NULL, &client, &error), 0);
    etcd_client_close(client);
    machine.power = CLOUD_POWER_ON;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_port_that_lets_us_in_is_the_way), T(else_the_api_server_is), T(what_was_found_is_asked_for_first_the_next_time),
        T(an_api_server_without_its_store_is_no_way), T(without_a_control_plane_the_remedy_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
