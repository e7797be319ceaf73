/* Creates, updates, deletes and lists over a store in memory: what is refused, what the server fills in, and who wins. */
#include "controlplane/apiserver/registry/registry.h"

#include "api/k8s.h"
#include "controlplane/apiserver/watch/watch_internal.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"

#define NOW_S INT64_C(1767225600)

struct fixture {
    struct loop *loop;
    struct store *store;
    struct wcache_set *caches;
    struct registry *registry;
    struct kp_arena *arena;
    struct api_status status;
    struct registry_request rq;
    struct wcache_object *object; /* what the last call gave */
    bool created, gone, as_status;
};
static const struct auth_user joe = {.name = "joe", .uid = ""};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    size_t count;
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->store = fake_store_new(f->loop);
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    f->caches = wcache_set_new(f->loop, f->store, kinds, count);
    assert_true(wcache_set_wait_ready(f->caches, 5000));
    const struct registry_config config = {.store = f->store, .caches = f->caches, .service_cidr = "10.96.0.0/24", .node_port_min = 30000, .node_port_max = 30010, .event_ttl_s = 60};
    if (registry_new(&config, &f->registry, &error) < 0)
        fail_msg("%s", error.message);
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    wcache_object_unref(f->object);
    registry_free(f->registry);
    wcache_set_free(f->caches); /* keeps its memory, as its comment says */
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */
static void about(struct fixture *f, const char *group, const char *resource, const char *subresource, const char *name)
{
    const struct kp_resource *r = kp_resource_find(group, "v1", resource);
    assert_non_null(r);
    f->status = API_STATUS(f->arena);
    f->rq = (struct registry_request){.arena = f->arena, .user = &joe, .resource = r, .kind = registry_kind_of(r), .subresource = subresource,
                                      .ns = r->namespaced ? "n" : "", .name = name, .field_manager = "test", .now_s = NOW_S, .status = &f->status};
    wcache_object_unref(KP_TAKE(f->object));
}

static void *parse(struct fixture *f, const char *json)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(registry_storage_type(f->rq.kind), json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

static int create(struct fixture *f, const char *group, const char *resource, const char *json)
{
    about(f, group, resource, "", "");
    return registry_create(f->registry, &f->rq, parse(f, json), &f->object);
}

static int make_json(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct kp_error error = {0};
    const char *json = arg;
    (void)current;
    assert_int_equal(kp_json_decode(registry_storage_type(rq->kind), json, strlen(json), rq->arena, NULL, ret_new, &error), 0);
    return 0;
}

static int update(struct fixture *f, const char *group, const char *resource, const char *subresource, const char *name, const char *json)
{
    const struct registry_update_options options = {0};
    about(f, group, resource, subresource, name);
    return registry_update(f->registry, &f->rq, &options, make_json, (void *)(uintptr_t)json, &f->object, &f->created);
}

/* As a patch does: sets a label on whatever is there. */
static int make_label(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct kp_type *type = registry_storage_type(rq->kind);
    *ret_new = kp_object_clone(type, current, rq->arena);
    kp_string_map_set(rq->arena, &kp_object_meta(type, *ret_new)->labels, arg, "x");
    return 0;
}

static int delete_with(struct fixture *f, const char *group, const char *resource, const char *name, const char *options_json)
{
    void *options = NULL;
    struct kp_error error = {0};
    about(f, group, resource, "", name);
    assert_int_equal(kp_json_decode(&k8s_delete_options_type, options_json, strlen(options_json), f->arena, NULL, &options, &error), 0);
    return registry_delete(f->registry, &f->rq, options, &f->object, &f->gone, &f->as_status);
}

static int get(struct fixture *f, const char *group, const char *resource, const char *name)
{
    about(f, group, resource, "", name);
    return registry_get(f->registry, &f->rq, NULL, &f->object);
}

static void *result(struct fixture *f)
{
    assert_non_null(f->object);
    return registry_decode(f->rq.kind, f->object, f->arena);
}

static void failed(struct fixture *f, int code, int http_status, const char *reason, const char *message)
{
    if (!code)
        fail_msg("expected: %s", message);
    assert_int_equal(f->status.http_status, http_status);
    assert_string_equal(f->status.reason, reason);
    assert_string_equal(f->status.message, message);
}

#define MAP(name, rest) "{\"metadata\":{\"name\":\"" name "\"" rest "}}"

/* ---- create ------------------------------------------------------------------------------------------------------------- */
static void create_fills_in_metadata_and_get_finds_it(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", "{\"metadata\":{\"name\":\"a\",\"uid\":\"mine\",\"resourceVersion\":\"\",\"generation\":7},\"data\":{\"k\":\"v\"}}"), 0);
    const struct k8s_config_map *map = result(f);
    assert_string_equal(map->metadata->namespace, "n");
    assert_int_equal(strlen(map->metadata->uid), 36);
    assert_int_equal(map->metadata->creation_timestamp.seconds, NOW_S);
    assert_int_equal(map->metadata->generation, 0);
    assert_int_equal(map->metadata->managed_fields.len, 1);
    KP_AUTO_FREE char *version = kp_asprintf("%lld", (long long)f->store->revision);
    assert_string_equal(map->metadata->resource_version, version);
    assert_int_equal(get(f, "", "configmaps", "a"), 0);
    assert_string_equal(kp_string_map_get(&((struct k8s_config_map *)result(f))->data, "k"), "v");
}

