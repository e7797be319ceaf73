/* The fake cloud's load balancers: what was asked for as one document each, an address, and how long the cloud takes.
 *
 *   <uid>/balancers/<name>/spec      what the cloud has made of it; absent: half-made. A test that damages one edits or removes this
 *   <uid>/balancers/<name>/pending   how many more times it is asked before it is done
 *   <uid>/balancers/<name>/going     as pending, of one that is being deleted
 *   <uid>/balancers/<name>/changes   how often it was changed
 *   <uid>/balancers/<name>/failed    why it has failed, written by a test
 *   <uid>/addresses/balancer.<name>  its address
 */
#include <errno.h>
#include <unistd.h>

#include "codec/codec.h"
#include "tests/support/fake_cloud/fake_cloud_internal.h"

#define SPEC_MAX ((size_t)1 << 20)

static void file_of(const struct world *world, const char *uid, const char *name, const char *file, char out[PATH_MAX])
{
    char dir[PATH_MAX];
    fake_path(world, uid, "balancers", name, dir);
    snprintf(out, PATH_MAX, "%.3900s%s%s", dir, file ? "/" : "", file ? file : "");
}

static const char *address_name(const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "balancer.%s", name);
}

/* ---- numbers in files */

static int64_t read_number(const struct world *world, const char *uid, const char *name, const char *file)
{
    char path[PATH_MAX];
    int64_t n = 0;
    KP_AUTO_BUF struct kp_buf text = {0};
    file_of(world, uid, name, file, path);
    return kp_read_file(path, 32, &text, NULL) == 0 && text.data && kp_parse_i64(text.data, &n) == 0 ? n : 0;
}

static int write_number(const struct world *world, const char *uid, const char *name, const char *file, int64_t n, struct kp_error *error)
{
    char path[PATH_MAX], text[32];
    file_of(world, uid, name, file, path);
    if (n == 0)
        return fake_remove(path, error);
    snprintf(text, sizeof(text), "%lld", (long long)n);
    return kp_write_file(path, text, strlen(text), 0600, error);
}

/* How often a change is asked about before it is done. */
static int64_t slowness(void)
{
    const char *text = getenv("FAKE_CLOUD_PENDING");
    int64_t n = 0;
    return !kp_empty(text) && kp_parse_i64(text, &n) == 0 ? n : 0;
}

static bool has_file(const struct world *world, const char *uid, const char *name, const char *file)
{
    char path[PATH_MAX];
    file_of(world, uid, name, file, path);
    return kp_path_exists(path);
}

/* One question nearer to being done: whether the cloud is at work still. */
static int still_at(const struct world *world, const char *uid, const char *name, const char *file, bool *ret, struct kp_error *error)
{
    int64_t n = read_number(world, uid, name, file);
    *ret = n > 0;
    return n > 0 ? write_number(world, uid, name, file, n - 1, error) : 0;
}

/* ---- the document */

static void set(struct kp_arena *arena, struct kp_value *object, const char *key, const char *value)
{
    kp_value_set(arena, object, key, kp_value_string(arena, value ? value : ""));
}

static void set_int(struct kp_arena *arena, struct kp_value *object, const char *key, int64_t value)
{
    kp_value_set(arena, object, key, kp_value_int(arena, value));
}

static struct kp_value *listeners_value(const struct cloud_balancer_spec *spec, struct kp_arena *arena)
{
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < spec->n_listeners; i++) {
        struct kp_value *one = kp_value_object(arena);
        set(arena, one, "protocol", spec->listeners[i].protocol == CLOUD_UDP ? "udp" : "tcp");
        set_int(arena, one, "port", spec->listeners[i].port);
        set_int(arena, one, "target-port", spec->listeners[i].target_port);
        kp_value_append(arena, list, one);
    }
    return list;
}

static struct kp_value *targets_value(const struct cloud_balancer_spec *spec, struct kp_arena *arena)
{
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < spec->n_targets; i++) {
        struct kp_value *one = kp_value_object(arena);
        set(arena, one, "machine", spec->targets[i].machine);
        set(arena, one, "address", spec->targets[i].address);
        kp_value_append(arena, list, one);
    }
    return list;
}

static struct kp_value *health_value(const struct cloud_health_check *health, struct kp_arena *arena)
{
    struct kp_value *value = kp_value_object(arena);
    set(arena, value, "kind", health->kind == CLOUD_HEALTH_HTTP ? "http" : "connect");
    set(arena, value, "path", health->path);
    set_int(arena, value, "port", health->port);
    set_int(arena, value, "interval", health->interval_s);
    set_int(arena, value, "timeout", health->timeout_s);
    set_int(arena, value, "healthy", health->healthy);
    set_int(arena, value, "unhealthy", health->unhealthy);
    return value;
}

