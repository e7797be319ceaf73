/* When the node is short of something: settings, what is met, which pod goes, and what it is told. */
#include "nodeimage/kubelet/eviction/eviction.h"
#include "kubelet_test.h"

#define MI ((int64_t)1 << 20)
#define GI ((int64_t)1 << 30)

static struct kp_arena *arena;

static int begin(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    kp_arena_free(arena);
    return 0;
}

static struct kp_string_map map_of(const char *key, const char *value)
{
    struct kp_string_map map = {0};
    if (key)
        kp_string_map_set(arena, &map, key, value);
    return map;
}

static const struct kp_string_map none;

/* ---- settings */
static void defaults_are_upstreams(void **state)
{
    (void)state;
    struct eviction_settings s = {0};
    struct kp_error error = {0};
    assert_int_equal(eviction_settings_parse(NULL, false, &none, &none, &none, &s, &error), 0);
    assert_int_equal(s.len, 5);
    assert_int_equal(eviction_reserved(&s, EVICTION_MEMORY, 2 * GI), 100 * MI);
    assert_int_equal(eviction_reserved(&s, EVICTION_NODEFS, 100 * GI), 10 * GI);
    assert_int_equal(eviction_reserved(&s, EVICTION_IMAGEFS, 100 * GI), 15 * GI);
    assert_int_equal(eviction_reserved(&s, EVICTION_NODEFS_INODES, 1000), 50);
    assert_int_equal(eviction_reserved(&s, EVICTION_PIDS, 1000), 0);
}

static void what_is_named_replaces_the_defaults_unless_merged(void **state)
{
    (void)state;
    struct eviction_settings s = {0};
    struct kp_error error = {0};
    const struct kp_string_map hard = map_of("memory.available", "500Mi"), off = map_of("nodefs.available", "0%");
    assert_int_equal(eviction_settings_parse(&hard, false, &none, &none, &none, &s, &error), 0);
    assert_int_equal(s.len, 1);
    assert_int_equal(eviction_settings_parse(&hard, true, &none, &none, &none, &s, &error), 0);
    assert_int_equal(s.len, 5);
    assert_int_equal(eviction_reserved(&s, EVICTION_MEMORY, GI), 500 * MI);
    assert_int_equal(eviction_settings_parse(&off, false, &none, &none, &none, &s, &error), 0);
    assert_int_equal(s.len, 0);
}

static void refused(const char *text, const struct kp_string_map *hard, const struct kp_string_map *soft, const struct kp_string_map *grace,
                    const struct kp_string_map *reclaim)
{
    struct eviction_settings s = {0};
    struct kp_error error = {0};
    assert_int_equal(eviction_settings_parse(hard, false, soft, grace, reclaim, &s, &error), KP_EINVALID);
    if (!strstr(error.message, text))
        fail_msg("expected \"%s\" in: %s", text, error.message);
}

static void faults_are_told_with_their_field(void **state)
{
    (void)state;
    const struct kp_string_map unknown = map_of("disk.free", "10%"), share = map_of("nodefs.available", "110%"), odd = map_of("memory.available", "much"),
                               zero = map_of("memory.available", "0"), soft = map_of("memory.available", "1Gi"), grace = map_of("memory.available", "soon"),
                               negative = map_of("memory.available", "-1Mi");
    refused("evictionHard: unsupported eviction signal disk.free", &unknown, &none, &none, &none);
    refused("evictionHard: nodefs.available: 110% is no share", &share, &none, &none, &none);
    refused("memory.available: much is neither an amount nor a share", &odd, &none, &none, &none);
    refused("a threshold must be positive: 0", &zero, &none, &none, &none);
    refused("grace period must be specified for the soft eviction threshold memory.available", NULL, &soft, &none, &none);
    refused("evictionSoftGracePeriod: memory.available: soon is no duration", NULL, &soft, &grace, &none);
    refused("evictionMinimumReclaim: memory.available: -1Mi", NULL, &none, &none, &negative);
}

/* ---- what is met */
static void a_condition_outlives_what_made_it(void **state)
{
    (void)state;
    struct eviction_settings s = {.transition_s = 300};
    struct eviction_state now = {0};
    struct kp_error error = {0};
    assert_int_equal(eviction_settings_parse(NULL, false, &none, &none, &none, &s, &error), 0);
    struct eviction_reading r[EVICTION_SIGNALS] = {[EVICTION_MEMORY] = {true, 50 * MI, 2 * GI}};
    size_t act = eviction_observe(&s, &now, r, 1000);
    assert_true(act < s.len && s.items[act].signal == EVICTION_MEMORY);
    assert_true(now.pressure[EVICTION_MEMORY_PRESSURE] && !now.pressure[EVICTION_DISK_PRESSURE]);
    r[EVICTION_MEMORY].available = GI;
    assert_int_equal(eviction_observe(&s, &now, r, 1010), s.len);
    assert_true(now.pressure[EVICTION_MEMORY_PRESSURE]);
    assert_int_equal(eviction_observe(&s, &now, r, 1299), s.len);
    assert_true(now.pressure[EVICTION_MEMORY_PRESSURE]);
    assert_int_equal(eviction_observe(&s, &now, r, 1300), s.len);
    assert_false(now.pressure[EVICTION_MEMORY_PRESSURE]);
}