static void create_refuses_what_exists_and_bad_names(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    failed(f, create(f, "", "configmaps", MAP("a", "")), 409, "AlreadyExists", "configmaps \"a\" already exists");
    int code = create(f, "", "configmaps", MAP("A_b", ""));
    failed(f, code, 422, "Invalid",
           "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
           "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
           "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')");
    assert_string_equal(f->status.causes[0].field, "metadata.name");
    code = create(f, "", "configmaps", "{\"metadata\":{}}");
    failed(f, code, 422, "Invalid", "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required");
    code = create(f, "", "configmaps", MAP("l", ",\"labels\":{\"a b\":\"c\"}"));
    assert_int_equal(f->status.http_status, 422);
    assert_true(code != 0 && strstr(f->status.message, "metadata.labels: Invalid value: \"a b\""));
}

/* A pod whose spec has this besides its container is refused in these words. */
static void refused(struct fixture *f, const char *spec, const char *message)
{
    int code = create(f, "", "pods", kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}],%s}}", spec));
    if (!code)
        fail_msg("expected: %s", message);
    assert_int_equal(f->status.http_status, 422);
    if (!strstr(f->status.message, message))
        assert_string_equal(f->status.message, message);
}

static void where_a_pod_may_go_is_checked(void **state)
{
    struct fixture *f = *state;
#define SELECTOR "\"labelSelector\":{\"matchLabels\":{\"a\":\"b\"}}"
#define TERMS(kind, list) "\"affinity\":{\"" kind "\":{\"requiredDuringSchedulingIgnoredDuringExecution\":[{" list "}]}}"
#define SPREADS(more) "\"topologySpreadConstraints\":[{\"maxSkew\":1,\"topologyKey\":\"zone\",\"whenUnsatisfiable\":\"ScheduleAnyway\"" more "}]"
    refused(f, TERMS("podAffinity", SELECTOR ",\"topologyKey\":\"\""),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value");
    refused(f, TERMS("podAntiAffinity", SELECTOR ",\"topologyKey\":\"a b\""),
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"a b\"");
    refused(f, TERMS("podAffinity", "\"topologyKey\":\"zone\",\"matchLabelKeys\":[\"x\"]"),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set");
    refused(f, TERMS("podAffinity", SELECTOR ",\"topologyKey\":\"zone\",\"mismatchLabelKeys\":[\"a\"]"), "exists in both mismatchLabelKeys and labelSelector");
    refused(f, "\"affinity\":{\"podAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":[{\"weight\":101,\"podAffinityTerm\":{\"topologyKey\":\"zone\"}}]}}",
            "preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100");
    refused(f, "\"topologySpreadConstraints\":[{\"maxSkew\":0,\"topologyKey\":\"zone\",\"whenUnsatisfiable\":\"DoNotSchedule\"}]",
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero");
    refused(f, SPREADS(",\"minDomains\":2"), "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway");
    refused(f, SPREADS(",\"matchLabelKeys\":[\"x\"]"), "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set");
    assert_int_equal(create(f, "", "pods", "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]," SPREADS("," SELECTOR) "}}"), 0);
}

static void schedules_of_cron_jobs_are_checked(void **state)
{
    struct fixture *f = *state;
#define CRON_JOB(name, schedule, more) "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{\"schedule\":\"" schedule "\"" more ",\"jobTemplate\":{\"spec\":{\"template\":{\"spec\":" \
                                       "{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}}}"
    failed(f, create(f, "batch", "cronjobs", CRON_JOB("c", "61 * * * *", "")), 422, "Invalid",
           "CronJob.batch \"c\" is invalid: spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61");
    failed(f, create(f, "batch", "cronjobs", CRON_JOB("c", "@daily", ",\"timeZone\":\"Mars/Olympus\"")), 422, "Invalid",
           "CronJob.batch \"c\" is invalid: spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus");
    failed(f, create(f, "batch", "cronjobs", CRON_JOB("c", "@daily", ",\"timeZone\":\"local\"")), 422, "Invalid",
           "CronJob.batch \"c\" is invalid: spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    failed(f, create(f, "batch", "cronjobs", CRON_JOB("c", "@daily", ",\"successfulJobsHistoryLimit\":-1")), 422, "Invalid",
           "CronJob.batch \"c\" is invalid: spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0");
    assert_int_equal(create(f, "batch", "cronjobs", CRON_JOB("c", "*/5 * * * mon-fri", ",\"timeZone\":\"UTC\"")), 0);
}

static void bounds_of_limit_ranges_are_checked_and_defaults_follow_from_them(void **state)
{
    struct fixture *f = *state;
#define RANGE(item) "{\"metadata\":{\"name\":\"r\"},\"spec\":{\"limits\":[" item "]}}"
    failed(f, create(f, "", "limitranges", RANGE("{\"type\":\"Container\",\"min\":{\"cpu\":\"2\"},\"max\":{\"cpu\":\"1\"},\"default\":{\"cpu\":\"1\"},\"defaultRequest\":{\"cpu\":\"1\"}}")),
           422, "Invalid", "LimitRange \"r\" is invalid: [spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1, "
           "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1, "
           "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]");
    failed(f, create(f, "", "limitranges", RANGE("{\"type\":\"Pod\",\"default\":{\"cpu\":\"2\"}}")), 422, "Invalid",
           "LimitRange \"r\" is invalid: spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'");
    failed(f, create(f, "", "limitranges", RANGE("{\"type\":\"Pod\",\"max\":{\"cpu\":\"2\"}},{\"type\":\"Pod\",\"maxLimitRequestRatio\":{\"cpu\":\"500m\"}}")), 422, "Invalid",
           "LimitRange \"r\" is invalid: [spec.limits[1].type: Duplicate value: \"Pod\", "
           "spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1]");
    failed(f, create(f, "", "limitranges", RANGE("{\"type\":\"Container\",\"default\":{\"example.com/gpu\":\"2\"},\"defaultRequest\":{\"example.com/gpu\":\"1\"}}")), 422, "Invalid",
           "LimitRange \"r\" is invalid: spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": "
           "default value 2 must equal to defaultRequest value 1 in example.com/gpu");
    failed(f, create(f, "", "limitranges", RANGE("{\"type\":\"PersistentVolumeClaim\"}")), 422, "Invalid",
           "LimitRange \"r\" is invalid: spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided");
    assert_int_equal(create(f, "", "limitranges", RANGE("{\"type\":\"Container\",\"min\":{\"memory\":\"1Mi\"},\"max\":{\"cpu\":\"2\"}}")), 0);
    const struct k8s_limit_range_item *item = &((struct k8s_limit_range *)result(f))->spec->limits.items[0];
    assert_string_equal(kp_string_map_get(&item->default_, "cpu"), "2");
    assert_string_equal(kp_string_map_get(&item->default_request, "cpu"), "2");
    assert_string_equal(kp_string_map_get(&item->default_request, "memory"), "1Mi");
}

/* What the quota is charged with, as the store has it. */
static const char *charged(struct fixture *f, const char *name)
{
    assert_int_equal(get(f, "", "resourcequotas", "q"), 0);
    return kp_string_map_get(&((struct k8s_resource_quota *)result(f))->status->used, name);
}

static void a_quota_is_charged_and_refuses(void **state)
{
    struct fixture *f = *state;
    struct admission *admission;
    struct kp_error error = {0};
    const struct admission_config config = {.caches = f->caches, .disabled_plugins = "NamespaceLifecycle,RBACEscalation"};
    assert_int_equal(admission_new(&config, &admission, &error), 0);
    assert_int_equal(create(f, "", "resourcequotas", "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"hard\":{\"configmaps\":\"2\",\"count/secrets\":\"1\",\"services.nodeports\":\"1\"}}}"), 0);
    registry_set_admission(f->registry, admission, NULL);
    assert_int_equal(wcache_wait_fresh(f->caches, &error), 0);
    failed(f, create(f, "", "configmaps", MAP("a", "")), 403, "Forbidden", "configmaps \"a\" is forbidden: status unknown for quota: q, resources: configmaps");
    assert_int_equal(update(f, "", "resourcequotas", "status", "q", "{\"metadata\":{\"name\":\"q\"},\"status\":{\"hard\":{\"configmaps\":\"2\",\"count/secrets\":\"1\",\"services.nodeports\":\"1\"},"
                     "\"used\":{\"configmaps\":\"0\",\"count/secrets\":\"0\",\"services.nodeports\":\"0\"}}}"), 0);
    assert_int_equal(wcache_wait_fresh(f->caches, &error), 0);
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    assert_int_equal(create(f, "", "configmaps", MAP("b", "")), 0);
    assert_string_equal(charged(f, "configmaps"), "2");
    failed(f, create(f, "", "configmaps", MAP("c", "")), 403, "Forbidden",
           "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2");
    assert_string_equal(charged(f, "configmaps"), "2");
    about(f, "", "secrets", "", "");
    f->rq.dry_run = true;
    assert_int_equal(registry_create(f->registry, &f->rq, parse(f, MAP("s", "")), &f->object), 0);
    assert_string_equal(charged(f, "count/secrets"), "0"); /* a dry run is asked, and not charged */
    /* A service comes to use more when it is changed. */
    assert_int_equal(create(f, "", "services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"ports\":[{\"name\":\"a\",\"port\":1},{\"name\":\"b\",\"port\":2}]}}"), 0);
    assert_string_equal(charged(f, "services.nodeports"), "0");
    failed(f, update(f, "", "services", "", "s", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"name\":\"a\",\"port\":1},{\"name\":\"b\",\"port\":2}]}}"), 403, "Forbidden",
           "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1");
    assert_int_equal(update(f, "", "services", "", "s", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"name\":\"a\",\"port\":1}]}}"), 0);
    assert_string_equal(charged(f, "services.nodeports"), "1");
    assert_int_equal(update(f, "", "services", "", "s", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"ClusterIP\",\"ports\":[{\"name\":\"a\",\"port\":1}]}}"), 0);
    assert_string_equal(charged(f, "services.nodeports"), "0");
    registry_set_admission(f->registry, NULL, NULL);
    admission_free(admission);
}

static void names_are_generated_anew_when_taken(void **state)
{
    struct fixture *f = *state;
    const char *json = "{\"metadata\":{\"generateName\":\"job-\"}}";
    assert_int_equal(create(f, "", "configmaps", json), 0);
    const struct k8s_config_map *one = result(f);
    assert_true(kp_starts_with(one->metadata->name, "job-"));
    assert_int_equal(strlen(one->metadata->name), 9);
    assert_int_equal(create(f, "", "configmaps", json), 0);
    assert_string_not_equal(((struct k8s_config_map *)result(f))->metadata->name, one->metadata->name);
}

static void dry_run_tells_and_writes_nothing(void **state)
{
    struct fixture *f = *state;
    about(f, "", "configmaps", "", "");
    f->rq.dry_run = true;
    assert_int_equal(registry_create(f->registry, &f->rq, parse(f, MAP("a", "")), &f->object), 0);
    assert_non_null(f->object);
    assert_int_equal(f->store->commits, 0);
    failed(f, get(f, "", "configmaps", "a"), 404, "NotFound", "configmaps \"a\" not found");
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    about(f, "", "configmaps", "", "");
    f->rq.dry_run = true;
    failed(f, registry_create(f->registry, &f->rq, parse(f, MAP("a", "")), &f->object), 409, "AlreadyExists", "configmaps \"a\" already exists");
    about(f, "", "configmaps", "", "a");
    f->rq.dry_run = true;
    struct k8s_delete_options *options = KP_OBJECT_NEW(f->arena, k8s_delete_options);
    assert_int_equal(registry_delete(f->registry, &f->rq, options, &f->object, &f->gone, &f->as_status), 0);
    assert_int_equal(get(f, "", "configmaps", "a"), 0);
}

static void a_failing_store_is_told(void **state)
{
    struct fixture *f = *state;
    f->store->fail_code = KP_EUNAVAILABLE;
    assert_int_not_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    assert_int_equal(f->status.http_status, 500);
    f->store->fail_code = KP_ETIMEOUT;
    failed(f, get(f, "", "configmaps", "a"), 504, "Timeout", "Timeout: request did not complete within the allotted timeout");
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
}

/* ---- update ------------------------------------------------------------------------------------------------------------- */
static void update_with_an_old_version_conflicts(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    assert_int_equal(update(f, "", "configmaps", "", "a", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"}}"), 0);
    int code = update(f, "", "configmaps", "", "a", "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"2\"},\"data\":{\"k\":\"2\"}}");
    failed(f, code, 409, "Conflict",
           "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again");
    code = update(f, "", "configmaps", "", "b", MAP("b", ""));
    failed(f, code, 404, "NotFound", "configmaps \"b\" not found");
}

static void an_update_that_changes_nothing_keeps_the_version(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"}}"), 0);
    int commits = f->store->commits;
    assert_int_equal(update(f, "", "configmaps", "", "a", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"}}"), 0);
    assert_int_equal(f->store->commits, commits);
}

static void somebody_else_writes(struct store *store)
{
    fake_put(store, "/registry/configmaps/n/a", "{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":{\"other\":\"x\"}}}");
}

static void a_patch_that_lost_the_race_is_made_again(void **state)
{
    struct fixture *f = *state;
    const struct registry_update_options options = {.patch = true};
    fake_put(f->store, "/registry/configmaps/n/a", "{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\"}}");
    f->store->before_commit = somebody_else_writes;
    about(f, "", "configmaps", "", "a");
    assert_int_equal(registry_update(f->registry, &f->rq, &options, make_label, "mine", &f->object, &f->created), 0);
    const struct k8s_config_map *map = result(f);
    assert_non_null(kp_string_map_get(&map->metadata->labels, "mine"));
    assert_non_null(kp_string_map_get(&map->metadata->labels, "other"));
}

#define DEPLOYMENT(replicas, status)                                                                                                    \
    "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":" replicas ",\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{" \
    "\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}},\"status\":{\"replicas\":" status "}}"

static void status_and_spec_are_written_apart_and_the_spec_counts_generations(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "apps", "deployments", DEPLOYMENT("1", "9")), 0);
    const struct k8s_deployment *d = result(f);
    assert_int_equal(d->status->replicas, 0);
    assert_int_equal(d->metadata->generation, 1);
    assert_int_equal(update(f, "apps", "deployments", "status", "d", DEPLOYMENT("5", "7")), 0);
    d = result(f);
    assert_int_equal(d->spec->replicas, 1);
    assert_int_equal(d->status->replicas, 7);
    assert_int_equal(d->metadata->generation, 1);
    assert_int_equal(update(f, "apps", "deployments", "", "d", DEPLOYMENT("5", "0")), 0);
    d = result(f);
    assert_int_equal(d->spec->replicas, 5);
    assert_int_equal(d->status->replicas, 7);
    assert_int_equal(d->metadata->generation, 2);
}

