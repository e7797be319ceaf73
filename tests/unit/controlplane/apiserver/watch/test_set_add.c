/* Resources that come and go while the caches run: what they hold, what their watches see, and who is in their way meanwhile. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include "api/k8s.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"
#include "tests/unit/controlplane/apiserver/watch/client_test.h"

#define GROUP "example.com"
#define WIDGETS "/registry/example.com/widgets/"
#define TWO_PAGES (STORE_PAGE_LIMIT + 1)
#define MANY 12

struct fixture {
    struct loop *loop;
    struct pool *pool;
    struct store *store;
    struct wcache_set *caches;
    struct http_server *server;
    struct wcache *watched; /* by connections */
    int64_t from;           /* the version their watches begin after */
    struct kp_arena *arena;
    struct kp_resource resources[MANY];
    struct wcache_kind kinds[MANY]; /* the first is widgets */
    struct kp_error error;
    /* of single tests */
    int calls;
    int64_t revision;
    pthread_t thread;
    pthread_mutex_t mutex; /* held: reads of the store wait */
    bool stop;
};

static struct http_stream *start_stream(void *arg)
{
    return http_stream_start(arg, 200, NULL, 0);
}

static void handle(struct http_request *req, void *arg)
{
    struct fixture *f = arg;
    struct api_status status = API_STATUS(req->arena);
    const struct wcache_watch_request request = {.revision = f->from, .timeout_ms = 600000};
    if (wcache_watch(f->watched, &request, start_stream, req, &status) < 0)
        http_respond(req, status.http_status, NULL, 0, status.message, strlen(status.message));
}

static void name_kinds(struct fixture *f)
{
    for (size_t i = 0; i < MANY; i++) {
        f->resources[i] = *kp_resource_find("", "v1", "configmaps");
        f->resources[i].group = GROUP;
        f->resources[i].name = i ? kp_arena_printf(f->arena, "r%zu", i) : "widgets";
        f->kinds[i] = (struct wcache_kind){.resource = &f->resources[i], .prefix = kp_arena_printf(f->arena, "/registry/" GROUP "/%s/", f->resources[i].name)};
    }
}

static void start_caches(struct fixture *f)
{
    static struct wcache_kind pods = {.prefix = "/registry/pods/"};
    static const struct wcache_kind *const kinds[] = {&pods};
    pods.resource = kp_resource_find("", "v1", "pods");
    f->caches = wcache_set_new(f->loop, f->store, kinds, 1);
}

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    f->arena = kp_arena_new(0);
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &f->error), 0);
    f->pool = pool_new("test", 2, 100);
    f->store = fake_store_new(f->loop);
    f->store->arg = f;
    pthread_mutex_init(&f->mutex, NULL);
    name_kinds(f);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = f->pool, .handler = handle, .arg = f, .stream_queued_max = 64 << 10};
    if (http_server_new(f->loop, &config, &f->server, &f->error) < 0)
        fail_msg("%s", f->error.message);
    *state = f;
    return 0;
}

static int set_up_ready(void **state)
{
    set_up(state);
    struct fixture *f = *state;
    start_caches(f);
    assert_true(wcache_set_wait_ready(f->caches, WAIT_MS));
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_server_free(f->server);
    pool_free(f->pool);
    wcache_set_free(f->caches);
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static int64_t put(struct fixture *f, const char *prefix, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%sn/%s", prefix, name);
    KP_AUTO_FREE char *json = kp_asprintf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\"}}", name);
    return fake_put(f->store, key, json);
}

static int64_t drop(struct fixture *f, const char *prefix, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%sn/%s", prefix, name);
    return fake_put(f->store, key, NULL);
}

static struct wcache *add(struct fixture *f)
{
    if (wcache_set_add(f->caches, &f->kinds[0], &f->error) < 0)
        fail_msg("%s", f->error.message);
    struct wcache *cache = wcache_find(f->caches, GROUP, "widgets");
    assert_non_null(cache);
    assert_ptr_equal(wcache_kind(cache), &f->kinds[0]);
    return cache;
}

/* Revision of an object in a cache; 0: none. */
static int64_t there(struct wcache *cache, const char *key)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache, key);
    return object ? object->revision : 0;
}