static const char *make_document(const struct cloud_balancer_spec *spec, struct kp_arena *arena)
{
    static const char *const algorithms[] = {[CLOUD_ROUND_ROBIN] = "round-robin", [CLOUD_LEAST_CONNECTIONS] = "least-connections",
                                             [CLOUD_SOURCE_IP] = "source-ip"};
    struct kp_value *root = kp_value_object(arena), *ranges = kp_value_array(arena);
    KP_AUTO_BUF struct kp_buf text = {0};
    for (size_t i = 0; i < spec->n_source_ranges; i++)
        kp_value_append(arena, ranges, kp_value_string(arena, spec->source_ranges[i]));
    set(arena, root, "description", spec->description);
    set(arena, root, "address", spec->address);
    kp_value_set(arena, root, "listeners", listeners_value(spec, arena));
    kp_value_set(arena, root, "targets", targets_value(spec, arena));
    set(arena, root, "algorithm", algorithms[spec->algorithm]);
    kp_value_set(arena, root, "health", health_value(&spec->health, arena));
    kp_value_set(arena, root, "source-ranges", ranges);
    kp_value_set(arena, root, "internal", kp_value_bool(arena, spec->internal));
    kp_value_set(arena, root, "proxy-protocol", kp_value_bool(arena, spec->proxy_protocol));
    kp_value_set(arena, root, "sticky", kp_value_bool(arena, spec->sticky));
    kp_value_print(root, &text);
    return kp_arena_strndup(arena, text.data, text.len);
}

/* ---- what there is */

static int read_balancer(const struct world *world, const char *uid, const char *name, bool at_work, struct kp_arena *arena, struct cloud_balancer *ret,
                         struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf address = {0}, problem = {0};
    const char *host_names = getenv("FAKE_CLOUD_HOST_NAMES");
    bool named = !kp_empty(host_names), made = has_file(world, uid, name, "spec");
    int r = 0;
    *ret = (struct cloud_balancer){
        .id = kp_arena_printf(arena, "lb-%s-%s", uid, name), .name = kp_arena_strdup(arena, name), .cluster_uid = kp_arena_strdup(arena, uid),
        .address = "", .host_name = "", .problem = "", .state = at_work || !made ? CLOUD_BALANCER_PENDING : CLOUD_BALANCER_ACTIVE,
    };
    file_of(world, uid, name, "failed", path);
    if (kp_path_exists(path)) {
        r = kp_read_file(path, 4096, &problem, error);
        ret->state = CLOUD_BALANCER_FAILED;
        ret->problem = kp_arena_strdup(arena, problem.data ? problem.data : "");
    }
    fake_path(world, uid, "addresses", address_name(name, arena), path);
    if (r < 0 || !kp_path_exists(path) || ret->state == CLOUD_BALANCER_PENDING)
        return r; /* clients get no address that nobody answers at yet */
    r = kp_read_file(path, 64, &address, error);
    if (r == 0 && named)
        ret->host_name = kp_arena_printf(arena, "%s.%s.lb.fake.example.com", name, uid);
    else if (r == 0)
        ret->address = kp_arena_strdup(arena, address.data);
    return r;
}

static int remove_balancer(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, struct kp_error *error)
{
    char path[PATH_MAX];
    fake_path(world, uid, "addresses", address_name(name, arena), path);
    int r = fake_remove(path, error);
    file_of(world, uid, name, NULL, path);
    return r < 0 ? r : kp_remove_tree(path, error);
}

/* What is wanted is put in the place of what is there, when that is another. */
static int converge(const struct world *world, const struct cloud_balancer_spec *spec, const struct fake_call *call, struct kp_arena *arena,
                    struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX];
    const char *address = NULL, *wanted = make_document(spec, arena);
    KP_AUTO_BUF struct kp_buf there = {0};
    file_of(world, spec->cluster_uid, spec->name, NULL, dir);
    file_of(world, spec->cluster_uid, spec->name, "spec", path);
    int r = kp_mkdir_p(dir, 0700, error);
    if (r == 0)
        r = fake_address_keep(world, spec->cluster_uid, address_name(spec->name, arena), spec->address, arena, &address, error);
    if (r == 0)
        fake_call_half(call);
    if (r == 0 && kp_path_exists(path))
        r = kp_read_file(path, SPEC_MAX, &there, error);
    if (r < 0 || (there.data && kp_streq(there.data, wanted)))
        return r;
    r = kp_write_file(path, wanted, strlen(wanted), 0600, error);
    if (r == 0)
        r = write_number(world, spec->cluster_uid, spec->name, "changes", read_number(world, spec->cluster_uid, spec->name, "changes") + 1, error);
    return r < 0 ? r : write_number(world, spec->cluster_uid, spec->name, "pending", slowness(), error);
}