static void scale_reads_and_writes_replicas(void **state)
{
    struct fixture *f = *state;
    struct k8s_scale *scale = NULL;
    assert_int_equal(create(f, "apps", "deployments", DEPLOYMENT("3", "0")), 0);
    about(f, "apps", "deployments", "scale", "d");
    assert_int_equal(registry_scale_get(f->registry, &f->rq, &scale), 0);
    assert_int_equal(scale->spec->replicas, 3);
    assert_string_equal(scale->status->selector, "a=b");
    assert_string_equal(scale->metadata->name, "d");
}

static void immutable_config_stays(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"},\"immutable\":true}"), 0);
    int code = update(f, "", "configmaps", "", "a", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"2\"},\"immutable\":true}");
    failed(f, code, 422, "Invalid", "ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set");
    code = update(f, "", "configmaps", "", "a", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"}}");
    failed(f, code, 422, "Invalid", "ConfigMap \"a\" is invalid: immutable: Forbidden: field is immutable when `immutable` is set");
}

/* ---- delete ------------------------------------------------------------------------------------------------------------- */
static void delete_waits_for_finalizers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", MAP("a", ",\"finalizers\":[\"example.com/x\"]")), 0);
    assert_int_equal(delete_with(f, "", "configmaps", "a", "{}"), 0);
    assert_false(f->gone);
    assert_false(f->as_status);
    const struct k8s_config_map *map = result(f);
    assert_int_equal(map->metadata->deletion_timestamp.seconds, NOW_S);
    assert_int_equal(map->metadata->deletion_grace_period_seconds, 0);
    int code = update(f, "", "configmaps", "", "a", MAP("a", ",\"finalizers\":[\"example.com/x\",\"example.com/y\"]"));
    assert_true(code != 0 && f->status.http_status == 422);
    assert_int_equal(update(f, "", "configmaps", "", "a", MAP("a", "")), 0);
    failed(f, get(f, "", "configmaps", "a"), 404, "NotFound", "configmaps \"a\" not found");
}

