/* From a pod's volume to its claim and the persistent volume behind it; whose data may be removed; mount options and groups. */
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/volume/volume.h"
#include "nodeimage/kubelet/volumes/mounts.h"
#include "nodeimage/kubelet/volumes/volumes.h"
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

struct world {
    struct kp_arena *arena;
    char folder[64];
    const char *claim, *pv;
    struct kubelet_getter getter;
    struct volumes_context context;
};

static void *decode(struct world *w, const struct kp_type *type, const char *yaml)
{
    void *object = NULL;
    struct kp_error error = {0};
    if (kp_yaml_decode(type, yaml, strlen(yaml), w->arena, NULL, &object, &error) < 0)
        fail_msg("%s", error.message);
    kp_object_default(type, object, w->arena);
    return object;
}

static int get_object(void *arg, const struct kp_resource *resource, const char *ns, const char *name, void **ret, struct kp_error *error)
{
    struct world *w = arg;
    const char *yaml = resource == &k8s_persistentvolumeclaims_resource && kp_streq(name, "c") ? w->claim
                       : resource == &k8s_persistentvolumes_resource && kp_streq(name, "pv") ? w->pv
                                                                                             : NULL;
    (void)ns;
    if (!yaml)
        return kp_fail(error, KP_ENOTFOUND, "%s \"%s\" not found", resource->name, name);
    *ret = decode(w, resource->type, yaml);
    return 0;
}

