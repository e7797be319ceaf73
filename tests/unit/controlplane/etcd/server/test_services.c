/* The Auth, Lock and Election services of a member, asked over its socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "controlplane/etcd/server/server_internal.h"
#include "grpc/grpc.h"
#include "loop/loop.h"
#include "proto/v3election.pb-c.h"
#include "proto/v3lock.pb-c.h"

#define WAIT_MS 10000

struct fixture {
    char dir[64], url[64], peer_url[64], cluster[80];
    struct etcd_config config;
    struct etcd_server *server;
    struct loop *loop;
    struct grpc_channel *channel;
    struct kp_arena *arena;
};

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    struct kp_error error = {0};
    strcpy(f->dir, "/tmp/test-services-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d", free_port());
    snprintf(f->peer_url, sizeof f->peer_url, "http://127.0.0.1:%d", free_port());
    snprintf(f->cluster, sizeof f->cluster, "one=%s", f->peer_url);
    f->config = (struct etcd_config){.name = "one",
                                     .data_dir = f->dir,
                                     .listen_client_urls = f->url,
                                     .advertise_client_urls = f->url,
                                     .listen_peer_urls = f->peer_url,
                                     .initial_advertise_peer_urls = f->peer_url,
                                     .initial_cluster = f->cluster,
                                     .initial_cluster_token = "t",
                                     .initial_cluster_state = "new",
                                     .heartbeat_ms = 20,
                                     .election_ms = 200,
                                     .snapshot_count = 10000,
                                     .txn_ops_max = 128,
                                     .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT,
                                     .watch_progress_interval_ms = 60000,
                                     .bcrypt_cost = 4};
    if (etcd_server_start(&f->config, &f->server, &error) < 0)
        fail_msg("%s", error.message);
    const char *endpoints[] = {f->url};
    struct grpc_channel_config config = {.endpoints = endpoints, .endpoint_count = 1};
    f->loop = loop_new();
    f->arena = kp_arena_new(0);
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    assert_int_equal(grpc_channel_new(f->loop, &config, &f->channel, &error), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    etcd_server_stop(f->server);
    grpc_channel_free(f->channel);
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_free(f->loop);
    kp_arena_free(f->arena);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static ProtobufCBinaryData D(const char *s) { return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s}; }

/* ---- one call ---- */

struct outcome {
    enum grpc_status status;
    char message[256];
    ProtobufCMessage *response;
};