static void delete_minds_preconditions(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "configmaps", MAP("a", "")), 0);
    int code = delete_with(f, "", "configmaps", "a", "{\"preconditions\":{\"uid\":\"other\"}}");
    assert_true(code != 0 && f->status.http_status == 409);
    code = delete_with(f, "", "configmaps", "a", "{\"preconditions\":{\"resourceVersion\":\"1\"}}");
    assert_true(code != 0 && f->status.http_status == 409);
    code = delete_with(f, "", "configmaps", "a", "{\"propagationPolicy\":\"Sometimes\"}");
    assert_true(code != 0 && f->status.http_status == 422);
    assert_int_equal(delete_with(f, "", "configmaps", "a", "{}"), 0);
    assert_true(f->gone && f->as_status);
    failed(f, delete_with(f, "", "configmaps", "a", "{}"), 404, "NotFound", "configmaps \"a\" not found");
}

static void propagation_leaves_its_finalizer(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "apps", "deployments", DEPLOYMENT("1", "0")), 0);
    assert_int_equal(delete_with(f, "apps", "deployments", "d", "{\"propagationPolicy\":\"Foreground\"}"), 0);
    assert_false(f->gone);
    const struct k8s_deployment *d = result(f);
    assert_string_equal(d->metadata->finalizers.items[0], "foregroundDeletion");
    assert_int_equal(delete_with(f, "apps", "deployments", "d", "{\"propagationPolicy\":\"Orphan\"}"), 0);
    d = result(f);
    assert_int_equal(d->metadata->finalizers.len, 1);
    assert_string_equal(d->metadata->finalizers.items[0], "orphan");
}

