/* The watch cache: lists in pages, watches over real streams, the past that is kept, and a store that comes and goes. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include "api/k8s.h"
#include "controlplane/apiserver/registry/registry.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"
#include "tests/unit/controlplane/apiserver/watch/client_test.h"

#define PODS "/registry/pods/"

struct fixture {
    struct loop *loop;
    struct pool *pool;
    struct store *store;
    struct wcache_set *caches;
    struct wcache *pods;
    struct http_server *server;
    struct kp_arena *arena;
    struct wcache_watch_request request; /* what a connection asks for: fixed until its watch is there */
};

static struct http_stream *start_stream(void *arg)
{
    return http_stream_start(arg, 200, NULL, 0);
}

static void handle(struct http_request *req, void *arg)
{
    struct fixture *f = arg;
    struct api_status status = API_STATUS(req->arena);
    int code = wcache_watch(f->pods, &f->request, start_stream, req, &status);
    if (code < 0)
        http_respond(req, status.http_status, NULL, 0, status.message, strlen(status.message));
}

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    size_t count;
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->pool = pool_new("test", 2, 100);
    f->store = fake_store_new(f->loop);
    fake_put(f->store, PODS "n/before", "{\"metadata\":{\"name\":\"before\",\"namespace\":\"n\",\"labels\":{\"app\":\"a\"}}}");
    fake_put(f->store, "/registry/unknown/x", "{}");
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    f->caches = wcache_set_new(f->loop, f->store, kinds, count);
    assert_true(wcache_set_wait_ready(f->caches, WAIT_MS));
    f->pods = wcache_find(f->caches, "", "pods");
    const struct http_server_config config = {.host = "127.0.0.1", .pool = f->pool, .handler = handle, .arg = f, .stream_queued_max = 64 << 10};
    if (http_server_new(f->loop, &config, &f->server, &error) < 0)
        fail_msg("%s", error.message);
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_server_free(f->server);
    pool_free(f->pool);
    wcache_set_free(f->caches); /* keeps its memory, as its comment says */
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static int64_t put(struct fixture *f, const char *name, const char *label, const char *node)
{
    return fake_put(f->store, kp_arena_printf(f->arena, PODS "n/%s", name),
                    kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\",\"labels\":{\"app\":\"%s\"}},\"spec\":{\"nodeName\":\"%s\"}}", name, label, node));
}

static int64_t drop(struct fixture *f, const char *name)
{
    return fake_put(f->store, kp_arena_printf(f->arena, PODS "n/%s", name), NULL);
}

static const struct kp_selector *labels(struct fixture *f, const char *text)
{
    struct kp_selector *selector = KP_NEW(f->arena, struct kp_selector);
    struct kp_error error = {0};
    assert_int_equal(kp_label_selector_parse(text, f->arena, selector, &error), 0);
    return selector;
}

static const struct kp_selector *fields(struct fixture *f, const char *text)
{
    struct kp_selector *selector = KP_NEW(f->arena, struct kp_selector);
    struct kp_error error = {0};
    assert_int_equal(kp_field_selector_parse(text, f->arena, selector, &error), 0);
    return selector;
}

static struct client *connect_watch(struct fixture *f, const struct wcache_watch_request *request)
{
    f->request = *request;
    return client_connect(http_server_port(f->server));
}

static size_t watcher_count(struct fixture *f)
{
    pthread_mutex_lock(&f->pods->mutex);
    size_t count = f->pods->watcher_count;
    pthread_mutex_unlock(&f->pods->mutex);
    return count;
}

static void wait_for_watchers(struct fixture *f, size_t count)
{
    for (int64_t until = kp_mono_ms() + WAIT_MS; watcher_count(f) != count;) {
        assert_true(kp_mono_ms() < until);
        usleep(1000);
    }
}

static const char *event(struct fixture *f, const char *type, const char *name)
{
    return kp_arena_printf(f->arena, "{\"type\":\"%s\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\"", type, name);
}