static size_t fill(struct fixture *f, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        KP_AUTO_FREE char *name = kp_asprintf("w%04zu", i);
        put(f, WIDGETS, name);
    }
    return count;
}

static void check_list(struct wcache *cache, size_t len, int64_t revision)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct wcache_list list;
    wcache_list(cache, &(struct wcache_filter){0}, NULL, 0, arena, &list);
    assert_int_equal(list.len, len);
    assert_int_equal(list.revision, revision);
    wcache_list_done(&list);
}

/* "17+a 18~a 19-a " after what was read at 16; nothing is lost or told twice when the numbers follow each other. */
static const char *ring_text(struct fixture *f, struct wcache *cache)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "");
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < cache->ring_len; i++) {
        const struct wcache_event *event = &cache->ring[(cache->ring_first + i) % cache->ring_cap];
        kp_buf_printf(&out, "%lld%c%s ", (long long)(event->revision - cache->base), event->deleted ? '-' : event->old ? '~' : '+', event->object->name);
    }
    pthread_mutex_unlock(&cache->mutex);
    return kp_arena_strdup(f->arena, out.data ? out.data : "");
}

/* ---- coming ------------------------------------------------------------------------------------------------------------- */
static void what_the_store_has_is_found_and_followed(void **state)
{
    struct fixture *f = *state;
    fill(f, TWO_PAGES);
    put(f, "/registry/pods/", "p");
    assert_null(wcache_find(f->caches, GROUP, "widgets"));
    struct wcache *cache = add(f);
    check_list(cache, TWO_PAGES, f->store->revision);
    f->watched = cache;
    f->from = f->store->revision;
    struct client *client = client_connect(http_server_port(f->server));
    int64_t revision = put(f, WIDGETS, "x");
    assert_int_equal(there(cache, "n/x"), revision);
    expect(client, "{\"type\":\"ADDED\",\"object\":{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"x\"");
    hang_up(client);
    assert_int_equal(there(wcache_find(f->caches, "", "pods"), "n/p"), revision - 1);
}

static void one_prefix_is_of_one_resource(void **state)
{
    struct fixture *f = *state;
    add(f);
    static const char *const taken[] = {WIDGETS, "/registry/", "/registry/example.com/", WIDGETS "n/"};
    for (size_t i = 0; i < KP_ARRAY_LEN(taken); i++) {
        const struct wcache_kind kind = {.resource = &f->resources[1], .prefix = taken[i]};
        assert_int_equal(wcache_set_add(f->caches, &kind, &f->error), KP_ECONFLICT);
        assert_non_null(strstr(f->error.message, taken[i]));
    }
    assert_null(wcache_find(f->caches, GROUP, "r1"));
    assert_int_equal(wcache_set_add(f->caches, &f->kinds[1], NULL), 0);
    assert_non_null(wcache_find(f->caches, GROUP, "r1"));
}

static void change_around_the_first_page(struct store *store, bool done)
{
    struct fixture *f = store->arg;
    if (f->calls++ == 0) { /* told while it is read, and in what is read */
        put(f, WIDGETS, "early");
        drop(f, WIDGETS, "w0001");
    } else if (f->calls == 2) { /* not in what is read, neither in the first page nor in the second */
        assert_true(done);
        put(f, WIDGETS, "late");
        put(f, WIDGETS, "w0000");
        drop(f, WIDGETS, "w0002");
        f->revision = put(f, WIDGETS, "w0500");
        drop(f, WIDGETS, "late");
        put(f, "/registry/example.com/other/", "x");
    }
}