static void a_scheduled_pod_gets_its_grace(void **state)
{
    struct fixture *f = *state;
    const char *spec = "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}],\"nodeName\":\"w\",\"terminationGracePeriodSeconds\":20}}";
    assert_int_equal(create(f, "", "pods", kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"p\"},%s", spec)), 0);
    assert_int_equal(delete_with(f, "", "pods", "p", "{}"), 0);
    assert_false(f->gone);
    const struct k8s_pod *pod = result(f);
    assert_int_equal(pod->metadata->deletion_grace_period_seconds, 20);
    assert_int_equal(pod->metadata->deletion_timestamp.seconds, NOW_S + 20);
    assert_int_equal(delete_with(f, "", "pods", "p", "{\"gracePeriodSeconds\":5}"), 0);
    assert_int_equal(((struct k8s_pod *)result(f))->metadata->deletion_grace_period_seconds, 5);
    assert_int_equal(delete_with(f, "", "pods", "p", "{\"gracePeriodSeconds\":0}"), 0);
    assert_true(f->gone);
    assert_int_equal(create(f, "", "pods", "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"), 0);
    assert_int_equal(delete_with(f, "", "pods", "q", "{}"), 0);
    assert_true(f->gone); /* nobody runs it */
}

static void delete_collection_takes_what_is_selected(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct kp_selector labels;
    struct registry_list list;
    assert_int_equal(create(f, "", "configmaps", MAP("a", ",\"labels\":{\"x\":\"1\"}")), 0);
    assert_int_equal(create(f, "", "configmaps", MAP("b", ",\"labels\":{\"x\":\"1\"}")), 0);
    assert_int_equal(create(f, "", "configmaps", MAP("c", "")), 0);
    assert_int_equal(kp_label_selector_parse("x=1", f->arena, &labels, &error), 0);
    const struct registry_list_options options = {.filter = {.ns = "n", .labels = &labels}};
    about(f, "", "configmaps", "", "");
    assert_int_equal(registry_delete_collection(f->registry, &f->rq, &options, KP_OBJECT_NEW(f->arena, k8s_delete_options), &list), 0);
    assert_int_equal(list.objects.len, 2);
    wcache_list_done(&list.objects);
    assert_int_not_equal(get(f, "", "configmaps", "a"), 0);
    assert_int_equal(get(f, "", "configmaps", "c"), 0);
}