/* ---- state ----------------------------------------------------------------------------------------------------------------- */
static void the_cache_follows_the_store(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(wcache_object_unref) struct wcache_object *before = wcache_get(f->pods, "n/before");
    assert_non_null(before);
    assert_int_equal(before->revision, 2);
    assert_null(wcache_get(f->pods, "n/x"));
    int64_t revision = put(f, "x", "a", "w1");
    KP_AUTO(wcache_object_unref) struct wcache_object *x = wcache_get(f->pods, "n/x");
    assert_int_equal(x->revision, revision);
    assert_string_equal(x->ns, "n");
    assert_string_equal(kp_string_map_get(&x->labels, "app"), "a");
    KP_AUTO_FREE char *version = kp_asprintf("\"resourceVersion\":\"%lld\"", (long long)revision);
    assert_non_null(strstr((const char *)x->json->data, version));
    assert_int_equal(wcache_revision(f->caches), revision);
    assert_int_equal(wcache_wait(f->caches, revision, 0), 0);
    assert_int_equal(wcache_wait(f->caches, revision + 1, 20), KP_ETIMEOUT);
    drop(f, "x");
    assert_null(wcache_get(f->pods, "n/x"));
    assert_string_equal(x->name, "x"); /* who holds it keeps it */
}

static void objects_that_cannot_be_read_are_left_out(void **state)
{
    struct fixture *f = *state;
    fake_put(f->store, PODS "n/bad", "{\"metadata\":");
    assert_null(wcache_get(f->pods, "n/bad"));
    put(f, "good", "a", "");
    KP_AUTO(wcache_object_unref) struct wcache_object *good = wcache_get(f->pods, "n/good");
    assert_non_null(good);
}

static void check_list(struct fixture *f, const struct wcache_filter *filter, const char *start, size_t limit, const char *names, const char *next, int64_t remaining)
{
    struct wcache_list list;
    KP_AUTO_BUF struct kp_buf got = {0};
    kp_buf_puts(&got, "");
    wcache_list(f->pods, filter, start, limit, f->arena, &list);
    for (size_t i = 0; i < list.len; i++)
        kp_buf_printf(&got, "%s ", list.items[i]->name);
    assert_string_equal(got.data ? got.data : "", names);
    assert_int_equal(list.revision, f->store->revision);
    assert_int_equal(list.remaining, remaining);
    assert_string_equal(list.next ? list.next : "", next);
    wcache_list_done(&list);
}

static void lists_are_selected_and_cut(void **state)
{
    struct fixture *f = *state;
    drop(f, "before");
    put(f, "d", "b", "w1");
    put(f, "a", "a", "w1");
    put(f, "c", "a", "w2");
    put(f, "b", "b", "w2");
    fake_put(f->store, PODS "n-other/z", "{\"metadata\":{\"name\":\"z\",\"namespace\":\"n-other\"}}");
    check_list(f, &(struct wcache_filter){0}, NULL, 0, "z a b c d ", "", 0); /* '-' sorts before '/' */
    check_list(f, &(struct wcache_filter){.ns = "n"}, NULL, 0, "a b c d ", "", 0);
    check_list(f, &(struct wcache_filter){.ns = "n"}, NULL, 2, "a b ", "n/c", 2);
    check_list(f, &(struct wcache_filter){.ns = "n"}, "n/c", 2, "c d ", "", 0);
    check_list(f, &(struct wcache_filter){.ns = "n", .labels = labels(f, "app=a")}, NULL, 1, "a ", "n/c", 2);
    check_list(f, &(struct wcache_filter){.labels = labels(f, "app in (b)")}, NULL, 0, "b d ", "", 0);
    check_list(f, &(struct wcache_filter){.labels = labels(f, "!app")}, NULL, 0, "z ", "", 0);
    check_list(f, &(struct wcache_filter){.fields = fields(f, "spec.nodeName=w2")}, NULL, 0, "b c ", "", 0);
    check_list(f, &(struct wcache_filter){.fields = fields(f, "spec.nodeName!=w2,metadata.namespace=n")}, NULL, 0, "a d ", "", 0);
    check_list(f, &(struct wcache_filter){.ns = "n", .name = "c"}, NULL, 0, "c ", "", 0);
    check_list(f, &(struct wcache_filter){.ns = "none"}, NULL, 0, "", "", 0);
}

/* ---- watches ---------------------------------------------------------------------------------------------------------------- */
static void a_watch_tells_what_comes_in_order(void **state)
{
    struct fixture *f = *state;
    const struct wcache_watch_request request = {.revision = f->store->revision, .timeout_ms = 60000, .filter = {.ns = "n"}};
    struct client *one = connect_watch(f, &request), *two = connect_watch(f, &request);
    wait_for_watchers(f, 2);
    put(f, "x", "a", "");
    put(f, "x", "b", "");
    drop(f, "x");
    const char *deleted = expect(one, event(f, "DELETED", "x"));
    assert_true(expect(one, event(f, "ADDED", "x")) < expect(one, event(f, "MODIFIED", "x")));
    assert_true(expect(one, event(f, "MODIFIED", "x")) < deleted);
    assert_null(strstr(one->text, "before"));
    KP_AUTO_FREE char *version = kp_asprintf("\"resourceVersion\":\"%lld\"", (long long)f->store->revision);
    expect(one, version); /* a deletion tells its own version */
    expect(two, event(f, "DELETED", "x"));
    hang_up(one);
    wait_for_watchers(f, 1);
    hang_up(two);
    wait_for_watchers(f, 0);
}

