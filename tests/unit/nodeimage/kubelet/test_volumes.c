/* The atomic writer and what volumes contain. */
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/volumes/volumes.h"
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

static struct kp_bytes bytes(const char *s)
{
    return (struct kp_bytes){.data = (const uint8_t *)s, .len = strlen(s)};
}

static void assert_file(const char *dir, const char *name, const char *expected)
{
    char *path = kp_asprintf("%s/%s", dir, name);
    struct kp_buf buf = {0};
    if (!expected) {
        assert_false(kp_path_exists(path));
    } else {
        assert_int_equal(kp_read_file(path, 0, &buf, NULL), 0);
        assert_string_equal(buf.data ? buf.data : "", expected);
    }
    kp_buf_done(&buf);
    free(path);
}

static void writer_swaps_whole_sets_of_files(void **state)
{
    char dir[] = "/tmp/kubelet-volume-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct volumes_file first[] = {{.path = "a", .data = bytes("1"), .mode = 0644, .uid = -1},
                                   {.path = "sub/b", .data = bytes("2"), .mode = 0400, .uid = -1}};
    struct volumes_files files = {.items = first, .len = 2};
    bool changed;
    struct kp_error error = {0};
    assert_int_equal(volumes_atomic_write(dir, &files, -1, &changed, &error), 0);
    assert_true(changed);
    assert_file(dir, "a", "1");
    assert_file(dir, "sub/b", "2");
    struct stat st;
    char *path = kp_asprintf("%s/sub/b", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    free(path);
    assert_int_equal(volumes_atomic_write(dir, &files, -1, &changed, &error), 0);
    assert_false(changed);
    first[0].data = bytes("new");
    files.len = 1; /* sub goes away */
    assert_int_equal(volumes_atomic_write(dir, &files, -1, &changed, &error), 0);
    assert_true(changed);
    assert_file(dir, "a", "new");
    assert_file(dir, "sub/b", NULL);
    files.len = 0;
    assert_int_equal(volumes_atomic_write(dir, &files, -1, &changed, &error), 0);
    assert_file(dir, "a", NULL);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
}

static void paths_that_leave_the_volume_are_refused(void **state)
{
    static const char *const bad[] = {"", "/a", "..", "../a", "a/../b", "a/..", "..data"};
    static const char *const good[] = {"a", "a/b", "a..b", "a/..b/c"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_false(volumes_path_valid(bad[i]));
    for (size_t i = 0; i < KP_ARRAY_LEN(good); i++)
        assert_true(volumes_path_valid(good[i]));
}

static int config_map(void *arg, const char *ns, const char *name, const struct k8s_config_map **ret, struct kp_error *error)
{
    void *obj = NULL;
    static const char yaml[] = "{metadata: {name: conf}, data: {a: one, b: two}, binaryData: {bin: AAE=}}";
    if (!kp_streq(name, "conf"))
        return kp_fail(error, KP_ENOTFOUND, "no");
    int rc = kp_yaml_decode(&k8s_config_map_type, yaml, sizeof(yaml) - 1, arg, NULL, &obj, error);
    *ret = obj;
    return rc;
}

static int token(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s, const char **ret,
                 struct kp_error *error)
{
    *ret = "tok";
    return 0;
}

static int content(struct kp_arena *arena, const char *volume, const char *security, struct volumes_files *files, struct kp_error *error)
{
    struct kubelet_getter getter = {.config_map = config_map, .token = token, .arg = arena};
    struct volumes_context context = {.root_dir = "/none", .getter = &getter, .arena = arena};
    struct k8s_pod *pod = pod_of(arena, kp_arena_printf(arena,
        "{metadata: {name: p, namespace: ns, uid: u, labels: {b: '2', a: \"q\\\"x\"}}, spec: {securityContext: %s, containers: [{name: c, image: i}], volumes: [{name: v, %s}]}}",
        security, volume));
    return volumes_content(&context, pod, &pod->spec->volumes.items[0], files, error);
}

static const struct volumes_file *find(const struct volumes_files *files, const char *path)
{
    for (size_t i = 0; i < files->len; i++)
        if (kp_streq(files->items[i].path, path))
            return &files->items[i];
    return NULL;
}

static void config_map_volume_has_its_keys(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct volumes_files files;
    struct kp_error error = {0};
    assert_int_equal(content(arena, "configMap: {name: conf}", "{}", &files, &error), 0);
    assert_int_equal(files.len, 3);
    assert_int_equal(find(&files, "bin")->data.len, 2);
    assert_int_equal(content(arena, "configMap: {name: conf, defaultMode: 256, items: [{key: a, path: x/y, mode: 288}]}", "{fsGroup: 5}",
                             &files, &error), 0);
    assert_int_equal(files.len, 1);
    assert_int_equal(files.items[0].mode, 0440);
    assert_true(content(arena, "configMap: {name: conf, items: [{key: zz, path: x}]}", "{}", &files, &error) < 0);
    assert_string_equal(error.message, "references non-existent config key: zz");
    assert_int_equal(content(arena, "configMap: {name: none, optional: true}", "{}", &files, &error), 0);
    assert_int_equal(files.len, 0);
    kp_arena_free(arena);
}

static void projected_volume_joins_its_sources(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct volumes_files files;
    struct kp_error error = {0};
    static const char volume[] =
        "projected: {sources: [{serviceAccountToken: {path: token}}, {configMap: {name: conf, items: [{key: a, path: ca.crt}]}}, "
        "{downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}, {path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}";
    assert_int_equal(content(arena, volume, "{runAsUser: 7}", &files, &error), 0);
    assert_int_equal(files.len, 4);
    assert_int_equal(find(&files, "token")->mode, 0600);
    assert_int_equal(find(&files, "token")->uid, 7);
    assert_memory_equal(find(&files, "ns")->data.data, "ns", 2);
    static const char labels[] = "a=\"q\\\"x\"\nb=\"2\"";
    assert_int_equal(find(&files, "labels")->data.len, sizeof(labels) - 1);
    assert_memory_equal(find(&files, "labels")->data.data, labels, sizeof(labels) - 1);
    assert_int_equal(content(arena, volume, "{}", &files, &error), 0);
    assert_int_equal(find(&files, "token")->mode, 0644);
    kp_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer_swaps_whole_sets_of_files),
        cmocka_unit_test(paths_that_leave_the_volume_are_refused),
        cmocka_unit_test(config_map_volume_has_its_keys),
        cmocka_unit_test(projected_volume_joins_its_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