/* ---- lists --------------------------------------------------------------------------------------------------------------- */
static int list_with(struct fixture *f, const struct registry_list_options *options, struct registry_list *list)
{
    about(f, "", "configmaps", "", "");
    return registry_list(f->registry, &f->rq, options, list);
}

static void chunks_show_the_state_of_the_first_one(void **state)
{
    struct fixture *f = *state;
    struct registry_list list;
    for (char c = 'a'; c <= 'e'; c++)
        assert_int_equal(create(f, "", "configmaps", kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%c\"}}", c)), 0);
    struct registry_list_options options = {.limit = 2, .filter = {.ns = "n"}};
    assert_int_equal(list_with(f, &options, &list), 0);
    assert_int_equal(list.objects.len, 2);
    assert_true(list.has_remaining);
    assert_int_equal(list.remaining, 3);
    int64_t revision = list.objects.revision;
    wcache_list_done(&list.objects);
    options.continue_token = list.continue_token;
    assert_int_equal(delete_with(f, "", "configmaps", "c", "{}"), 0);
    assert_int_equal(list_with(f, &options, &list), 0);
    assert_int_equal(list.objects.len, 2);
    assert_string_equal(list.objects.items[0]->name, "c");
    assert_int_equal(list.objects.revision, revision);
    assert_int_equal(list.remaining, 1);
    wcache_list_done(&list.objects);
    options.continue_token = list.continue_token;
    struct kp_error error = {0};
    assert_int_equal(store_compact(f->store, f->store->revision, &error), 0);
    int code = list_with(f, &options, &list);
    assert_int_equal(code, KP_EEXPIRED);
    assert_int_equal(f->status.http_status, 410);
    assert_string_equal(f->status.reason, "Expired");
    options.continue_token = list.continue_token; /* the way on, if inconsistent */
    assert_int_equal(list_with(f, &options, &list), 0);
    assert_int_equal(list.objects.len, 1);
    assert_string_equal(list.objects.items[0]->name, "e");
    assert_string_equal(list.continue_token, "");
    wcache_list_done(&list.objects);
}