static void a_watch_begins_after_the_version_it_names(void **state)
{
    struct fixture *f = *state;
    put(f, "one", "a", "");
    int64_t from = put(f, "two", "a", "");
    put(f, "three", "a", "");
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.revision = from, .timeout_ms = 60000});
    expect(client, event(f, "ADDED", "three"));
    assert_null(strstr(client->text, "\"two\""));
    hang_up(client);
}

static void the_present_state_comes_first_when_asked_for(void **state)
{
    struct fixture *f = *state;
    put(f, "x", "a", "");
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.initial = true, .initial_bookmark = true, .bookmarks = true, .timeout_ms = 60000});
    const char *bookmark = expect(client, "{\"type\":\"BOOKMARK\"");
    assert_true(expect(client, event(f, "ADDED", "before")) < expect(client, event(f, "ADDED", "x")));
    assert_true(expect(client, event(f, "ADDED", "x")) < bookmark);
    expect(client, "\"k8s.io/initial-events-end\":\"true\"");
    put(f, "y", "a", "");
    assert_true(expect(client, event(f, "ADDED", "y")) > bookmark);
    hang_up(client);
}

static void a_version_too_old_is_gone(void **state)
{
    struct fixture *f = *state;
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.revision = 1, .timeout_ms = 60000});
    expect(client, "HTTP/1.1 410");
    expect(client, "too old resource version: 1 (3)");
    hang_up(client);
    assert_int_equal(watcher_count(f), 0);
}

/* Objects come into a selection and leave it without being created or deleted. */
static void selectors_turn_changes_into_comings_and_goings(void **state)
{
    struct fixture *f = *state;
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.revision = f->store->revision, .timeout_ms = 60000, .filter = {.labels = labels(f, "app=a")}});
    wait_for_watchers(f, 1);
    put(f, "x", "b", "");
    put(f, "x", "a", "");
    put(f, "x", "a", "w1");
    int64_t left = put(f, "x", "b", "w1");
    drop(f, "x");
    put(f, "end", "a", "");
    expect(client, event(f, "ADDED", "end"));
    const char *added = expect(client, event(f, "ADDED", "x")), *modified = expect(client, event(f, "MODIFIED", "x")), *deleted = expect(client, event(f, "DELETED", "x"));
    assert_true(added < modified && modified < deleted);
    assert_null(strstr(added + 1, event(f, "ADDED", "x")));
    assert_null(strstr(deleted + 1, event(f, "DELETED", "x"))); /* gone once is enough */
    KP_AUTO_FREE char *version = kp_asprintf("\"resourceVersion\":\"%lld\"", (long long)left);
    assert_non_null(strstr(deleted, version));
    assert_non_null(strstr(deleted, "\"app\":\"a\"")); /* as it last matched */
    hang_up(client);
}

static void time_brings_bookmarks_and_the_end(void **state)
{
    struct fixture *f = *state;
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.revision = f->store->revision, .bookmarks = true, .timeout_ms = 10 * WCACHE_BOOKMARK_PERIOD_MS});
    wait_for_watchers(f, 1);
    int64_t now_ms = kp_mono_ms();
    pthread_mutex_lock(&f->pods->mutex);
    wcache_tick(f->pods, 41, now_ms + WCACHE_BOOKMARK_PERIOD_MS / 2); /* too early */
    wcache_tick(f->pods, 42, now_ms + WCACHE_BOOKMARK_PERIOD_MS + 1);
    pthread_mutex_unlock(&f->pods->mutex);
    expect(client, "\"resourceVersion\":\"42\"");
    assert_null(strstr(client->text, "\"resourceVersion\":\"41\""));
    pthread_mutex_lock(&f->pods->mutex);
    wcache_tick(f->pods, 43, now_ms + 11 * WCACHE_BOOKMARK_PERIOD_MS);
    pthread_mutex_unlock(&f->pods->mutex);
    expect(client, "\"resourceVersion\":\"43\""); /* the last word of a watch that times out */
    expect(client, "0\r\n\r\n");
    wait_for_watchers(f, 0);
    hang_up(client);
}

