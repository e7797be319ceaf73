/* Requests, informers, election, events and kubeconfig files against a small API server in this process. */
#include "lib/client/client_internal.h"
#include "tests/support/fake_api.h"
#include "tests/support/objects.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define MAPS "/api/v1/namespaces/d/configmaps"
#define MAP(name, team) "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"d\",\"labels\":{\"team\":\"" team "\"}}}"

struct fixture {
    struct loop *loop;
    struct fake_api *api;
    struct client *client;
    pthread_mutex_t lock;
    struct kp_buf seen; /* what handlers were told */
};

static struct client *client_of(struct fixture *f, const struct client_config *base)
{
    struct client_config config = base ? *base : (struct client_config){0};
    struct kp_error error = {0};
    struct client *client = NULL;
    config.servers[0] = fake_api_url(f->api);
    config.n_servers = 1;
    if (!config.timeout_ms)
        config.timeout_ms = 2000;
    assert_int_equal(client_new(f->loop, &config, &client, &error), 0);
    return client;
}

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    pthread_mutex_init(&f->lock, NULL);
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->api = fake_api_new(f->loop);
    f->client = client_of(f, NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    client_free(f->client);
    fake_api_free(f->api);
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_free(f->loop);
    kp_buf_done(&f->seen);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static void note(struct client_object *old, struct client_object *new, void *arg)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    kp_buf_printf(&f->seen, "%s%s ", old ? new ? "~" : "-" : "+", (new ? new : old)->name);
    pthread_mutex_unlock(&f->lock);
}

static void wait_seen(struct fixture *f, const char *want)
{
    int64_t until_ms = kp_mono_ms() + 5000;
    for (;;) {
        pthread_mutex_lock(&f->lock);
        bool same = kp_streq(f->seen.data ? f->seen.data : "", want);
        pthread_mutex_unlock(&f->lock);
        if (same || kp_mono_ms() > until_ms)
            break;
        kp_sleep_ms(2);
    }
    pthread_mutex_lock(&f->lock);
    KP_AUTO_FREE char *seen = kp_strdup(f->seen.data ? f->seen.data : "");
    kp_buf_consume(&f->seen, f->seen.len);
    pthread_mutex_unlock(&f->lock);
    assert_string_equal(seen, want);
}

static void wait_watches(struct fixture *f, int count)
{
    int64_t until_ms = kp_mono_ms() + 5000;
    while (fake_api_counts(f->api).watches < count && kp_mono_ms() < until_ms)
        kp_sleep_ms(2);
    assert_true(fake_api_counts(f->api).watches >= count);
}

static size_t by_team(const struct client_object *object, const char **values, size_t max)
{
    (void)max;
    values[0] = kp_string_map_get(&((const struct k8s_config_map *)object->data)->metadata->labels, "team");
    return values[0] ? 1 : 0;
}

static struct client_informer *start(struct fixture *f, int *ret_index)
{
    struct kp_error error = {0};
    struct client_informer *informer = client_informer_new(f->client, &k8s_configmaps_resource, "d", NULL, NULL);
    client_informer_add_handler(informer, note, f);
    *ret_index = client_informer_add_index(informer, by_team);
    assert_int_equal(client_informer_add_index(informer, by_team), *ret_index); /* of who asks second */
    client_informer_start(informer);
    assert_int_equal(client_informers_wait(&informer, 1, 5000, &error), 0);
    return informer;
}

/* ---- requests ---- */
static int code_for(struct fixture *f, int status, const char *body, char message[KP_ERROR_MESSAGE_MAX])
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *obj;
    fake_api_fail(f->api, "GET", 1, status, body);
    int code = client_get(f->client, &k8s_configmaps_resource, "d", "a", arena, &obj, &error);
    snprintf(message, KP_ERROR_MESSAGE_MAX, "%s", error.message);
    return code;
}

#define STATUS(reason, code) "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"" reason "\",\"message\":\"said so\",\"code\":" code "}"