static void list_options_that_make_no_sense_are_refused(void **state)
{
    struct fixture *f = *state;
    struct registry_list list;
    struct registry_list_options options = {.continue_token = "!!"};
    assert_int_not_equal(list_with(f, &options, &list), 0);
    assert_int_equal(f->status.http_status, 400);
    options = (struct registry_list_options){.resource_version_match = "Exact"};
    assert_int_not_equal(list_with(f, &options, &list), 0);
    assert_int_equal(f->status.http_status, 422);
    options = (struct registry_list_options){.resource_version = "abc"};
    assert_int_not_equal(list_with(f, &options, &list), 0);
    assert_int_equal(f->status.http_status, 400);
}

/* ---- services ------------------------------------------------------------------------------------------------------------- */
static void services_get_addresses_and_ports_of_their_own(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80}]}}"), 0);
    const struct k8s_service *one = result(f);
    assert_true(kp_starts_with(one->spec->cluster_ip, "10.96.0."));
    int32_t port = one->spec->ports.items[0].node_port;
    assert_in_range(port, 30000, 30010);
    const char *json = kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"clusterIP\":\"%s\",\"ports\":[{\"port\":80}]}}", one->spec->cluster_ip);
    int code = create(f, "", "services", json);
    assert_true(code != 0 && f->status.http_status == 422);
    assert_non_null(strstr(f->status.message, "provided IP is already allocated"));
    json = kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":%d}]}}", port);
    code = create(f, "", "services", json);
    assert_true(code != 0 && f->status.http_status == 422);
    assert_non_null(strstr(f->status.message, "provided port is already allocated"));
    assert_int_equal(delete_with(f, "", "services", "s", "{}"), 0);
    assert_int_equal(create(f, "", "services", json), 0); /* what was given back can be had */
}