static void a_soft_threshold_has_its_grace_and_a_minimum_to_reclaim(void **state)
{
    (void)state;
    struct eviction_settings s = {0};
    struct eviction_state now = {0};
    struct kp_error error = {0};
    const struct kp_string_map soft = map_of("memory.available", "1Gi"), grace = map_of("memory.available", "1m30s"),
                               reclaim = map_of("memory.available", "500Mi"), hard = none;
    assert_int_equal(eviction_settings_parse(&hard, false, &soft, &grace, &reclaim, &s, &error), 0);
    struct eviction_reading r[EVICTION_SIGNALS] = {[EVICTION_MEMORY] = {true, 900 * MI, 4 * GI}};
    assert_int_equal(eviction_observe(&s, &now, r, 100), s.len);
    assert_true(now.pressure[EVICTION_MEMORY_PRESSURE]); /* it is told at once, nothing is done yet */
    assert_int_equal(eviction_observe(&s, &now, r, 189), s.len);
    assert_int_equal(eviction_observe(&s, &now, r, 190), 0);
    r[EVICTION_MEMORY].available = 1200 * MI; /* over the threshold, but not by the minimum */
    assert_int_equal(eviction_observe(&s, &now, r, 200), 0);
    r[EVICTION_MEMORY].available = 1600 * MI;
    assert_int_equal(eviction_observe(&s, &now, r, 210), s.len);
    r[EVICTION_MEMORY].available = 1200 * MI;
    assert_int_equal(eviction_observe(&s, &now, r, 220), s.len);
}

static void memory_comes_before_disks(void **state)
{
    (void)state;
    struct eviction_settings s = {0};
    struct eviction_state now = {0};
    struct kp_error error = {0};
    struct kp_string_map hard = map_of("nodefs.available", "10%");
    kp_string_map_set(arena, &hard, "memory.available", "100Mi");
    assert_int_equal(eviction_settings_parse(&hard, false, &none, &none, &none, &s, &error), 0);
    struct eviction_reading r[EVICTION_SIGNALS] = {[EVICTION_MEMORY] = {true, 0, GI}, [EVICTION_NODEFS] = {true, 0, GI}};
    size_t act = eviction_observe(&s, &now, r, 1);
    assert_int_equal(s.items[act].signal, EVICTION_MEMORY);
    r[EVICTION_MEMORY].available = GI;
    act = eviction_observe(&s, &now, r, 2);
    assert_int_equal(s.items[act].signal, EVICTION_NODEFS);
    r[EVICTION_NODEFS].known = false; /* a look that failed tells nothing new */
    assert_int_equal(eviction_observe(&s, &now, r, 3), act);
}

/* ---- who goes */
static struct k8s_pod *pod_like(const char *name, int priority, const char *memory)
{
    return pod_of(arena, kp_arena_printf(arena, "{metadata: {name: %s}, spec: {priority: %d, containers: [{name: c, image: i, resources: {requests: {memory: %s, "
                                                "ephemeral-storage: 10Mi}}}]}}", name, priority, memory));
}

static void those_that_use_more_than_they_asked_for_go_first(void **state)
{
    (void)state;
    struct eviction_pod pods[] = {
        {.data = pod_like("modest", 0, "100Mi"), .memory_bytes = 50 * MI},     {.data = pod_like("greedy", 0, "100Mi"), .memory_bytes = 150 * MI},
        {.data = pod_like("important", 10, "100Mi"), .memory_bytes = 900 * MI}, {.data = pod_like("greedier", 0, "10Mi"), .memory_bytes = 140 * MI},
        {.data = pod_like("humble", -5, "100Mi"), .memory_bytes = 90 * MI},
    };
    static const char *const expected[] = {"greedier", "greedy", "important", "humble", "modest"};
    eviction_rank(EVICTION_MEMORY, pods, KP_ARRAY_LEN(pods));
    for (size_t i = 0; i < KP_ARRAY_LEN(pods); i++)
        assert_string_equal(pods[i].data->metadata->name, expected[i]);
    for (size_t i = 0; i < KP_ARRAY_LEN(pods); i++)
        pods[i].disk_bytes = kp_streq(pods[i].data->metadata->name, "modest") ? 11 * MI : 1 * MI;
    eviction_rank(EVICTION_NODEFS, pods, KP_ARRAY_LEN(pods));
    assert_string_equal(pods[0].data->metadata->name, "modest");
    eviction_rank(EVICTION_PIDS, pods, KP_ARRAY_LEN(pods));
    assert_string_equal(pods[0].data->metadata->name, "humble");
}