static void a_watch_that_does_not_read_is_cut_off(void **state)
{
    struct fixture *f = *state;
    const struct wcache_watch_request request = {.revision = f->store->revision, .timeout_ms = 60000};
    struct client *slow = connect_watch(f, &request);
    wait_for_watchers(f, 1);
    struct client *quick = connect_watch(f, &(struct wcache_watch_request){.revision = f->store->revision, .timeout_ms = 60000, .filter = {.name = "end"}});
    wait_for_watchers(f, 2);
    char *big = kp_malloc((256 << 10) + 1);
    memset(big, 'x', 256 << 10);
    big[256 << 10] = '\0';
    for (int i = 0; i < 64 && watcher_count(f) == 2; i++) /* beyond what the kernel's buffers take */
        put(f, "x", big, "");
    free(big);
    wait_for_watchers(f, 1);
    put(f, "end", "a", "");
    expect(quick, event(f, "ADDED", "end"));
    hang_up(slow);
    hang_up(quick);
}

/* ---- the ring ---------------------------------------------------------------------------------------------------------------- */
static void the_ring_forgets_the_oldest(void **state)
{
    struct fixture *f = *state;
    pthread_mutex_lock(&f->pods->mutex);
    wcache_ring_clear(f->pods, 10);
    int64_t old_ms = 0; /* events this far apart are not worth more room */
    for (int64_t i = 1; i <= WCACHE_EVENTS_MIN + 5; i++)
        wcache_ring_add(f->pods, (struct wcache_event){.revision = 10 + i, .at_ms = old_ms + i * WCACHE_EVENTS_SPAN_MS});
    assert_int_equal(f->pods->ring_len, WCACHE_EVENTS_MIN);
    assert_int_equal(f->pods->ring_floor, 15);
    wcache_ring_clear(f->pods, 20);
    for (int64_t i = 1; i <= WCACHE_EVENTS_MIN + 5; i++)
        wcache_ring_add(f->pods, (struct wcache_event){.revision = 20 + i, .at_ms = i});
    assert_int_equal(f->pods->ring_len, WCACHE_EVENTS_MIN + 5); /* a burst makes it grow */
    assert_int_equal(f->pods->ring_floor, 20);
    wcache_ring_clear(f->pods, f->store->revision);
    pthread_mutex_unlock(&f->pods->mutex);
}

/* ---- listeners and losses ---------------------------------------------------------------------------------------------------- */
static void listen_to(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct kp_buf *heard = arg;
    kp_buf_printf(heard, "%c%s ", object && old ? '~' : object ? '+' : '-', object ? object->name : old->name);
}

static void end_watch(void *arg)
{
    struct fixture *f = arg;
    struct store_watch *watch = f->store->watch;
    f->store->watch = NULL;
    struct kp_error error = {.code = KP_EEXPIRED, .message = "compacted"};
    watch->callbacks->on_end(watch->arg, &error);
}

static void all_is_read_again_after_the_store_forgot(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf heard = {0};
    put(f, "x", "a", "");
    wcache_listen(f->pods, listen_to, &heard);
    struct client *client = connect_watch(f, &(struct wcache_watch_request){.revision = f->store->revision, .timeout_ms = 60000});
    wait_for_watchers(f, 1);
    loop_call(f->loop, end_watch, f);
    put(f, "y", "a", ""); /* nobody is told of these */
    drop(f, "before");
    for (int64_t until = kp_mono_ms() + WAIT_MS; !wcache_set_ready(f->caches) || wcache_revision(f->caches) < f->store->revision;) {
        assert_true(kp_mono_ms() < until);
        usleep(1000);
    }
    assert_null(wcache_get(f->pods, "n/before"));
    expect(client, "0\r\n\r\n"); /* its watchers must begin anew */
    wait_for_watchers(f, 0);
    hang_up(client);
    pthread_mutex_lock(&f->pods->mutex);
    assert_string_equal(heard.data, "+before +x -before +y ");
    pthread_mutex_unlock(&f->pods->mutex);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_cache_follows_the_store),
        TEST(objects_that_cannot_be_read_are_left_out),
        TEST(lists_are_selected_and_cut),
        TEST(a_watch_tells_what_comes_in_order),
        TEST(a_watch_begins_after_the_version_it_names),
        TEST(the_present_state_comes_first_when_asked_for),
        TEST(a_version_too_old_is_gone),
        TEST(selectors_turn_changes_into_comings_and_goings),
        TEST(time_brings_bookmarks_and_the_end),
        TEST(a_watch_that_does_not_read_is_cut_off),
        TEST(the_ring_forgets_the_oldest),
        TEST(all_is_read_again_after_the_store_forgot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