static void changes_while_it_is_read_are_seen_once(void **state)
{
    struct fixture *f = *state;
    fill(f, TWO_PAGES);
    f->store->around_list = change_around_the_first_page;
    struct wcache *cache = add(f);
    assert_int_equal(f->calls, 4); /* two pages */
    assert_string_equal(ring_text(f, cache), "1+late 2~w0000 3-w0002 4~w0500 5-late ");
    check_list(cache, TWO_PAGES + 1 - 2, f->store->revision);
    assert_int_equal(there(cache, "n/w0500"), f->revision);
    assert_int_equal(there(cache, "n/w0001"), 0);
    assert_int_equal(there(cache, "n/w0002"), 0);
    assert_true(there(cache, "n/early") < f->revision);
    f->watched = cache;
    f->from = cache->base; /* of which a list could have told */
    struct client *client = client_connect(http_server_port(f->server));
    const char *first = expect(client, "{\"type\":\"ADDED\"");
    assert_true(first < expect(client, "{\"type\":\"MODIFIED\""));
    hang_up(client);
}

static void take_watch(void *arg)
{
    struct fixture *f = arg;
    f->store->watch = NULL;
}

static struct store_watch *the_watch;
static void note_watch(void *arg)
{
    struct fixture *f = arg;
    the_watch = f->store->watch;
}

static void give_watch_back(void *arg)
{
    struct fixture *f = arg;
    f->store->watch = the_watch;
    fake_deliver(f->store);
}

static void what_the_watch_tells_late_is_no_news(void **state)
{
    struct fixture *f = *state;
    loop_call(f->loop, note_watch, f);
    loop_call(f->loop, take_watch, f);
    put(f, WIDGETS, "gone");
    put(f, WIDGETS, "x");
    int64_t revision = drop(f, WIDGETS, "gone");
    struct wcache *cache = add(f);
    assert_true(wcache_revision(f->caches) < revision);
    check_list(cache, 1, revision); /* newer than the other caches */
    loop_call(f->loop, give_watch_back, f);
    assert_string_equal(ring_text(f, cache), "");
    check_list(cache, 1, revision);
    put(f, WIDGETS, "y");
    assert_string_equal(ring_text(f, cache), "1+y ");
}

/* ---- when it does not go well --------------------------------------------------------------------------------------------- */
static void compact_after_a_page(struct store *store, bool done)
{
    struct fixture *f = store->arg;
    if (!done || f->calls-- <= 0)
        return;
    put(f, WIDGETS, "w0000");
    store->compacted = store->revision;
}

static void a_read_that_was_compacted_away_begins_anew(void **state)
{
    struct fixture *f = *state;
    fill(f, TWO_PAGES);
    f->store->around_list = compact_after_a_page;
    f->calls = 1000;
    assert_int_equal(wcache_set_add(f->caches, &f->kinds[0], &f->error), KP_EEXPIRED); /* not for ever */
    assert_non_null(strstr(f->error.message, WIDGETS));
    assert_null(wcache_find(f->caches, GROUP, "widgets"));
    put(f, WIDGETS, "x");
    f->calls = 2;
    struct wcache *cache = add(f);
    check_list(cache, TWO_PAGES + 1, f->store->revision);
    assert_string_equal(ring_text(f, cache), "");
}

static void flood(struct store *store, bool done)
{
    struct fixture *f = store->arg;
    if (!done || f->calls++)
        return;
    KP_AUTO_FREE char *big = kp_malloc(((size_t)1 << 20) + 1);
    memset(big, 'x', (size_t)1 << 20);
    big[1 << 20] = '\0';
    KP_AUTO_FREE char *json = kp_asprintf("{\"metadata\":{\"name\":\"big\"},\"data\":{\"x\":\"%s\"}}", big);
    for (int i = 0; i < 65; i++)
        fake_put(f->store, WIDGETS "n/big", json);
    drop(f, WIDGETS, "big");
    put(f, WIDGETS, "x");
}

static void more_changes_than_are_kept_begin_it_anew(void **state)
{
    struct fixture *f = *state;
    f->store->around_list = flood;
    struct wcache *cache = add(f);
    assert_int_equal(f->calls, 2);
    check_list(cache, 1, f->store->revision);
    assert_string_equal(ring_text(f, cache), "");
}

static void the_store_s_error_is_told_and_nothing_is_added(void **state)
{
    struct fixture *f = *state;
    fill(f, TWO_PAGES);
    for (int i = 0; i < 2; i++) { /* at the first page, at the second */
        f->store->fail_after = i;
        f->store->fail_code = KP_EUNAVAILABLE;
        assert_int_equal(wcache_set_add(f->caches, &f->kinds[0], &f->error), KP_EUNAVAILABLE);
        assert_non_null(strstr(f->error.message, "the test wants"));
        assert_null(wcache_find(f->caches, GROUP, "widgets"));
        put(f, WIDGETS, "x");
    }
    check_list(add(f), TWO_PAGES + 1, f->store->revision);
}