static void a_status_reason_becomes_a_code(void **state)
{
    struct fixture *f = *state;
    char message[KP_ERROR_MESSAGE_MAX];
    assert_int_equal(code_for(f, 404, STATUS("NotFound", "404"), message), KP_ENOTFOUND);
    assert_string_equal(message, "said so");
    assert_int_equal(code_for(f, 409, STATUS("Conflict", "409"), message), KP_ECONFLICT);
    assert_int_equal(code_for(f, 409, STATUS("AlreadyExists", "409"), message), KP_EEXISTS);
    assert_int_equal(code_for(f, 410, STATUS("Expired", "410"), message), KP_EEXPIRED);
    assert_int_equal(code_for(f, 410, STATUS("Gone", "410"), message), KP_EEXPIRED);
    assert_int_equal(code_for(f, 403, STATUS("Forbidden", "403"), message), KP_EFORBIDDEN);
    assert_int_equal(code_for(f, 422, STATUS("Invalid", "422"), message), KP_EINVALID);
    assert_int_equal(code_for(f, 429, STATUS("TooManyRequests", "429"), message), KP_ETOOMANY);
    assert_int_equal(code_for(f, 503, "no json", message), KP_EUNAVAILABLE);
    assert_string_equal(message, "HTTP 503: no json");
    assert_int_equal(code_for(f, 409, "", message), KP_ECONFLICT);
    assert_int_equal(code_for(f, 200, "{\"metadata\": 5}", message), KP_EBADREQUEST);
}

static void objects_are_created_updated_and_deleted(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct k8s_config_map *map = KP_OBJECT_NEW(arena, k8s_config_map);
    void *made = NULL, *again = NULL;
    map->metadata->name = "a";
    map->metadata->namespace = "d";
    assert_int_equal(client_create(f->client, &k8s_configmaps_resource, "d", map, NULL, arena, &made, &error), 0);
    assert_int_equal(client_create(f->client, &k8s_configmaps_resource, "d", map, NULL, arena, NULL, &error), KP_EEXISTS);
    assert_int_equal(client_update(f->client, &k8s_configmaps_resource, made, NULL, arena, &again, &error), 0);
    assert_int_equal(client_update(f->client, &k8s_configmaps_resource, made, NULL, arena, NULL, &error), KP_ECONFLICT);
    void *list;
    assert_int_equal(client_list(f->client, &k8s_configmaps_resource, "d", NULL, arena, &list, &error), 0);
    assert_int_equal(((struct k8s_config_map_list *)list)->items.len, 1);
    assert_int_equal(client_delete(f->client, &k8s_configmaps_resource, "d", "a", CLIENT_DELETE_DEFAULT, &error), 0);
    assert_int_equal(client_delete(f->client, &k8s_configmaps_resource, "d", "a", CLIENT_DELETE_DEFAULT, NULL), KP_ENOTFOUND);
}

static void a_deadline_of_the_thread_cuts_a_hanging_request(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    int64_t start_ms = kp_mono_ms();
    fake_api_fail(f->api, "GET", 1, 0, NULL);
    client_thread_deadline(start_ms + 100);
    assert_int_equal(client_get(f->client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error), KP_ETIMEOUT);
    assert_true(kp_mono_ms() - start_ms < 1500);
    assert_int_equal(client_get(f->client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error), KP_ETIMEOUT);
    client_thread_deadline(0);
    assert_int_equal(client_get(f->client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error), KP_ENOTFOUND);
}

static void a_replaced_token_file_is_read_again(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    char path[] = "/tmp/client-token-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(kp_write_file(path, "one\n", 4, 0600, &error), 0);
    struct client *client = client_of(f, &(struct client_config){.token = "old", .token_file = path});
    assert_int_equal(client_get(client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error), KP_ENOTFOUND);
    assert_string_equal(fake_api_counts(f->api).authorization, "Bearer one");
    assert_int_equal(kp_write_file(path, "two", 3, 0600, &error), 0);
    client_get(client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error);
    assert_string_equal(fake_api_counts(f->api).authorization, "Bearer two");
    unlink(path); /* the last one known goes on being used */
    client_get(client, &k8s_configmaps_resource, "d", "a", arena, NULL, &error);
    assert_string_equal(fake_api_counts(f->api).authorization, "Bearer two");
    client_free(client);
}