static int setup(void **state)
{
    struct world *w = kp_calloc(1, sizeof(*w));
    w->arena = kp_arena_new(0);
    snprintf(w->folder, sizeof(w->folder), "/tmp/test_claims.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->getter = (struct kubelet_getter){.object = get_object, .arg = w};
    w->context = (struct volumes_context){.root_dir = w->folder, .getter = &w->getter, .arena = w->arena, .mounts = kp_strmap_new(),
                                          .local_dir = kp_arena_printf(w->arena, "%s/local", w->folder)};
    w->claim = "{metadata: {name: c, uid: cu}, spec: {volumeName: pv}, status: {phase: Bound}}";
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    volumes_mounts_free(w->context.mounts);
    int rc = kp_remove_tree(w->folder, NULL);
    kp_arena_free(w->arena);
    free(w);
    return rc;
}

static struct k8s_pod *pod_with(struct world *w, const char *more)
{
    return pod_of(w->arena, kp_arena_printf(w->arena, "{metadata: {name: p, namespace: ns, uid: u}, spec: {containers: [{name: c, image: i%s}], volumes: "
                                                      "[{name: data, persistentVolumeClaim: {claimName: c, readOnly: true}}]}}", more));
}

static void assert_says(struct world *w, const char *message)
{
    struct kp_error error = {0};
    assert_true(volumes_setup(&w->context, pod_with(w, ""), NULL, &error) < 0);
    assert_string_equal(error.message, message);
}
#define UNABLE "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: error processing PVC ns/c: "

static void claims_must_be_bound_both_ways(void **state)
{
    struct world *w = *state;
    w->claim = NULL;
    assert_says(w, UNABLE "failed to fetch PVC from API server: persistentvolumeclaims \"c\" not found");
    w->claim = "{metadata: {name: c, uid: cu}, status: {phase: Pending}}";
    assert_says(w, UNABLE "PVC is not bound");
    w->claim = "{metadata: {name: c, uid: cu, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {volumeName: pv}, status: {phase: Bound}}";
    assert_says(w, UNABLE "can't start pod because PVC is being deleted");
    w->claim = "{metadata: {name: c, uid: cu}, spec: {volumeName: pv}, status: {phase: Bound}}";
    assert_says(w, UNABLE "failed to fetch PV pv from API server: persistentvolumes \"pv\" not found");
    w->pv = "{metadata: {name: pv}, spec: {hostPath: {path: /tmp}}}";
    assert_says(w, UNABLE "found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim");
    w->pv = "{metadata: {name: pv}, spec: {hostPath: {path: /tmp}, claimRef: {uid: other}}}";
    assert_says(w, UNABLE "found PV object pv but its pv.Spec.ClaimRef.UID other does not point to claim.UID cu");
}

static void folders_of_the_host_are_where_the_volume_says(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    struct k8s_pod *pod = pod_with(w, "");
    w->pv = "{metadata: {name: pv}, spec: {hostPath: {path: /tmp, type: Directory}, claimRef: {uid: cu}}}";
    assert_null(volumes_path(&w->context, pod, "data"));
    assert_int_equal(volumes_setup(&w->context, pod, NULL, &error), 0);
    assert_string_equal(volumes_path(&w->context, pod, "data"), "/tmp");
    assert_true(volumes_read_only(&w->context, "data"));
    w->claim = NULL; /* what is there is not asked about again */
    assert_int_equal(volumes_setup(&w->context, pod, NULL, &error), 0);
}

static void volumes_are_used_as_what_they_are(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    w->pv = "{metadata: {name: pv}, spec: {volumeMode: Block, local: {path: /dev/x}, claimRef: {uid: cu}}}";
    assert_true(volumes_setup(&w->context, pod_with(w, ", volumeMounts: [{name: data, mountPath: /d}]"), NULL, &error) < 0);
    assert_non_null(strstr(error.message, "volume data has volumeMode Block, but is specified in volumeMounts"));
    w->pv = "{metadata: {name: pv}, spec: {nfs: {server: s, path: /}, claimRef: {uid: cu}}}";
    assert_says(w, "MountVolume.SetUp failed for volume \"pv\" : no volume plugin matched: this kubelet mounts persistent volumes of the kinds local, "
                   "hostPath and csi");
}

static void local_volumes_must_exist_and_reach_the_node(void **state)
{
    struct world *w = *state;
    w->pv = "{metadata: {name: pv}, spec: {local: {path: /nonexistent/x}, claimRef: {uid: cu}}}";
    assert_says(w, "MountVolume.SetUp failed for volume \"pv\" : path \"/nonexistent/x\" does not exist");
    w->context.node = decode(w, &k8s_node_type, "{metadata: {name: n1, labels: {kubernetes.io/hostname: n1}}}");
    w->pv = "{metadata: {name: pv}, spec: {local: {path: /tmp}, claimRef: {uid: cu}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: "
            "[{key: kubernetes.io/hostname, operator: In, values: [other]}]}]}}}}";
    assert_says(w, "MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms");
}

/* A PV of our provisioner that may go, with one thing changed. */
#define GOING "deletionTimestamp: '2026-01-01T00:00:00Z', "
static enum volumes_verdict verdict(struct world *w, const char *meta, const char *policy, const char *path, const char *host, const char *phase)
{
    const char *yaml = kp_arena_printf(w->arena, "{metadata: {name: pv, %s}, spec: {persistentVolumeReclaimPolicy: %s, local: {path: %s}, nodeAffinity: "
                                                 "{required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: "
                                                 "[%s]}]}]}}}, status: {phase: %s}}", meta, policy, path, host, phase);
    return volumes_local_verdict(decode(w, &k8s_persistent_volume_type, yaml), "/v", "n1");
}

static void data_goes_only_by_the_objects_own_word(void **state)
{
    struct world *w = *state;
    static const char ours[] = GOING "finalizers: [kprov.dev/local-volume]";
    assert_int_equal(verdict(w, ours, "Delete", "/v/pv", "n1", "Released"), VOLUMES_REMOVE);
    assert_int_equal(verdict(w, ours, "Retain", "/v/pv", "n1", "Released"), VOLUMES_RELEASE);
    assert_int_equal(verdict(w, "finalizers: [kprov.dev/local-volume]", "Delete", "/v/pv", "n1", "Released"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, GOING "finalizers: [other]", "Delete", "/v/pv", "n1", "Released"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, GOING "finalizers: [kprov.dev/local-volume, kubernetes.io/pv-protection]", "Delete", "/v/pv", "n1", "Released"),
                     VOLUMES_KEEP);
    assert_int_equal(verdict(w, ours, "Delete", "/v/pv", "n1", "Bound"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, ours, "Delete", "/v/other", "n1", "Released"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, ours, "Delete", "/v/../v/pv", "n1", "Released"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, ours, "Delete", "/v/pv", "m", "Released"), VOLUMES_KEEP);
    assert_int_equal(verdict(w, ours, "Delete", "/v/pv", "n1, m", "Released"), VOLUMES_KEEP);
}

static int get_going(void *arg, const char *name, struct kp_arena *arena, const struct k8s_persistent_volume **ret, struct kp_error *error)
{
    struct world *w = arg;
    (void)arena;
    if (!kp_streq(name, "pv"))
        return kp_fail(error, KP_ENOTFOUND, "no");
    *ret = decode(w, &k8s_persistent_volume_type,
                  kp_arena_printf(w->arena, "{metadata: {name: pv, resourceVersion: '7', " GOING "finalizers: [a, kprov.dev/local-volume]}, spec: "
                                            "{persistentVolumeReclaimPolicy: Delete, local: {path: %s/pv}, nodeAffinity: {required: {nodeSelectorTerms: "
                                            "[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}]}}}, status: {phase: Released}}",
                                  w->context.local_dir));
    return 0;
}

static int note_patch(void *arg, const char *name, const char *body, size_t len, struct kp_error *error)
{
    (void)name, (void)error;
    ((struct world *)arg)->pv = kp_arena_strndup(((struct world *)arg)->arena, body, len);
    return 0;
}

static void removed_are_only_folders_that_no_pod_has(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    const char *file = kp_arena_printf(w->arena, "%s/pv/sub", w->context.local_dir), *other = kp_arena_printf(w->arena, "%s/unknown", w->context.local_dir);
    const char *used = kp_arena_printf(w->arena, "%s/pods/u/volumes/kubernetes.io~local-volume/pv", w->folder);
    struct volumes_collect collect = {.root_dir = w->folder, .local_dir = w->context.local_dir, .hostname = "n1", .get = get_going, .patch = note_patch, .arg = w};
    assert_int_equal(kp_mkdir_p(file, 0755, &error), 0);
    assert_int_equal(kp_mkdir_p(other, 0755, &error), 0);
    assert_int_equal(kp_mkdir_p(used, 0755, &error), 0);
    volumes_collect_local(&collect);
    assert_true(kp_path_exists(file));
    assert_int_equal(rmdir(used), 0);
    volumes_collect_local(&collect);
    assert_false(kp_path_exists(kp_arena_printf(w->arena, "%s/pv", w->context.local_dir)));
    assert_true(kp_path_exists(other)); /* that nobody knows it is no reason */
    assert_string_equal(w->pv, "{\"metadata\":{\"resourceVersion\":\"7\",\"finalizers\":[\"a\"]}}");
}

static void volumes_without_a_folder_are_let_go_when_the_node_is_told(void **state)
{
    struct world *w = *state;
    struct volumes_collect collect = {.root_dir = w->folder, .local_dir = w->context.local_dir, .hostname = "n1", .get = get_going, .patch = note_patch, .arg = w};
    volumes_collect_local(&collect);
    assert_null(w->pv);
    collect.leaving = "../x,gone,pv";
    volumes_collect_local(&collect);
    assert_string_equal(w->pv, "{\"metadata\":{\"resourceVersion\":\"7\",\"finalizers\":[\"a\"]}}");
}

static void mount_options_become_flags(void **state)
{
    const char *good[] = {"ro", "noatime", "nosuid", "rw"}, *bad[] = {"vers=4"};
    unsigned long flags;
    struct kp_error error = {0};
    (void)state;
    assert_int_equal(volumes_mount_flags(&(struct kp_string_list){.items = good, .len = 4}, &flags, &error), 0);
    assert_int_equal(flags, MS_NOATIME | MS_NOSUID);
    assert_int_equal(volumes_mount_flags(&(struct kp_string_list){.items = bad, .len = 1}, &flags, &error), KP_EINVALID);
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void the_group_may_write_and_links_are_left_alone(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    const char *file = kp_arena_printf(w->arena, "%s/f", w->folder), *link = kp_arena_printf(w->arena, "%s/l", w->folder);
    assert_int_equal(kp_write_file(file, "x", 1, 0400, &error), 0);
    assert_int_equal(symlink("/nonexistent", link), 0);
    assert_int_equal(volumes_own(w->folder, getgid(), NULL, &error), 0);
    assert_int_equal(mode_of(file), 0660);
    assert_int_equal(mode_of(w->folder), 02770);
    assert_int_equal(chmod(file, 0400), 0);
    assert_int_equal(volumes_own(w->folder, getgid(), "OnRootMismatch", &error), 0);
    assert_int_equal(mode_of(file), 0400);
    assert_int_equal(volumes_own(w->folder, getgid(), "Always", &error), 0);
    assert_int_equal(mode_of(file), 0660);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(claims_must_be_bound_both_ways),
        T(folders_of_the_host_are_where_the_volume_says),
        T(volumes_are_used_as_what_they_are),
        T(local_volumes_must_exist_and_reach_the_node),
        T(data_goes_only_by_the_objects_own_word),
        T(removed_are_only_folders_that_no_pod_has),
        T(volumes_without_a_folder_are_let_go_when_the_node_is_told),
        T(mount_options_become_flags),
        T(the_group_may_write_and_links_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