static int ensure_now(const struct world *world, const struct cloud_balancer_spec *spec, const struct fake_call *call, struct kp_arena *arena,
                      struct cloud_balancer *ret, struct kp_error *error)
{
    const char *uid = spec->cluster_uid, *name = spec->name;
    struct cloud_network network;
    bool going = false, pending = false;
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r == 0)
        r = fake_read_network(world, uid, arena, &network, error);
    if (r < 0)
        return r;
    if (has_file(world, uid, name, "going")) {
        r = still_at(world, uid, name, "going", &going, error);
        if (r == 0 && !has_file(world, uid, name, "going"))
            r = remove_balancer(world, uid, name, arena, error);
        return r < 0 ? r : kp_fail(error, KP_EAGAIN, "the one that was is still being deleted");
    }
    r = still_at(world, uid, name, "pending", &pending, error);
    if (r == 0 && !pending)
        r = converge(world, spec, call, arena, error);
    if (r == 0)
        r = read_balancer(world, uid, name, pending || has_file(world, uid, name, "pending"), arena, ret, error);
    return r < 0 || ret->state != CLOUD_BALANCER_PENDING ? r : kp_fail(error, KP_EAGAIN, "the cloud is at work");
}

int fake_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("balancer_ensure", spec->name, &call, error);
    return r < 0 ? r : fake_call_end(&call, ensure_now(state, spec, &call, arena, ret, error), error);
}

static int get_now(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    bool pending = false;
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r == 0 && !has_file(world, uid, name, NULL))
        return kp_fail(error, KP_ENOTFOUND, "load balancer %s does not exist", name);
    if (r == 0)
        r = still_at(world, uid, name, "pending", &pending, error);
    return r < 0 ? r : read_balancer(world, uid, name, pending || has_file(world, uid, name, "going"), arena, ret, error);
}

int fake_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("balancer_get", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, get_now(state, uid, name, arena, ret, error), error);
}

/* A target is healthy whose machine is on; nothing is known while the cloud is at work. */
static int health_now(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                      struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_value *root = NULL;
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!has_file(world, uid, name, NULL))
        return kp_fail(error, KP_ENOTFOUND, "load balancer %s does not exist", name);
    file_of(world, uid, name, "spec", path);
    if (!kp_path_exists(path))
        return 0;
    int r = kp_read_file(path, SPEC_MAX, &text, error);
    if (r == 0)
        r = kp_value_parse(text.data, text.len, arena, NULL, &root, error);
    if (r < 0)
        return r;
    const struct kp_value *targets = kp_value_get(root, "targets"), *listeners = kp_value_get(root, "listeners");
    ret->items = KP_NEW_ARRAY(arena, struct cloud_target_health, targets->array.len * listeners->array.len + 1);
    for (size_t t = 0; t < targets->array.len; t++) {
        const char *machine = kp_value_str(kp_value_get(targets->array.items[t], "machine"));
        fake_path(world, uid, "machines", machine, path);
        for (size_t l = 0; l < listeners->array.len; l++)
            ret->items[ret->len++] = (struct cloud_target_health){
                .machine = machine, .address = kp_value_str(kp_value_get(targets->array.items[t], "address")),
                .port = (int)kp_value_get(listeners->array.items[l], "target-port")->integer,
                .known = !has_file(world, uid, name, "pending"), .healthy = kp_path_exists(path) && fake_machine_runs(path)};
    }
    return 0;
}

int fake_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                         struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("balancer_health", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, health_now(state, uid, name, arena, ret, error), error);
}

static int list_now(const struct world *world, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_strings names = {0};
    fake_path(world, uid, "balancers", NULL, path);
    int r = fake_list(path, &names, error);
    *ret = (struct cloud_balancer_list){.items = KP_NEW_ARRAY(arena, struct cloud_balancer, names.len + 1)};
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        bool at_work = has_file(world, uid, names.items[i], "pending") || has_file(world, uid, names.items[i], "going");
        r = read_balancer(world, uid, names.items[i], at_work, arena, &ret->items[ret->len], error);
        ret->len += r == 0;
    }
    kp_strings_done(&names);
    return r;
}

int fake_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("balancer_list", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, list_now(state, uid, arena, ret, error), error);
}

static int delete_now(const struct world *world, const char *uid, const char *name, const struct fake_call *call, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    char path[PATH_MAX];
    bool going = false;
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r < 0 || !has_file(world, uid, name, NULL))
        return r;
    if (has_file(world, uid, name, "going")) {
        r = still_at(world, uid, name, "going", &going, error);
    } else {
        file_of(world, uid, name, "spec", path);
        r = fake_remove(path, error);
        if (r == 0)
            fake_call_half(call);
        if (r == 0)
            r = write_number(world, uid, name, "going", slowness(), error);
    }
    if (r < 0)
        return r;
    return has_file(world, uid, name, "going") ? kp_fail(error, KP_EAGAIN, "it is being deleted") : remove_balancer(world, uid, name, arena, error);
}

int fake_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("balancer_delete", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, delete_now(state, uid, name, &call, error), error);
}