/* ---- informers ---- */
static void an_informer_follows_list_and_watch(void **state)
{
    struct fixture *f = *state;
    int index;
    fake_api_put(f->api, MAPS, MAP("a", "x"), false);
    struct client_informer *informer = start(f, &index);
    wait_seen(f, "+a ");
    wait_watches(f, 1);
    fake_api_put(f->api, MAPS, MAP("b", "y"), false);
    fake_api_put(f->api, MAPS, MAP("a", "y"), false);
    fake_api_remove(f->api, MAPS, "b", false);
    wait_seen(f, "+b ~a -b ");
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *items;
    assert_int_equal(client_view_index(view, informer, index, "x", &items), 0);
    assert_int_equal(client_view_index(view, informer, index, "y", &items), 1);
    assert_string_equal(((const struct k8s_config_map *)items[0])->metadata->name, "a");
    assert_null(client_view_get(view, informer, "d", "b"));
    client_informer_free(informer);
    /* what the view read outlives even the cache */
    assert_string_equal(((const struct k8s_config_map *)items[0])->metadata->name, "a");
}

static void a_dropped_watch_goes_on_from_the_last_version(void **state)
{
    struct fixture *f = *state;
    int index;
    fake_api_put(f->api, MAPS, MAP("a", "x"), false); /* version 101 */
    struct client_informer *informer = start(f, &index);
    wait_watches(f, 1);
    assert_string_equal(fake_api_counts(f->api).watch_version, "101");
    fake_api_put(f->api, MAPS, MAP("b", "x"), false);
    wait_seen(f, "+a +b ");
    fake_api_send(f->api, "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"150\"}}}");
    kp_sleep_ms(20);
    fake_api_drop_watches(f->api);
    wait_watches(f, 2);
    assert_string_equal(fake_api_counts(f->api).watch_version, "150");
    assert_int_equal(fake_api_counts(f->api).lists, 1);
    client_informer_free(informer);
}

static void after_410_it_lists_again_and_finds_deletes(void **state)
{
    struct fixture *f = *state;
    int index;
    fake_api_put(f->api, MAPS, MAP("a", "x"), false);
    fake_api_put(f->api, MAPS, MAP("b", "x"), false);
    struct client_informer *informer = start(f, &index);
    wait_watches(f, 1);
    assert_int_equal(client_informer_len(informer), 2);
    pthread_mutex_lock(&f->lock);
    kp_buf_consume(&f->seen, f->seen.len);
    pthread_mutex_unlock(&f->lock);
    fake_api_remove(f->api, MAPS, "b", true);
    fake_api_put(f->api, MAPS, MAP("c", "x"), true);
    fake_api_send(f->api, "{\"type\":\"ERROR\",\"object\":" STATUS("Expired", "410") "}");
    wait_seen(f, "+c -b "); /* a did not change: nothing is said of it */
    wait_watches(f, 2);
    assert_int_equal(fake_api_counts(f->api).lists, 2);
    /* the same when the watch request itself is refused */
    fake_api_put(f->api, MAPS, MAP("e", "x"), true);
    fake_api_fail(f->api, "WATCH", 1, 410, STATUS("Expired", "410"));
    fake_api_drop_watches(f->api);
    wait_seen(f, "+e ");
    client_informer_free(informer);
}

static void failures_are_retried_and_named(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    fake_api_fail(f->api, "LIST", 3, 503, "starting");
    struct client_informer *informer = client_informer_new(f->client, &k8s_configmaps_resource, "d", NULL, NULL);
    client_informer_start(informer);
    assert_int_equal(client_informers_wait(&informer, 1, 5000, &error), 0);
    client_informer_free(informer);
    fake_api_fail(f->api, "LIST", 1000, 403, STATUS("Forbidden", "403"));
    informer = client_informer_new(f->client, &k8s_configmaps_resource, "d", NULL, NULL);
    client_informer_start(informer);
    assert_int_equal(client_informers_wait(&informer, 1, 100, &error), KP_ETIMEOUT);
    assert_non_null(strstr(error.message, "configmaps"));
    assert_non_null(strstr(error.message, "said so"));
    client_informer_free(informer);
}