static struct outcome call_as(struct fixture *f, const char *token, const char *path, const void *request,
                              const ProtobufCMessageDescriptor *type)
{
    struct outcome outcome = {.status = GRPC_OK};
    struct kp_error error = {0};
    const struct http_header metadata[] = {{"token", token}};
    struct grpc_call_options options = {
        .metadata = metadata, .metadata_count = token ? 1 : 0, .ret_status = &outcome.status, .timeout_ms = WAIT_MS};
    (void)!grpc_call(f->channel, path, request, type, &options, f->arena, &outcome.response, &error);
    snprintf(outcome.message, sizeof outcome.message, "%.250s", error.message);
    return outcome;
}
#define CALL(f, token, service, method, request, response)                                                             \
    call_as(f, token, "/" service "/" method, request, &response##__descriptor)
#define AUTH(f, token, method, request, response)                                                                      \
    CALL(f, token, "etcdserverpb.Auth", method, request, etcdserverpb__##response)

static void expect(struct outcome outcome, enum grpc_status status, const char *message)
{
    if (outcome.status != status || (message && !strstr(outcome.message, message)))
        fail_msg("expected %d %s, got %d %s", status, message ? message : "", outcome.status, outcome.message);
}

static void add_user(struct fixture *f, const char *token, const char *name, const char *password)
{
    Etcdserverpb__AuthUserAddRequest add = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    add.name = (char *)(uintptr_t)name;
    add.password = (char *)(uintptr_t)password;
    expect(AUTH(f, token, "UserAdd", &add, auth_user_add_response), GRPC_OK, NULL);
}

static void grant_role(struct fixture *f, const char *token, const char *user, const char *role)
{
    Etcdserverpb__AuthUserGrantRoleRequest grant = ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    grant.user = (char *)(uintptr_t)user;
    grant.role = (char *)(uintptr_t)role;
    expect(AUTH(f, token, "UserGrantRole", &grant, auth_user_grant_role_response), GRPC_OK, NULL);
}

static struct outcome login(struct fixture *f, const char *name, const char *password)
{
    Etcdserverpb__AuthenticateRequest request = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    request.password = (char *)(uintptr_t)password;
    return AUTH(f, NULL, "Authenticate", &request, authenticate_response);
}

static const char *token_of(struct fixture *f, const char *name, const char *password)
{
    struct outcome outcome = login(f, name, password);
    expect(outcome, GRPC_OK, NULL);
    return ((Etcdserverpb__AuthenticateResponse *)outcome.response)->token;
}

static const char *enable(struct fixture *f)
{
    Etcdserverpb__AuthEnableRequest request = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    expect(AUTH(f, NULL, "AuthEnable", &request, auth_enable_response), GRPC_FAILED_PRECONDITION,
           "etcdserver: root user does not exist");
    add_user(f, NULL, "root", "secret");
    expect(AUTH(f, NULL, "AuthEnable", &request, auth_enable_response), GRPC_FAILED_PRECONDITION,
           "etcdserver: root user does not have root role");
    grant_role(f, NULL, "root", "root");
    expect(login(f, "root", "secret"), GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled");
    expect(AUTH(f, NULL, "AuthEnable", &request, auth_enable_response), GRPC_OK, NULL);
    return token_of(f, "root", "secret");
}

static struct outcome put(struct fixture *f, const char *token, const char *key, int64_t lease)
{
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = D(key);
    request.value = D("v");
    request.lease = lease;
    return CALL(f, token, "etcdserverpb.KV", "Put", &request, etcdserverpb__put_response);
}

static struct outcome get(struct fixture *f, const char *token, const char *key)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = D(key);
    return CALL(f, token, "etcdserverpb.KV", "Range", &request, etcdserverpb__range_response);
}

static size_t count_prefix(struct fixture *f, const char *key, const char *end)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = D(key);
    request.range_end = D(end);
    struct outcome outcome = CALL(f, NULL, "etcdserverpb.KV", "Range", &request, etcdserverpb__range_response);
    expect(outcome, GRPC_OK, NULL);
    return ((Etcdserverpb__RangeResponse *)outcome.response)->n_kvs;
}

static int64_t lease(struct fixture *f, const char *token, int64_t ttl_s)
{
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = ttl_s;
    struct outcome outcome = CALL(f, token, "etcdserverpb.Lease", "LeaseGrant", &request, etcdserverpb__lease_grant_response);
    expect(outcome, GRPC_OK, NULL);
    return ((Etcdserverpb__LeaseGrantResponse *)outcome.response)->id;
}

/* ---- users ---- */

static void what_a_user_may_is_decided_by_its_roles(void **state)
{
    struct fixture *f = *state;
    const char *root = enable(f);
    add_user(f, root, "alice", "pw");
    Etcdserverpb__AuthRoleAddRequest role = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    role.name = (char[]){"r"};
    expect(AUTH(f, root, "RoleAdd", &role, auth_role_add_response), GRPC_OK, NULL);
    Etcdserverpb__AuthRoleGrantPermissionRequest grant = ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
    Authpb__Permission permission = AUTHPB__PERMISSION__INIT;
    permission.permtype = AUTHPB__PERMISSION__TYPE__READWRITE;
    permission.key = D("a");
    permission.range_end = D("c");
    grant.name = (char[]){"r"};
    grant.perm = &permission;
    expect(AUTH(f, root, "RoleGrantPermission", &grant, auth_role_grant_permission_response), GRPC_OK, NULL);
    grant_role(f, root, "alice", "r");
    const char *alice = token_of(f, "alice", "pw");
    expect(put(f, alice, "b", 0), GRPC_OK, NULL);
    expect(get(f, alice, "b"), GRPC_OK, NULL);
    expect(put(f, alice, "c", 0), GRPC_PERMISSION_DENIED, "etcdserver: permission denied");
    expect(get(f, alice, "c"), GRPC_PERMISSION_DENIED, "etcdserver: permission denied");
    expect(put(f, NULL, "b", 0), GRPC_INVALID_ARGUMENT, "etcdserver: user name is empty");
    expect(get(f, NULL, "b"), GRPC_INVALID_ARGUMENT, "etcdserver: user name is empty");
    expect(get(f, "made up", "b"), GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token");
    expect(get(f, "madeupmadeupmade.99999999", "b"), GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token");
    expect(login(f, "alice", "no"), GRPC_INVALID_ARGUMENT, "etcdserver: authentication failed");
    expect(put(f, root, "z", 0), GRPC_OK, NULL);
    Etcdserverpb__DefragmentRequest defragment = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
    expect(CALL(f, alice, "etcdserverpb.Maintenance", "Defragment", &defragment, etcdserverpb__defragment_response),
           GRPC_PERMISSION_DENIED, "etcdserver: permission denied");
    Etcdserverpb__StatusRequest status = ETCDSERVERPB__STATUS_REQUEST__INIT;
    expect(CALL(f, alice, "etcdserverpb.Maintenance", "Status", &status, etcdserverpb__status_response), GRPC_OK, NULL);
}

static void a_new_password_ends_the_old_tokens(void **state)
{
    struct fixture *f = *state;
    const char *root = enable(f);
    add_user(f, root, "alice", "pw");
    const char *alice = token_of(f, "alice", "pw");
    expect(get(f, alice, "b"), GRPC_PERMISSION_DENIED, NULL);
    Etcdserverpb__AuthUserChangePasswordRequest change = ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;
    change.name = (char[]){"alice"};
    change.password = (char[]){"new"};
    expect(AUTH(f, alice, "UserChangePassword", &change, auth_user_change_password_response), GRPC_PERMISSION_DENIED, NULL);
    expect(AUTH(f, root, "UserChangePassword", &change, auth_user_change_password_response), GRPC_OK, NULL);
    expect(get(f, alice, "b"), GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token");
    expect(login(f, "alice", "pw"), GRPC_INVALID_ARGUMENT, NULL);
    expect(login(f, "alice", "new"), GRPC_OK, NULL);
}

static void leases_end_by_themselves_though_users_are_asked_for(void **state)
{
    struct fixture *f = *state;
    const char *root = enable(f);
    int64_t id = lease(f, root, 1);
    expect(put(f, root, "k", id), GRPC_OK, NULL);
    int64_t deadline_ms = kp_mono_ms() + WAIT_MS;
    size_t len = 1;
    while (len && kp_mono_ms() < deadline_ms) {
        kp_sleep_ms(50);
        len = ((Etcdserverpb__RangeResponse *)get(f, root, "k").response)->n_kvs;
    }
    assert_int_equal(len, 0);
}

/* ---- calls that wait ---- */

struct pending {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct grpc_call *call;
    int messages;
    char text[8][96]; /* what the messages said */
    bool ended;
    enum grpc_status status;
};

static void note(struct pending *p, const char *text, size_t len)
{
    pthread_mutex_lock(&p->mutex);
    if (p->messages < (int)KP_ARRAY_LEN(p->text))
        snprintf(p->text[p->messages], sizeof p->text[0], "%.*s", (int)len, text);
    p->messages++;
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->mutex);
}

static void on_lock_message(struct grpc_call *call, const void *message, void *arg)
{
    const V3lockpb__LockResponse *response = message;
    note(arg, (const char *)response->key.data, response->key.len);
}

static void on_campaign_message(struct grpc_call *call, const void *message, void *arg)
{
    const V3electionpb__CampaignResponse *response = message;
    note(arg, (const char *)response->leader->key.data, response->leader->key.len);
}

static void on_leader_message(struct grpc_call *call, const void *message, void *arg)
{
    const V3electionpb__LeaderResponse *response = message;
    note(arg, (const char *)response->kv->value.data, response->kv->value.len);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct pending *p = arg;
    pthread_mutex_lock(&p->mutex);
    p->ended = true;
    p->status = status;
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->mutex);
}

static void on_watch_message(struct grpc_call *call, const void *message, void *arg)
{
    const Etcdserverpb__WatchResponse *response = message;
    const char *text = response->canceled ? response->cancel_reason : response->created ? "created" : "events";
    note(arg, text, strlen(text));
}

static void begin_as(struct fixture *f, struct pending *p, const char *token, const char *path, const void *request,
                     const ProtobufCMessageDescriptor *type,
                     void (*on_message)(struct grpc_call *call, const void *message, void *arg))
{
    struct grpc_call_callbacks callbacks = {.on_message = on_message, .on_end = on_end};
    const struct http_header metadata[] = {{"authorization", token}};
    struct grpc_call_options options = {.metadata = metadata, .metadata_count = token ? 1 : 0};
    *p = (struct pending){.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    p->call = grpc_call_open(f->channel, path, type, &options, &callbacks, p);
    assert_int_equal(grpc_call_send(p->call, request), 0);
}

static void begin(struct fixture *f, struct pending *p, const char *path, const void *request,
                  const ProtobufCMessageDescriptor *type,
                  void (*on_message)(struct grpc_call *call, const void *message, void *arg))
{
    begin_as(f, p, NULL, path, request, type, on_message);
    grpc_call_send_end(p->call);
}

static bool wait_messages(struct pending *p, int messages)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int rc = 0;
    pthread_mutex_lock(&p->mutex);
    while (rc == 0 && p->messages < messages && !p->ended)
        rc = pthread_cond_timedwait(&p->cond, &p->mutex, &until);
    bool there = p->messages >= messages;
    pthread_mutex_unlock(&p->mutex);
    return there;
}

static void wait_end(struct pending *p)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->ended)
        pthread_cond_wait(&p->cond, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    grpc_call_unref(p->call);
}

static int messages_of(struct pending *p)
{
    pthread_mutex_lock(&p->mutex);
    int messages = p->messages;
    pthread_mutex_unlock(&p->mutex);
    return messages;
}

static void wait_keys(struct fixture *f, const char *prefix, const char *end, size_t len)
{
    int64_t deadline_ms = kp_mono_ms() + WAIT_MS;
    while (count_prefix(f, prefix, end) != len) {
        assert_true(kp_mono_ms() < deadline_ms);
        kp_sleep_ms(5);
    }
}

/* ---- watches of users ---- */

static void begin_watch(struct fixture *f, struct pending *p, const char *token, const char *key)
{
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    create.key = D(key);
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    begin_as(f, p, token, "/etcdserverpb.Watch/Watch", &request, &etcdserverpb__watch_response__descriptor, on_watch_message);
}

static void a_watch_needs_a_token_that_may_read(void **state)
{
    struct fixture *f = *state;
    const char *root = enable(f);
    add_user(f, root, "alice", "pw");
    KP_AUTO_FREE char *bearer = kp_asprintf("Bearer %s", root); /* also as the gateway's clients send it */
    const struct {
        const char *token, *said;
    } cases[] = {
        {bearer, "created"},
        {token_of(f, "alice", "pw"), "rpc error: code = PermissionDenied desc = etcdserver: permission denied"},
        {"made up", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"},
        /* Of an entry that is not there yet: held back until that is sure. */
        {"madeupmadeupmade.99999999", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"},
        {NULL, "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct pending p;
        begin_watch(f, &p, cases[i].token, "k");
        assert_true(wait_messages(&p, 1));
        assert_string_equal(p.text[0], cases[i].said);
        grpc_call_cancel(p.call);
        wait_end(&p);
    }
}

/* ---- locks ---- */

static void begin_lock(struct fixture *f, struct pending *p, int64_t id)
{
    V3lockpb__LockRequest request = V3LOCKPB__LOCK_REQUEST__INIT;
    request.name = D("l");
    request.lease = id;
    begin(f, p, "/v3lockpb.Lock/Lock", &request, &v3lockpb__lock_response__descriptor, on_lock_message);
}

static void unlock(struct fixture *f, const char *key)
{
    V3lockpb__UnlockRequest request = V3LOCKPB__UNLOCK_REQUEST__INIT;
    request.key = D(key);
    expect(CALL(f, NULL, "v3lockpb.Lock", "Unlock", &request, v3lockpb__unlock_response), GRPC_OK, NULL);
}

static void a_lock_goes_from_one_to_the_next_in_order(void **state)
{
    struct fixture *f = *state;
    struct pending p[4];
    char expected[64];
    for (size_t i = 0; i < 4; i++) {
        int64_t id = lease(f, NULL, 60);
        begin_lock(f, &p[i], id);
        wait_keys(f, "l/", "l0", i + 1);
        if (i == 0) {
            assert_true(wait_messages(&p[0], 1));
            snprintf(expected, sizeof expected, "l/%llx", (unsigned long long)id);
            assert_string_equal(p[0].text[0], expected);
        }
    }
    grpc_call_cancel(p[2].call); /* gives up: its key goes, nobody waits for it */
    wait_end(&p[2]);
    wait_keys(f, "l/", "l0", 3);
    assert_int_equal(messages_of(&p[1]), 0);
    unlock(f, p[0].text[0]);
    assert_true(wait_messages(&p[1], 1));
    assert_int_equal(messages_of(&p[3]), 0);
    unlock(f, p[1].text[0]);
    assert_true(wait_messages(&p[3], 1));
    unlock(f, p[3].text[0]);
    for (size_t i = 0; i < 4; i++) {
        if (i != 2)
            wait_end(&p[i]);
        assert_int_equal(p[i].status, i == 2 ? GRPC_CANCELLED : GRPC_OK);
    }
    wait_keys(f, "l/", "l0", 0);
}

static void a_lock_is_held_by_its_lease(void **state)
{
    struct fixture *f = *state;
    struct pending first, again, second, lost;
    int64_t id = lease(f, NULL, 60), other = lease(f, NULL, 60);
    begin_lock(f, &first, id);
    assert_true(wait_messages(&first, 1));
    begin_lock(f, &again, id); /* it holds it */
    assert_true(wait_messages(&again, 1));
    begin_lock(f, &second, other);
    wait_keys(f, "l/", "l0", 2);
    Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    revoke.id = id;
    expect(CALL(f, NULL, "etcdserverpb.Lease", "LeaseRevoke", &revoke, etcdserverpb__lease_revoke_response), GRPC_OK, NULL);
    assert_true(wait_messages(&second, 1));
    begin_lock(f, &lost, 12345);
    wait_end(&lost);
    assert_int_equal(lost.status, GRPC_UNKNOWN); /* as etcd passes it on */
    wait_end(&first);
    wait_end(&again);
    wait_end(&second);
    struct pending own;
    begin_lock(f, &own, 0); /* a lease of its own */
    wait_keys(f, "l/", "l0", 2);
    unlock(f, second.text[0]);
    wait_end(&own);
    assert_int_equal(own.status, GRPC_OK);
}

static void who_waits_when_the_member_stops_is_told(void **state)
{
    struct fixture *f = *state;
    struct pending first, second;
    begin_lock(f, &first, lease(f, NULL, 60));
    assert_true(wait_messages(&first, 1));
    begin_lock(f, &second, lease(f, NULL, 60));
    wait_keys(f, "l/", "l0", 2);
    etcd_server_stop(f->server);
    f->server = NULL;
    wait_end(&first);
    wait_end(&second);
    assert_int_equal(second.status, GRPC_UNAVAILABLE);
}

/* ---- elections ---- */

static void begin_campaign(struct fixture *f, struct pending *p, int64_t id, const char *value)
{
    V3electionpb__CampaignRequest request = V3ELECTIONPB__CAMPAIGN_REQUEST__INIT;
    request.name = D("e");
    request.lease = id;
    request.value = D(value);
    begin(f, p, "/v3electionpb.Election/Campaign", &request, &v3electionpb__campaign_response__descriptor,
          on_campaign_message);
}

static struct outcome who_leads(struct fixture *f)
{
    V3electionpb__LeaderRequest request = V3ELECTIONPB__LEADER_REQUEST__INIT;
    request.name = D("e");
    return CALL(f, NULL, "v3electionpb.Election", "Leader", &request, v3electionpb__leader_response);
}

static V3electionpb__LeaderKey leader_key(struct fixture *f)
{
    struct outcome outcome = who_leads(f);
    expect(outcome, GRPC_OK, NULL);
    V3electionpb__LeaderResponse *response = (V3electionpb__LeaderResponse *)outcome.response;
    V3electionpb__LeaderKey key = V3ELECTIONPB__LEADER_KEY__INIT;
    key.name = D("e");
    key.key = response->kv->key;
    key.rev = response->kv->create_revision;
    key.lease = response->kv->lease;
    return key;
}

static struct outcome proclaim(struct fixture *f, V3electionpb__LeaderKey *key, const char *value)
{
    V3electionpb__ProclaimRequest request = V3ELECTIONPB__PROCLAIM_REQUEST__INIT;
    request.leader = key;
    request.value = D(value);
    return CALL(f, NULL, "v3electionpb.Election", "Proclaim", &request, v3electionpb__proclaim_response);
}

static struct outcome resign(struct fixture *f, V3electionpb__LeaderKey *key)
{
    V3electionpb__ResignRequest request = V3ELECTIONPB__RESIGN_REQUEST__INIT;
    request.leader = key;
    return CALL(f, NULL, "v3electionpb.Election", "Resign", &request, v3electionpb__resign_response);
}

static void one_leads_until_it_resigns_and_observers_hear_of_all(void **state)
{
    struct fixture *f = *state;
    struct pending first, second, observer;
    V3electionpb__LeaderRequest request = V3ELECTIONPB__LEADER_REQUEST__INIT;
    request.name = D("e");
    expect(who_leads(f), GRPC_UNKNOWN, "election: no leader");
    begin(f, &observer, "/v3electionpb.Election/Observe", &request, &v3electionpb__leader_response__descriptor,
          on_leader_message);
    begin_campaign(f, &first, lease(f, NULL, 60), "one");
    assert_true(wait_messages(&first, 1));
    assert_true(wait_messages(&observer, 1));
    begin_campaign(f, &second, lease(f, NULL, 60), "two");
    wait_keys(f, "e/", "e0", 2);
    V3electionpb__LeaderKey key = leader_key(f);
    expect(proclaim(f, &key, "one more"), GRPC_OK, NULL);
    assert_true(wait_messages(&observer, 2));
    assert_int_equal(messages_of(&second), 0);
    expect(resign(f, &key), GRPC_OK, NULL);
    assert_true(wait_messages(&second, 1));
    assert_true(wait_messages(&observer, 3));
    assert_string_equal(observer.text[0], "one");
    assert_string_equal(observer.text[1], "one more");
    assert_string_equal(observer.text[2], "two");
    expect(proclaim(f, &key, "late"), GRPC_UNKNOWN, "election: not leader");
    expect(resign(f, &key), GRPC_OK, NULL); /* again: nothing happens */
    assert_int_equal(count_prefix(f, "e/", "e0"), 1);
    expect(proclaim(f, NULL, "x"), GRPC_UNKNOWN, "\"leader\" field must be provided");
    expect(resign(f, NULL), GRPC_UNKNOWN, "\"leader\" field must be provided");
    grpc_call_cancel(observer.call);
    wait_end(&observer);
    wait_end(&first);
    wait_end(&second);
}

static void campaigning_again_changes_the_value(void **state)
{
    struct fixture *f = *state;
    struct pending first, again;
    int64_t id = lease(f, NULL, 60);
    begin_campaign(f, &first, id, "one");
    assert_true(wait_messages(&first, 1));
    begin_campaign(f, &again, id, "two");
    assert_true(wait_messages(&again, 1));
    struct outcome outcome = who_leads(f);
    expect(outcome, GRPC_OK, NULL);
    assert_memory_equal(((V3electionpb__LeaderResponse *)outcome.response)->kv->value.data, "two", 3);
    assert_int_equal(count_prefix(f, "e/", "e0"), 1);
    wait_end(&first);
    wait_end(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_user_may_is_decided_by_its_roles, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_password_ends_the_old_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(leases_end_by_themselves_though_users_are_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_needs_a_token_that_may_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_goes_from_one_to_the_next_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_is_held_by_its_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_when_the_member_stops_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(one_leads_until_it_resigns_and_observers_hear_of_all, setup, teardown),
        cmocka_unit_test_setup_teardown(campaigning_again_changes_the_value, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