/* ---- beside loads --------------------------------------------------------------------------------------------------------- */
static void wait_at_list(struct store *store, bool done)
{
    struct fixture *f = store->arg;
    if (done)
        return;
    pthread_mutex_lock(&f->mutex);
    pthread_mutex_unlock(&f->mutex);
}

static void *add_in_thread(void *arg)
{
    struct fixture *f = arg;
    add(f);
    return NULL;
}

static void nobody_need_wait_until_all_is_loaded(void **state)
{
    struct fixture *f = *state;
    put(f, WIDGETS, "x");
    f->store->around_list = wait_at_list;
    pthread_mutex_lock(&f->mutex);
    start_caches(f);
    assert_int_equal(pthread_create(&f->thread, NULL, add_in_thread, f), 0);
    assert_false(wcache_set_wait_ready(f->caches, 20));
    assert_null(wcache_find(f->caches, GROUP, "widgets"));
    pthread_mutex_unlock(&f->mutex);
    pthread_join(f->thread, NULL);
    assert_true(wcache_set_wait_ready(f->caches, WAIT_MS));
    struct wcache *cache = wcache_find(f->caches, GROUP, "widgets");
    check_list(cache, 1, f->store->revision);
    int64_t revision = put(f, WIDGETS, "y");
    assert_int_equal(there(cache, "n/y"), revision);
}

static void listen_to(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    kp_buf_printf(arg, "%c%s ", object && old ? '~' : object ? '+' : '-', object ? object->name : old->name);
}

static void expire_watch(void *arg)
{
    struct fixture *f = arg;
    struct store_watch *watch = f->store->watch;
    f->store->watch = NULL;
    struct kp_error error = {.code = KP_EEXPIRED, .message = "compacted"};
    watch->callbacks->on_end(watch->arg, &error);
}

static void wait_for_load(struct fixture *f, int64_t revision)
{
    for (int64_t until = kp_mono_ms() + WAIT_MS; !wcache_set_ready(f->caches) || wcache_revision(f->caches) < revision;) {
        assert_true(kp_mono_ms() < until);
        usleep(1000);
    }
}

static void what_was_added_is_read_anew_with_the_rest(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf heard = {0};
    put(f, WIDGETS, "x");
    struct wcache *cache = add(f);
    wcache_listen(cache, listen_to, &heard);
    f->watched = cache;
    f->from = f->store->revision;
    struct client *client = client_connect(http_server_port(f->server));
    expect(client, "HTTP/1.1 200");
    loop_call(f->loop, expire_watch, f);
    drop(f, WIDGETS, "x");
    int64_t revision = put(f, WIDGETS, "y");
    wait_for_load(f, revision);
    expect(client, "0\r\n\r\n");
    hang_up(client);
    check_list(cache, 1, revision);
    pthread_mutex_lock(&cache->mutex);
    assert_string_equal(heard.data, "+x -x +y ");
    pthread_mutex_unlock(&cache->mutex);
    assert_ptr_equal(wcache_find(f->caches, GROUP, "widgets"), cache);
    wcache_set_remove(f->caches, &f->kinds[0]); /* what is not there any more is not */
    loop_call(f->loop, expire_watch, f);
    wait_for_load(f, put(f, WIDGETS, "z"));
    check_list(cache, 0, f->store->revision);
}

static void add_between_pages(struct store *store, bool done)
{
    struct fixture *f = store->arg;
    if (f->calls++ != 2) /* the load has read its first page */
        return;
    assert_int_equal(pthread_create(&f->thread, NULL, add_in_thread, f), 0);
    usleep(20000); /* enough for it to be added, were it let */
}

