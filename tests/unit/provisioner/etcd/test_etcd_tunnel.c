/* kprov as a client of etcd through an API server that carries its connections. */
#include <pthread.h>

#include "client/client.h"
#include "etcd_fixture.h"
#include "http/http.h"

#define PATH "/api/v1/namespaces/kube-system/pods/"

/* Stands for API server, kubelet and containerd: the port-forward of pod etcd-one leads to the member, etcd-shut has nobody who
   listens, and no other pod is there. */
static struct loop *loop;
static struct http_server *api;
static struct pool *pool;
static char api_url[64];
static struct client_config config;
static int carried; /* atomic */

struct carrying {
    struct ws *ws;
    int fd;
    pthread_t reader;
};

static void send_channel(struct ws *ws, char channel, const void *data, size_t len)
{
    KP_AUTO_BUF struct kp_buf message = {0};
    kp_buf_append(&message, &channel, 1);
    kp_buf_append(&message, data, len);
    ws_send(ws, WS_BINARY, message.data, message.len);
}

static void *read_member(void *arg)
{
    struct carrying *carrying = arg;
    char bytes[16384];
    ssize_t len;
    while ((len = read(carrying->fd, bytes, sizeof(bytes))) > 0)
        send_channel(carrying->ws, 0, bytes, (size_t)len);
    ws_close(carrying->ws, WS_CLOSE_NORMAL, NULL);
    return NULL;
}

static void on_message(struct ws *ws, enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    const struct carrying *carrying = arg;
    assert_int_equal(opcode, WS_BINARY);
    assert_int_equal(data[0], 0);
    for (size_t sent = 1; sent < len;) {
        ssize_t count = write(carrying->fd, data + sent, len - sent);
        if (count < 0) {
            ws_close(ws, WS_CLOSE_NORMAL, NULL);
            return;
        }
        sent += (size_t)count;
    }
}

static void on_close(struct ws *ws, int code, void *arg)
{
    struct carrying *carrying = arg;
    shutdown(carrying->fd, SHUT_RDWR);
    pthread_join(carrying->reader, NULL);
    close(carrying->fd);
    ws_unref(carrying->ws);
    free(carrying);
}