static void balancers_that_keep_the_clients_address_have_a_port_for_health_checks(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"LoadBalancer\",\"externalTrafficPolicy\":\"Local\","
                                               "\"allocateLoadBalancerNodePorts\":false,\"ports\":[{\"port\":80}]}}"), 0);
    const struct k8s_service *one = result(f);
    int32_t port = one->spec->health_check_node_port;
    assert_in_range(port, 30000, 30010);
    const char *json = kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":%d}]}}", port);
    assert_true(create(f, "", "services", json) != 0);
    assert_non_null(strstr(f->status.message, "provided port is already allocated"));
    assert_int_equal(delete_with(f, "", "services", "s", "{}"), 0);
    assert_int_equal(create(f, "", "services", json), 0);
    assert_true(create(f, "", "services", "{\"metadata\":{\"name\":\"u\"},\"spec\":{\"healthCheckNodePort\":30001,\"ports\":[{\"port\":80}]}}") != 0);
    assert_non_null(strstr(f->status.message, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"));
    assert_true(create(f, "", "services", "{\"metadata\":{\"name\":\"v\"},\"spec\":{\"type\":\"LoadBalancer\",\"loadBalancerSourceRanges\":[\"10.0.0.0/33\"],"
                                          "\"ports\":[{\"port\":80}]}}") != 0);
    assert_non_null(strstr(f->status.message, "must be a valid CIDR value"));
}

static void what_must_be_there_is_made_in_two_transactions(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    assert_int_equal(f->store->commits, 2); /* namespaces, and what is in them */
    assert_non_null(fake_at(f->store, "/registry/namespaces/kube-system", f->store->revision));
    assert_non_null(fake_at(f->store, "/registry/servicecidrs/kubernetes", f->store->revision));
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    assert_int_equal(f->store->commits, 2); /* it is there */
}

static void another_server_makes_one_of_them(struct store *store)
{
    fake_put(store, "/registry/namespaces/default", "{\"metadata\":{\"name\":\"default\",\"uid\":\"theirs\"}}");
}

static void of_servers_that_start_together_each_makes_what_is_missing(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    f->store->before_commit = another_server_makes_one_of_them;
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    const struct fake_version *theirs = fake_at(f->store, "/registry/namespaces/default", f->store->revision);
    assert_non_null(strstr((const char *)theirs->value->data, "theirs"));
    assert_non_null(fake_at(f->store, "/registry/namespaces/kube-system", f->store->revision));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(create_fills_in_metadata_and_get_finds_it),
        TEST(create_refuses_what_exists_and_bad_names),
        TEST(where_a_pod_may_go_is_checked),
        TEST(schedules_of_cron_jobs_are_checked),
        TEST(bounds_of_limit_ranges_are_checked_and_defaults_follow_from_them),
        TEST(a_quota_is_charged_and_refuses),
        TEST(names_are_generated_anew_when_taken),
        TEST(dry_run_tells_and_writes_nothing),
        TEST(a_failing_store_is_told),
        TEST(update_with_an_old_version_conflicts),
        TEST(an_update_that_changes_nothing_keeps_the_version),
        TEST(a_patch_that_lost_the_race_is_made_again),
        TEST(status_and_spec_are_written_apart_and_the_spec_counts_generations),
        TEST(scale_reads_and_writes_replicas),
        TEST(immutable_config_stays),
        TEST(delete_waits_for_finalizers),
        TEST(delete_minds_preconditions),
        TEST(propagation_leaves_its_finalizer),
        TEST(a_scheduled_pod_gets_its_grace),
        TEST(delete_collection_takes_what_is_selected),
        TEST(chunks_show_the_state_of_the_first_one),
        TEST(list_options_that_make_no_sense_are_refused),
        TEST(services_get_addresses_and_ports_of_their_own),
        TEST(balancers_that_keep_the_clients_address_have_a_port_for_health_checks),
        TEST(what_must_be_there_is_made_in_two_transactions),
        TEST(of_servers_that_start_together_each_makes_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