static void what_comes_during_a_load_waits_for_its_end(void **state)
{
    struct fixture *f = *state;
    fill(f, TWO_PAGES);
    f->store->around_list = add_between_pages;
    loop_call(f->loop, expire_watch, f);
    wait_for_load(f, put(f, "/registry/pods/", "p"));
    pthread_join(f->thread, NULL);
    check_list(wcache_find(f->caches, GROUP, "widgets"), TWO_PAGES, f->store->revision);
}

/* ---- going ---------------------------------------------------------------------------------------------------------------- */
static void what_is_removed_ends_its_watches_and_hides(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf heard = {0};
    struct client *clients[20];
    put(f, WIDGETS, "x");
    struct wcache *cache = f->watched = add(f);
    wcache_listen(cache, listen_to, &heard);
    put(f, WIDGETS, "y");
    f->from = f->store->revision;
    for (size_t i = 0; i < KP_ARRAY_LEN(clients); i++)
        clients[i] = client_connect(http_server_port(f->server));
    expect(clients[0], "HTTP/1.1 200");
    assert_false(wcache_removed(cache));
    wcache_set_remove(f->caches, &f->kinds[0]); /* while some of them come */
    assert_true(wcache_removed(cache));
    assert_null(wcache_find(f->caches, GROUP, "widgets"));
    assert_int_equal(there(cache, "n/x"), 0);
    put(f, WIDGETS, "z");
    check_list(cache, 0, f->store->revision);
    expect(clients[0], "0\r\n\r\n");
    for (size_t i = 0; i < KP_ARRAY_LEN(clients); i++) {
        expect(clients[i], "HTTP/1.1 ");
        expect(clients[i], strstr(clients[i]->text, "HTTP/1.1 200") ? "0\r\n\r\n" : "HTTP/1.1 410");
        hang_up(clients[i]);
    }
    struct client *late = client_connect(http_server_port(f->server));
    expect(late, "HTTP/1.1 410");
    expect(late, "list it again");
    hang_up(late);
    assert_string_equal(heard.data, "+x +y -x -y ");
    wcache_set_remove(f->caches, &f->kinds[0]);
    wcache_set_remove(f->caches, &f->kinds[1]);
}

static void what_was_removed_can_come_back(void **state)
{
    struct fixture *f = *state;
    put(f, WIDGETS, "x");
    struct wcache *before = add(f);
    wcache_set_remove(f->caches, &f->kinds[0]);
    drop(f, WIDGETS, "x");
    put(f, WIDGETS, "y");
    struct wcache *cache = add(f);
    assert_ptr_not_equal(cache, before);
    put(f, WIDGETS, "z");
    assert_int_equal(there(cache, "n/x"), 0);
    assert_true(there(cache, "n/y") && there(cache, "n/z"));
    assert_int_equal(there(before, "n/z"), 0);
    assert_string_equal(ring_text(f, cache), "1+z ");
}

/* ---- many at once ------------------------------------------------------------------------------------------------------------ */
static void *write_counter(void *arg)
{
    struct fixture *f = arg;
    for (int i = 1; i < 2500 && !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); i++) {
        if (i % 7)
            put(f, WIDGETS, "counter");
        else
            drop(f, WIDGETS, "counter");
        usleep(200);
    }
    return NULL;
}

static void let_others_write(struct store *store, bool done)
{
    usleep(done ? 700 : 300);
}

/* Nobody but the writer writes: every revision is one event. Gives how many there were, or -1 when one is missing or twice. */
static int check_ring(struct wcache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    int64_t at = cache->base;
    bool good = cache->ring_floor == at;
    const struct wcache_event *last = NULL;
    for (size_t i = 0; i < cache->ring_len; i++) {
        last = &cache->ring[(cache->ring_first + i) % cache->ring_cap];
        good = good && last->revision == ++at;
    }
    size_t found = wcache_lower_bound(cache, "n/counter");
    bool present = found < cache->len && strcmp(cache->items[found]->key, "n/counter") == 0;
    good = good && (!last || present == !last->deleted);
    int count = good ? (int)cache->ring_len : -1;
    pthread_mutex_unlock(&cache->mutex);
    return count;
}