static void an_informer_may_be_freed_at_any_moment(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 30; i++) {
        struct client_informer *informer = client_informer_new(f->client, &k8s_configmaps_resource, "d", NULL, NULL);
        client_informer_start(informer);
        fake_api_put(f->api, MAPS, MAP("a", "x"), false);
        kp_sleep_ms(i % 5);
        client_informer_free(informer);
        if (i % 10 == 9)
            fake_api_drop_watches(f->api);
    }
    struct client_informer *never = client_informer_new(f->client, &k8s_configmaps_resource, "d", NULL, NULL);
    client_informer_free(never);
    client_informer_free(NULL);
    struct client_config nobody = {.servers = {"http://127.0.0.1:1"}, .n_servers = 1}; /* refused at once */
    struct client *client;
    struct kp_error error = {0};
    assert_int_equal(client_new(f->loop, &nobody, &client, &error), 0);
    struct client_informer *refused = client_informer_new(client, &k8s_configmaps_resource, "d", NULL, NULL);
    client_informer_start(refused);
    kp_sleep_ms(50);
    client_informer_free(refused);
    client_free(client);
}

/* ---- election ---- */
static void set_lost(void *arg)
{
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

static int acquire(struct fixture *f, const char *identity, const volatile bool *stop, int *lost, struct client_elector **ret)
{
    struct kp_error error = {0};
    const struct client_elector_config config = {
        .ns = "kube-system", .name = "l", .identity = identity, .lease_ms = 1000, .renew_deadline_ms = 300, .retry_ms = 30,
    };
    return client_elector_acquire(f->client, &config, stop, set_lost, lost, ret, &error);
}

#define LEASES "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"

static void a_lease_is_taken_released_and_taken_over(void **state)
{
    struct fixture *f = *state;
    static const volatile bool stop;
    struct client_elector *a, *b;
    int lost = 0;
    assert_int_equal(acquire(f, "a", &stop, &lost, &a), 0);
    kp_sleep_ms(100);
    client_elector_release(a);
    int64_t start_ms = kp_mono_ms();
    assert_int_equal(acquire(f, "b", &stop, &lost, &b), 0); /* given up: no need to wait it out */
    assert_true(kp_mono_ms() - start_ms < 800);
    client_elector_release(b);
    assert_int_equal(lost, 0);
    /* one that died holding it is waited out */
    fake_api_put(f->api, LEASES, "{\"metadata\":{\"name\":\"l\",\"namespace\":\"kube-system\"},\"spec\":{\"holderIdentity\":\"dead\",\"leaseDurationSeconds\":1}}", false);
    start_ms = kp_mono_ms();
    assert_int_equal(acquire(f, "c", &stop, &lost, &a), 0);
    assert_in_range(kp_mono_ms() - start_ms, 900, 2500);
    KP_AUTO_FREE char *lease = fake_api_get(f->api, LEASES, "l");
    assert_non_null(strstr(lease, "\"holderIdentity\":\"c\""));
    client_elector_release(a);
}

/* The lease of one that is gone, by whatever is known besides the lease, is not waited out. */
struct gone {
    int asked;
    const char *holder;
};
static bool is_gone(const char *holder, void *arg)
{
    struct gone *gone = arg;
    gone->asked++;
    return kp_streq(holder, gone->holder);
}

static void the_lease_of_one_that_is_gone_is_not_waited_out(void **state)
{
    struct fixture *f = *state;
    static const volatile bool stop;
    struct client_elector *elector;
    struct kp_error error = {0};
    int lost = 0;
    struct gone gone = {.holder = "dead"};
    const struct client_elector_config config = {
        .ns = "kube-system", .name = "l", .identity = "c", .lease_ms = 3600000, .renew_deadline_ms = 60000, .retry_ms = 10,
        .holder_is_gone = is_gone, .gone_arg = &gone,
    };
    fake_api_put(f->api, LEASES, "{\"metadata\":{\"name\":\"l\",\"namespace\":\"kube-system\"},\"spec\":{\"holderIdentity\":\"dead\",\"leaseDurationSeconds\":3600}}", false);
    assert_int_equal(client_elector_acquire(f->client, &config, &stop, set_lost, &lost, &elector, &error), 0);
    assert_true(gone.asked > 0);
    KP_AUTO_FREE char *lease = fake_api_get(f->api, LEASES, "l");
    assert_non_null(strstr(lease, "\"holderIdentity\":\"c\""));
    client_elector_release(elector);
}

static void leadership_that_cannot_be_renewed_is_lost(void **state)
{
    struct fixture *f = *state;
    static const volatile bool stop;
    struct client_elector *a;
    int lost = 0;
    assert_int_equal(acquire(f, "a", &stop, &lost, &a), 0);
    fake_api_fail(f->api, "PUT", 1000, 0, NULL); /* the server hangs */
    int64_t start_ms = kp_mono_ms();
    while (!__atomic_load_n(&lost, __ATOMIC_ACQUIRE) && kp_mono_ms() - start_ms < 3000)
        kp_sleep_ms(5);
    assert_true(kp_mono_ms() - start_ms < 900); /* before the lease of one second is over */
    fake_api_fail(f->api, "PUT", 0, 200, NULL);
    client_elector_release(a);
}

static void a_renewal_is_one_request_until_somebody_else_writes(void **state)
{
    struct fixture *f = *state;
    static const volatile bool stop;
    struct client_elector *a;
    int lost = 0;
    assert_int_equal(acquire(f, "a", &stop, &lost, &a), 0);
    fake_api_fail(f->api, "GET", 1000, 500, "no need to ask");
    int64_t acquired_ms = client_elector_renewed_ms(a), start_ms = kp_mono_ms();
    while (client_elector_renewed_ms(a) == acquired_ms && kp_mono_ms() - start_ms < 5000)
        kp_sleep_ms(5);
    assert_true(client_elector_renewed_ms(a) > acquired_ms);
    fake_api_fail(f->api, "GET", 0, 200, NULL);
    /* taken by another's write: that it is another's is seen, and leading ends */
    fake_api_put(f->api, LEASES, "{\"metadata\":{\"name\":\"l\",\"namespace\":\"kube-system\"},\"spec\":{\"holderIdentity\":\"b\",\"leaseDurationSeconds\":9}}", false);
    start_ms = kp_mono_ms();
    while (!__atomic_load_n(&lost, __ATOMIC_ACQUIRE) && kp_mono_ms() - start_ms < 5000)
        kp_sleep_ms(5);
    assert_int_equal(__atomic_load_n(&lost, __ATOMIC_ACQUIRE), 1);
    client_elector_release(a);
}

/* ---- events ---- */
static void wait_for_requests(struct fixture *f, int count)
{
    int64_t until_ms = kp_mono_ms() + 10000;
    while (fake_api_counts(f->api).requests < count && kp_mono_ms() < until_ms)
        kp_sleep_ms(2);
    assert_int_equal(fake_api_counts(f->api).requests, count);
}

static void repeats_fold_into_a_count_and_spam_is_held_back(void **state)
{
    struct fixture *f = *state;
    struct client_recorder *recorder = client_recorder_new(f->client, "test", "host");
    const struct client_event_target target = {.api_version = "v1", .kind = "Pod", .ns = "d", .name = "p", .uid = "u"};
    for (int i = 0; i < 3; i++) {
        client_event(recorder, &target, "Normal", "Pulled", "got image %d", 1);
        wait_for_requests(f, i + 1); /* one create, two patches of its count */
    }
    client_recorder_free(recorder);
    recorder = client_recorder_new(f->client, "test", "host");
    for (int i = 0; i < 60; i++)
        client_event(recorder, &target, "Warning", "Bad", "number %d", i);
    client_recorder_free(recorder);
    assert_int_equal(fake_api_counts(f->api).requests, 3 + 25);
}

static void hold_loop(void *arg)
{
    sem_wait(arg);
}

static void equal_events_that_wait_become_one(void **state)
{
    struct fixture *f = *state;
    const struct client_event_target target = {.api_version = "v1", .kind = "Pod", .ns = "d", .name = "p", .uid = "u"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    sem_t gate;
    void *list = NULL;
    struct client_recorder *recorder = client_recorder_new(f->client, "test", "host");
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    loop_post(f->loop, hold_loop, &gate); /* nothing is sent meanwhile */
    client_event(recorder, &target, "Normal", "Created", "made");
    for (int i = 0; i < 3; i++)
        client_event(recorder, &target, "Warning", "Unhealthy", "no answer");
    sem_post(&gate);
    wait_for_requests(f, 2);
    client_recorder_free(recorder);
    assert_int_equal(fake_api_counts(f->api).requests, 2);
    assert_int_equal(client_list(f->client, &k8s_events_resource, "d", NULL, arena, &list, &error), 0);
    const struct k8s_event_list *events = list;
    assert_int_equal(events->items.len, 2);
    int32_t counts[2] = {events->items.items[0].count, events->items.items[1].count};
    assert_int_equal(KP_MAX(counts[0], counts[1]), 3);
    assert_int_equal(KP_MIN(counts[0], counts[1]), 1);
    sem_destroy(&gate);
}

/* ---- kubeconfig ---- */
static int read_config(const char *text, struct kp_arena *arena, struct client_config *config, struct kp_error *error)
{
    char path[] = "/tmp/client-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    *error = (struct kp_error){0};
    assert_int_equal(kp_write_file(path, text, strlen(text), 0600, error), 0);
    int code = client_config_from_kubeconfig(path, NULL, arena, config, error);
    unlink(path);
    return code;
}

static void kubeconfig_files_are_understood(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config config;
    struct kp_error error;
    (void)state;
    assert_int_equal(read_config("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: team}}]\n"
                                 "clusters: [{name: k, cluster: {server: 'https://h:6443', certificate-authority-data: Q0E=}}]\n"
                                 "users: [{name: u, user: {token: t, tokenFile: rel/token}}]\n", arena, &config, &error), 0);
    assert_string_equal(config.servers[0], "https://h:6443");
    assert_string_equal(config.ca_pem, "CA");
    assert_string_equal(config.ns, "team");
    assert_string_equal(config.token_file, "/tmp/rel/token");
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"a: [", ""},
        {"[]", "not a kubeconfig"},
        {"clusters: []", "no current-context is set"},
        {"current-context: c", "context \"c\" does not exist"},
        {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]", "cluster \"k\" of context \"c\" does not exist"},
        {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {}}]", "cluster \"k\" has no server"},
        {"current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'http://h'}}]", "user \"u\" of context \"c\" does not exist"},
        {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: 'http://h', certificate-authority-data: '*'}}]",
         "certificate-authority-data is not base64"},
        {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: 'http://h', certificate-authority: /nonexistent/ca}}]",
         "certificate-authority: "},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        assert_true(read_config(bad[i].text, arena, &config, &error) < 0);
        assert_non_null(strstr(error.message, bad[i].want));
    }
}

int main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(a_status_reason_becomes_a_code),
        WITH_SERVER(objects_are_created_updated_and_deleted),
        WITH_SERVER(a_deadline_of_the_thread_cuts_a_hanging_request),
        WITH_SERVER(a_replaced_token_file_is_read_again),
        WITH_SERVER(an_informer_follows_list_and_watch),
        WITH_SERVER(a_dropped_watch_goes_on_from_the_last_version),
        WITH_SERVER(after_410_it_lists_again_and_finds_deletes),
        WITH_SERVER(failures_are_retried_and_named),
        WITH_SERVER(an_informer_may_be_freed_at_any_moment),
        WITH_SERVER(a_lease_is_taken_released_and_taken_over),
        WITH_SERVER(the_lease_of_one_that_is_gone_is_not_waited_out),
        WITH_SERVER(leadership_that_cannot_be_renewed_is_lost),
        WITH_SERVER(a_renewal_is_one_request_until_somebody_else_writes),
        WITH_SERVER(repeats_fold_into_a_count_and_spam_is_held_back),
        WITH_SERVER(equal_events_that_wait_become_one),
        cmocka_unit_test(kubeconfig_files_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