static void carry(struct ws *ws)
{
    static const struct ws_callbacks callbacks = {.on_message = on_message, .on_close = on_close};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct carrying *carrying = kp_calloc(1, sizeof(*carrying));
    address.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    carrying->ws = ws_ref(ws);
    carrying->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(carrying->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(pthread_create(&carrying->reader, NULL, read_member, carrying), 0);
    ws_start(ws, &callbacks, carrying);
    __atomic_add_fetch(&carried, 1, __ATOMIC_RELAXED);
}

static void answer(struct http_request *req, void *arg)
{
    static const char *const protocols[] = {"v4.channel.k8s.io", NULL};
    static const char absent[] = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"pods \\\"etcd-gone\\\" not found\","
                                 "\"reason\":\"NotFound\",\"code\":404}";
    static const uint8_t port[] = {2379 & 255, 2379 >> 8}, refused[] = "dial tcp4 127.0.0.1:2379: connect: connection refused";
    bool shut = kp_streq(req->path, PATH "etcd-shut/portforward");
    const char *authorization = http_request_header(req, "authorization"), *ports = http_request_query(req, "ports");
    if (!authorization || strcmp(authorization, "Bearer secret") != 0 || !ports || strcmp(ports, "2379") != 0 ||
        (!shut && !kp_streq(req->path, PATH "etcd-one/portforward"))) {
        http_respond(req, 404, NULL, 0, absent, sizeof(absent) - 1);
        return;
    }
    struct ws *ws = ws_accept(req, ws_select_protocol(req, protocols));
    send_channel(ws, 0, port, sizeof(port));
    send_channel(ws, 1, port, sizeof(port));
    if (shut)
        send_channel(ws, 1, refused, sizeof(refused) - 1);
    else
        carry(ws);
    ws_unref(ws);
}

static int setup(void **state)
{
    start_fixture();
    loop = loop_new();
    assert_int_equal(loop_start(loop, "test-api", NULL), 0);
    pool = pool_new("test-api", 4, 16);
    const struct http_server_config server_config = {.host = "127.0.0.1", .pool = pool, .handler = answer};
    assert_int_equal(http_server_new(loop, &server_config, &api, NULL), 0);
    snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%u", http_server_port(api));
    config = (struct client_config){.servers = {api_url}, .n_servers = 1, .token = "secret"};
    carried = 0;
    return 0;
}

static int teardown(void **state)
{
    http_server_free(api);
    pool_free(pool);
    loop_free(loop);
    stop_fixture();
    return 0;
}

static struct etcd_client *through(const char *const *nodes, const char *const *addresses, size_t count)
{
    struct etcd_client *client = NULL;
    if (etcd_client_open_through(pki, &config, nodes, addresses, count, &client, &error) < 0)
        fail_msg("%s", error.message);
    return client;
}

static void a_member_answers_through_the_api_server(void **state)
{
    static const char *const nodes[] = {"gone", "one"};
    const char *const addresses[] = {dead_url, url};
    KP_AUTO(etcd_client_close) struct etcd_client *client = through(nodes, addresses, 2);
    struct etcd_member_list list;
    struct etcd_member_status *status = NULL;
    if (etcd_client_members(client, arena, &list, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.items[0].name, "one");
    assert_true(__atomic_load_n(&carried, __ATOMIC_RELAXED) > 0);
    etcd_client_status(client, arena, &status);
    assert_string_equal(status[0].endpoint, dead_url); /* the members' own addresses, as ever */
    assert_non_null(strstr(status[0].problem, "through the API server: pods \"etcd-gone\" not found"));
    assert_string_equal(status[1].endpoint, url);
    assert_true(etcd_member_is_healthy(&status[1]));
}

static void a_snapshot_comes_through_whole(void **state)
{
    static const char *const nodes[] = {"one"};
    const char *const addresses[] = {url};
    KP_AUTO(etcd_client_close) struct etcd_client *client = through(nodes, addresses, 1);
    struct etcd_snapshot snapshot;
    struct stat st;
    KP_AUTO_CLOSE int fd = open(kp_arena_printf(arena, "%s/snapshot.db", dir), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (etcd_client_snapshot(client, fd, &snapshot, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, snapshot.bytes);
    assert_string_equal(snapshot.endpoint, url);
}

static void what_the_port_forward_says_is_told(void **state)
{
    static const char *const nodes[] = {"shut"};
    const char *const addresses[] = {url};
    KP_AUTO(etcd_client_close) struct etcd_client *client = through(nodes, addresses, 1);
    struct etcd_member_list list;
    assert_int_equal(etcd_client_members(client, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "connect: connection refused"));
}

static void an_api_server_that_is_gone_is_told(void **state)
{
    static const char *const nodes[] = {"one"};
    const char *const addresses[] = {url};
    config.servers[0] = "http://127.0.0.1:1";
    KP_AUTO(etcd_client_close) struct etcd_client *client = through(nodes, addresses, 1);
    struct etcd_member_list list;
    assert_int_equal(etcd_client_members(client, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "through the API server"));
}

/* The tunnel's end is 127.0.0.1; whoever answers must be the machine that was meant. */
static void another_machines_certificate_is_refused(void **state)
{
    static const char *const nodes[] = {"one"};
    static const char *const addresses[] = {"https://10.0.0.9:2379"};
    KP_AUTO(etcd_client_close) struct etcd_client *client = through(nodes, addresses, 1);
    struct etcd_member_list list;
    assert_int_equal(etcd_client_members(client, arena, &list, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "10.0.0.9"));
    assert_true(__atomic_load_n(&carried, __ATOMIC_RELAXED) > 0);
}

static void it_closes_with_connections_open(void **state)
{
    static const char *const nodes[] = {"one"};
    const char *const addresses[] = {url};
    struct etcd_client *client = through(nodes, addresses, 1);
    struct etcd_member_list list;
    assert_int_equal(etcd_client_members(client, arena, &list, &error), 0);
    etcd_client_close(client);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_member_answers_through_the_api_server), T(a_snapshot_comes_through_whole), T(what_the_port_forward_says_is_told),
        T(an_api_server_that_is_gone_is_told), T(another_machines_certificate_is_refused), T(it_closes_with_connections_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