static int64_t uses_150(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 150 * MI;
}

static void it_is_told_in_upstreams_words(void **state)
{
    (void)state;
    const struct eviction_threshold threshold = {.signal = EVICTION_MEMORY, .hard = true, .least = {.value = 100 * MI}};
    const struct eviction_reading reading = {true, 40 * MI, GI};
    assert_string_equal(eviction_message(EVICTION_MEMORY, &threshold, &reading, pod_like("p", 0, "100Mi"), uses_150, NULL, arena),
                        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 40Mi. "
                        "Container c was using 150Mi, request is 100Mi, has larger consumption of memory. ");
    const struct eviction_threshold inodes = {.signal = EVICTION_NODEFS_INODES, .hard = true, .least = {.is_share = true, .share = 0.05}};
    const struct eviction_reading few = {true, 10, 1000};
    assert_string_equal(eviction_message(EVICTION_NODEFS_INODES, &inodes, &few, pod_like("p", 0, "1"), uses_150, NULL, arena),
                        "The node was low on resource: inodes. Threshold quantity: 50, available: 10. ");
}

/* ---- limits */
struct stored {
    int64_t container, volume;
};
static int64_t of_container(void *arg, const char *name)
{
    (void)name;
    return ((struct stored *)arg)->container;
}
static int64_t of_volume(void *arg, const char *name)
{
    (void)name;
    return ((struct stored *)arg)->volume;
}

static const char *over(const char *spec, int64_t container, int64_t volume)
{
    struct stored stored = {container, volume};
    const struct eviction_storage storage = {of_container, of_volume, &stored};
    const struct k8s_pod *pod = pod_of(arena, kp_arena_printf(arena, "{metadata: {name: p}, spec: {%s}}", spec));
    const char *why = eviction_over_limit(pod, &storage, arena);
    assert_true(eviction_has_limits(pod) || !why);
    return why ? why : "";
}

static void limits_of_local_storage_hold(void **state)
{
    (void)state;
#define LIMITED "containers: [{name: c, image: i, resources: {limits: {ephemeral-storage: 20Mi}}}]"
#define VOLUME "containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {sizeLimit: 10Mi}}]"
    assert_string_equal(over(VOLUME, 100 * MI, 10 * MI), "");
    assert_string_equal(over(VOLUME, 0, 11 * MI), "Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". ");
    assert_string_equal(over("containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 10Mi}}]", 0, 11 * MI), "");
    assert_string_equal(over(LIMITED, 20 * MI, 0), "");
    assert_string_equal(over(LIMITED, 21 * MI, 0), "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ");
    assert_string_equal(over(LIMITED ", volumes: [{name: v, emptyDir: {}}]", 15 * MI, 6 * MI),
                        "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ");
    assert_string_equal(over("containers: [{name: c, image: i, resources: {limits: {ephemeral-storage: 20Mi}}}, {name: d, image: i}]", 21 * MI, 0),
                        "Container c exceeded its local ephemeral storage limit \"20Mi\". ");
    assert_string_equal(over("containers: [{name: c, image: i}]", GI, GI), "");
}

/* ---- admission */
static void a_node_under_pressure_takes_few(void **state)
{
    (void)state;
    const bool calm[EVICTION_PRESSURES] = {false}, memory[EVICTION_PRESSURES] = {[EVICTION_MEMORY_PRESSURE] = true},
               both[EVICTION_PRESSURES] = {[EVICTION_MEMORY_PRESSURE] = true, [EVICTION_DISK_PRESSURE] = true};
    const struct k8s_pod *any = pod_of(arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}"), *asks = pod_like("p", 0, "1Mi");
    const struct k8s_pod *tolerates = pod_of(arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}], "
                                                    "tolerations: [{key: node.kubernetes.io/memory-pressure, operator: Exists, effect: NoSchedule}]}}");
    assert_null(eviction_refuses(calm, any, arena));
    assert_string_equal(eviction_refuses(memory, any, arena), "The node had condition: [MemoryPressure]. ");
    assert_null(eviction_refuses(memory, asks, arena));
    assert_null(eviction_refuses(memory, tolerates, arena));
    assert_string_equal(eviction_refuses(both, asks, arena), "The node had condition: [MemoryPressure DiskPressure]. ");
    assert_null(eviction_refuses(both, pod_like("system", 2000000000, "1Mi"), arena));
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(defaults_are_upstreams),
        T(what_is_named_replaces_the_defaults_unless_merged),
        T(faults_are_told_with_their_field),
        T(a_condition_outlives_what_made_it),
        T(a_soft_threshold_has_its_grace_and_a_minimum_to_reclaim),
        T(memory_comes_before_disks),
        T(those_that_use_more_than_they_asked_for_go_first),
        T(it_is_told_in_upstreams_words),
        T(limits_of_local_storage_hold),
        T(a_node_under_pressure_takes_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