static void nothing_is_lost_or_told_twice_under_writes(void **state)
{
    struct fixture *f = *state;
    pthread_t writer;
    int kept = 0;
    bool good = true;
    fill(f, TWO_PAGES);
    f->store->around_list = let_others_write;
    assert_int_equal(pthread_create(&writer, NULL, write_counter, f), 0);
    for (int i = 0; i < 15 && good; i++) {
        struct wcache *cache = add(f);
        int events = check_ring(cache);
        kept += events > 0;
        usleep(2000);
        good = events >= 0 && check_ring(cache) >= events;
        wcache_set_remove(f->caches, &f->kinds[0]);
    }
    struct wcache *cache = add(f);
    __atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    assert_true(good && check_ring(cache) >= 0);
    pthread_mutex_lock(&cache->mutex);
    int64_t newest = wcache_newest(cache);
    pthread_mutex_unlock(&cache->mutex);
    assert_int_equal(newest, f->store->revision);
    assert_true(kept > 0);
}

/* What a request does with a cache that may go any time. */
static void *read_all(void *arg)
{
    struct fixture *f = arg;
    while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < MANY; i++) {
            KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
            struct wcache *cache = wcache_find(f->caches, GROUP, f->resources[i].name);
            struct wcache_list list;
            if (!cache)
                continue;
            assert_ptr_equal(wcache_kind(cache), &f->kinds[i]);
            wcache_list(cache, &(struct wcache_filter){0}, NULL, 0, arena, &list);
            assert_true(list.len >= 1 || wcache_removed(cache));
            for (size_t j = 0; j < list.len; j++)
                assert_int_equal(strncmp(list.items[j]->name, f->resources[i].name, strlen(f->resources[i].name)), 0);
            wcache_list_done(&list);
            (void)there(cache, "n/x");
        }
    }
    return NULL;
}

static void add_and_remove(struct fixture *f, size_t first)
{
    for (int round = 0; round < 6; round++) {
        for (size_t i = first; i < MANY; i += 2)
            assert_int_equal(wcache_set_add(f->caches, &f->kinds[i], NULL), 0);
        for (size_t i = first; i < MANY; i += 2)
            wcache_set_remove(f->caches, &f->kinds[i]);
    }
}

static void *add_and_remove_odd(void *arg)
{
    add_and_remove(arg, 1);
    return NULL;
}

static void *write_all(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < 1000 && !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); i++) {
        const struct wcache_kind *kind = &f->kinds[i % MANY];
        KP_AUTO_FREE char *name = kp_asprintf("%s-%d", kind->resource->name, i % 3);
        put(f, kind->prefix, name);
        if (i == 300)
            loop_call(f->loop, expire_watch, f);
    }
    return NULL;
}

static void readers_need_not_know_who_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    pthread_t readers[2], adder, writer;
    for (size_t i = 0; i < MANY; i++)
        put(f, f->kinds[i].prefix, f->resources[i].name);
    for (size_t i = 0; i < KP_ARRAY_LEN(readers); i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all, f), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, f), 0);
    assert_int_equal(pthread_create(&adder, NULL, add_and_remove_odd, f), 0);
    add_and_remove(f, 0);
    pthread_join(adder, NULL);
    __atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    for (size_t i = 0; i < KP_ARRAY_LEN(readers); i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(f->caches->count, 1);
    wait_for_load(f, f->store->revision);
    add(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_ready, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_store_has_is_found_and_followed),
        TEST(one_prefix_is_of_one_resource),
        TEST(changes_while_it_is_read_are_seen_once),
        TEST(what_the_watch_tells_late_is_no_news),
        TEST(a_read_that_was_compacted_away_begins_anew),
        TEST(more_changes_than_are_kept_begin_it_anew),
        TEST(the_store_s_error_is_told_and_nothing_is_added),
        cmocka_unit_test_setup_teardown(nobody_need_wait_until_all_is_loaded, set_up, tear_down),
        TEST(what_was_added_is_read_anew_with_the_rest),
        TEST(what_comes_during_a_load_waits_for_its_end),
        TEST(what_is_removed_ends_its_watches_and_hides),
        TEST(what_was_removed_can_come_back),
        TEST(nothing_is_lost_or_told_twice_under_writes),
        TEST(readers_need_not_know_who_comes_and_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
