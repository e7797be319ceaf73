/* The kubelet's side of CSI against a driver that is a gRPC server in this process, and the parts that decide. */
#include <sys/stat.h>
#include <unistd.h>

#include "lib/grpc/grpc.h"
#include "lib/loop/loop.h"
#include "nodeimage/kubelet/csi/csi_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"
#include "proto/csi.pb-c.h"
#include "proto/pluginregistration.pb-c.h"
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

#define DRIVER "test.csi.dev"

struct world {
    char folder[64];
    char *socket;
    struct loop *loop;
    struct pool *pool;
    struct grpc_server *server;
    struct csi *csi;
    struct kp_arena *arena;
    const char *driver_yaml; /* the CSIDriver object, or NULL */
    /* What the driver saw and is to answer. */
    int stages, unstages, publishes, unpublishes, notified;
    bool registered, can_stage, can_multi;
    int fail_publish; /* a gRPC status */
    char last[2048];  /* of a publication */
};

static int get_info(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    static char *versions[] = {(char *)(uintptr_t)"1.0.0"};
    Pluginregistration__PluginInfo *m = response;
    (void)context, (void)request, (void)error;
    m->type = (char *)(uintptr_t)"CSIPlugin";
    m->name = (char *)(uintptr_t)DRIVER;
    m->n_supported_versions = 1;
    m->supported_versions = versions;
    return 0;
}

static int notify(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct world *w = context->server_arg;
    const Pluginregistration__RegistrationStatus *m = request;
    (void)response, (void)error;
    w->notified++;
    w->registered = m->plugin_registered;
    return 0;
}

static int node_info(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    Csi__V1__NodeGetInfoResponse *m = response;
    (void)context, (void)request, (void)error;
    m->node_id = (char *)(uintptr_t)"n-1";
    m->max_volumes_per_node = 7;
    return 0;
}

static int capabilities(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct world *w = context->server_arg;
    Csi__V1__NodeGetCapabilitiesResponse *m = response;
    (void)request, (void)error;
    m->capabilities = KP_NEW_ARRAY(context->arena, Csi__V1__NodeServiceCapability *, 2);
    for (int i = 0; i < 2; i++) {
        if (!(i == 0 ? w->can_stage : w->can_multi))
            continue;
        Csi__V1__NodeServiceCapability *one = KP_NEW(context->arena, Csi__V1__NodeServiceCapability);
        csi__v1__node_service_capability__init(one);
        one->rpc = KP_NEW(context->arena, Csi__V1__NodeServiceCapability__RPC);
        csi__v1__node_service_capability__rpc__init(one->rpc);
        one->type_case = CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC;
        one->rpc->type = i == 0 ? CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME
                                : CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER;
        m->capabilities[m->n_capabilities++] = one;
    }
    return 0;
}

static int stage(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct world *w = context->server_arg;
    const Csi__V1__NodeStageVolumeRequest *m = request;
    (void)response;
    w->stages++;
    return kp_path_exists(m->staging_target_path) ? 0 : grpc_fail(error, GRPC_INVALID_ARGUMENT, "no staging path");
}

static int unstage(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    (void)request, (void)response, (void)error;
    ((struct world *)context->server_arg)->unstages++;
    return 0;
}

static int publish(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct world *w = context->server_arg;
    const Csi__V1__NodePublishVolumeRequest *m = request;
    (void)response;
    w->publishes++;
    int n = snprintf(w->last, sizeof(w->last), "mode=%d ro=%d fs=%s staged=%d", m->volume_capability->access_mode->mode, m->readonly,
                     m->volume_capability->mount->fs_type, *m->staging_target_path != 0);
    for (size_t i = 0; i < m->n_volume_context; i++)
        n += snprintf(w->last + n, sizeof(w->last) - (size_t)n, " %s=%s", m->volume_context[i]->key, m->volume_context[i]->value);
    for (size_t i = 0; i < m->n_secrets; i++)
        n += snprintf(w->last + n, sizeof(w->last) - (size_t)n, " secret:%s=%s", m->secrets[i]->key, m->secrets[i]->value);
    if (w->fail_publish)
        return grpc_fail(error, (enum grpc_status)w->fail_publish, "the disk is on fire");
    return kp_mkdir_p(m->target_path, 0755, error);
}

static int unpublish(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    const Csi__V1__NodeUnpublishVolumeRequest *m = request;
    (void)response;
    ((struct world *)context->server_arg)->unpublishes++;
    return kp_remove_tree(m->target_path, error);
}

#define UNARY(path_, input_, output_, fn)                                                                              \
    {.path = path_, .kind = GRPC_UNARY, .input = &input_##__descriptor, .output = &output_##__descriptor, .unary = fn}
static const struct grpc_method methods[] = {
    UNARY("/pluginregistration.Registration/GetInfo", pluginregistration__info_request, pluginregistration__plugin_info, get_info),
    UNARY("/pluginregistration.Registration/NotifyRegistrationStatus", pluginregistration__registration_status,
          pluginregistration__registration_status_response, notify),
    UNARY("/csi.v1.Node/NodeGetInfo", csi__v1__node_get_info_request, csi__v1__node_get_info_response, node_info),
    UNARY("/csi.v1.Node/NodeGetCapabilities", csi__v1__node_get_capabilities_request, csi__v1__node_get_capabilities_response, capabilities),
    UNARY("/csi.v1.Node/NodeStageVolume", csi__v1__node_stage_volume_request, csi__v1__node_stage_volume_response, stage),
    UNARY("/csi.v1.Node/NodeUnstageVolume", csi__v1__node_unstage_volume_request, csi__v1__node_unstage_volume_response, unstage),
    UNARY("/csi.v1.Node/NodePublishVolume", csi__v1__node_publish_volume_request, csi__v1__node_publish_volume_response, publish),
    UNARY("/csi.v1.Node/NodeUnpublishVolume", csi__v1__node_unpublish_volume_request, csi__v1__node_unpublish_volume_response, unpublish),
    {0}};
static const struct grpc_method *const tables[] = {methods, NULL};

static void serve(struct world *w)
{
    struct kp_error error = {0};
    const struct grpc_server_config config = {.http = {.unix_path = w->socket, .pool = w->pool}, .methods = tables, .arg = w};
    if (grpc_server_new(w->loop, &config, &w->server, &error) < 0)
        fail_msg("%s", error.message);
}

static struct csi *new_csi(struct world *w)
{
    return csi_new(&(struct csi_config){.loop = w->loop, .root_dir = w->folder, .node_name = "node-1"});
}

static int setup(void **state)
{
    struct kp_error error = {0};
    struct world *w = kp_calloc(1, sizeof(*w));
    kp_log_init("test_csi", KP_LOG_ERROR);
    snprintf(w->folder, sizeof(w->folder), "/tmp/test_csi.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    char *registry = kp_asprintf("%s/plugins_registry", w->folder);
    assert_int_equal(kp_mkdir_p(registry, 0755, &error), 0);
    w->socket = kp_asprintf("%s/%s-reg.sock", registry, DRIVER);
    free(registry);
    w->arena = kp_arena_new(0);
    w->loop = loop_new();
    w->pool = pool_new("driver", 4, 100);
    assert_int_equal(loop_start(w->loop, "test-loop", &error), 0);
    w->can_stage = true;
    w->csi = new_csi(w);
    serve(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    csi_free(w->csi);
    grpc_server_free(w->server);
    pool_free(w->pool);
    loop_free(w->loop);
    kp_arena_free(w->arena);
    int rc = kp_remove_tree(w->folder, NULL);
    free(w->socket);
    free(w);
    return rc;
}

static int get_object(void *arg, const struct kp_resource *resource, const char *ns, const char *name, void **ret, struct kp_error *error)
{
    struct world *w = arg;
    (void)ns;
    if (resource != &k8s_csidrivers_resource || !w->driver_yaml || !kp_streq(name, DRIVER))
        return kp_fail(error, KP_ENOTFOUND, "no");
    int rc = kp_yaml_decode(resource->type, w->driver_yaml, strlen(w->driver_yaml), w->arena, NULL, ret, error);
    if (rc == 0)
        kp_object_default(resource->type, *ret, w->arena);
    return rc;
}

static int get_secret(void *arg, const char *ns, const char *name, const struct k8s_secret **ret, struct kp_error *error)
{
    static const char yaml[] = "{metadata: {name: key}, data: {user: YWRtaW4=}}";
    void *object = NULL;
    if (!kp_streq(ns, "vault") || !kp_streq(name, "key"))
        return kp_fail(error, KP_ENOTFOUND, "secret \"%s\" not found", name);
    int rc = kp_yaml_decode(&k8s_secret_type, yaml, sizeof(yaml) - 1, ((struct world *)arg)->arena, NULL, &object, error);
    *ret = object;
    return rc;
}

static int get_token(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s, const char **ret, struct kp_error *error)
{
    (void)pod, (void)error;
    *ret = kp_arena_printf(((struct world *)arg)->arena, "token-for-%s-%lld", audience, (long long)expiration_s);
    return 0;
}

static int64_t token_expiry(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s)
{
    (void)arg, (void)pod, (void)audience, (void)expiration_s;
    return 1700000000;
}

static struct kubelet_getter getter_of(struct world *w)
{
    return (struct kubelet_getter){.secret = get_secret, .token = get_token, .token_expiry = token_expiry, .object = get_object, .arg = w};
}

static struct k8s_pod *pod_with_uid(struct world *w, const char *uid)
{
    return pod_of(w->arena, kp_arena_printf(w->arena, "{metadata: {name: p, namespace: ns, uid: %s}, spec: {serviceAccountName: sa, containers: "
                                                      "[{name: c, image: i}]}}", uid));
}

static struct k8s_persistent_volume *volume_of(struct world *w, const char *csi)
{
    void *pv = NULL;
    struct kp_error error = {0};
    const char *yaml = kp_arena_printf(w->arena, "{metadata: {name: pv-1}, spec: {accessModes: [ReadWriteOnce], csi: {driver: %s, volumeHandle: h/1, %s}}}",
                                       DRIVER, csi);
    if (kp_yaml_decode(&k8s_persistent_volume_type, yaml, strlen(yaml), w->arena, NULL, &pv, &error) < 0)
        fail_msg("%s", error.message);
    return pv;
}

static void assert_mounts(struct world *w, const struct csi_volume *volume)
{
    struct kubelet_getter getter = getter_of(w);
    const char *path;
    bool republish;
    struct kp_error error = {0};
    if (csi_mount(w->csi, volume, &getter, w->arena, &path, &republish, &error) < 0)
        fail_msg("%s", error.message);
    assert_true(kp_path_exists(path));
}

static void assert_refused(struct world *w, const struct csi_volume *volume, const char *message)
{
    struct kubelet_getter getter = getter_of(w);
    const char *path;
    bool republish;
    struct kp_error error = {0};
    assert_true(csi_mount(w->csi, volume, &getter, w->arena, &path, &republish, &error) < 0);
    assert_string_equal(error.message, message);
}

static void drivers_come_and_go_with_their_sockets(void **state)
{
    struct world *w = *state;
    assert_int_equal(csi_look(w->csi), -1);
    assert_true(csi_registered(w->csi, DRIVER));
    assert_true(w->registered);
    assert_int_equal(csi_look(w->csi), -1);
    assert_int_equal(w->notified, 1); /* once is enough */
    grpc_server_free(KP_TAKE(w->server));
    unlink(w->socket);
    assert_int_equal(csi_look(w->csi), -1);
    assert_false(csi_registered(w->csi, DRIVER));
    serve(w);
    assert_int_equal(csi_look(w->csi), -1);
    assert_true(csi_registered(w->csi, DRIVER));
}

static void a_socket_that_does_not_answer_is_tried_again(void **state)
{
    struct world *w = *state;
    grpc_server_free(KP_TAKE(w->server));
    unlink(w->socket);
    FILE *file = fopen(w->socket, "w"); /* no socket at all is passed over */
    assert_non_null(file);
    fclose(file);
    assert_int_equal(csi_look(w->csi), -1);
}

static void the_last_pod_unstages(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    struct k8s_persistent_volume *pv = volume_of(w, "fsType: ext4");
    struct csi_volume first = {.pod = pod_with_uid(w, "u1"), .name = "pv-1", .persistent = pv};
    struct csi_volume second = {.pod = pod_with_uid(w, "u2"), .name = "pv-1", .persistent = pv};
    csi_look(w->csi);
    assert_mounts(w, &first);
    assert_mounts(w, &second);
    assert_int_equal(w->stages, 1);
    assert_int_equal(w->publishes, 2);
    assert_string_equal(w->last, "mode=1 ro=0 fs=ext4 staged=1");
    assert_int_equal(csi_unmount_pod(w->csi, "u1", &error), 0);
    assert_int_equal(w->unstages, 0);
    assert_int_equal(csi_unmount_pod(w->csi, "u2", &error), 0);
    assert_int_equal(w->unstages, 1);
    assert_int_equal(w->unpublishes, 2);
    assert_false(kp_path_exists(csi_stage_folder(w->folder, DRIVER, "h/1", w->arena)));
    assert_false(kp_path_exists(csi_pod_folder(w->folder, "u1", "pv-1", w->arena)));
    assert_int_equal(csi_unmount_pod(w->csi, "u2", &error), 0); /* nothing is left to do */
    assert_int_equal(w->unpublishes, 2);
}

static void a_new_kubelet_takes_down_what_the_old_one_mounted(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    struct csi_volume volume = {.pod = pod_with_uid(w, "u1"), .name = "pv-1", .persistent = volume_of(w, "fsType: ext4")};
    csi_look(w->csi);
    assert_mounts(w, &volume);
    csi_free(w->csi);
    w->csi = new_csi(w);
    assert_true(csi_unmount_pod(w->csi, "u1", &error) < 0); /* its driver is not known yet */
    assert_non_null(strstr(error.message, "driver name " DRIVER " not found in the list of registered CSI drivers"));
    csi_look(w->csi);
    assert_int_equal(csi_unmount_pod(w->csi, "u1", &error), 0);
    assert_int_equal(w->unpublishes, 1);
    assert_int_equal(w->unstages, 1);
}

static void what_was_staged_for_nobody_is_collected(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    struct csi_data data = {.handle = "old", .driver = DRIVER, .attachment = "csi-x"};
    const char *folder = csi_stage_folder(w->folder, DRIVER, "old", w->arena);
    struct kp_string_list in_use;
    assert_int_equal(csi_data_save(folder, &data, &error), 0);
    assert_int_equal(kp_mkdir_p(kp_arena_printf(w->arena, "%s/globalmount", folder), 0755, &error), 0);
    csi_in_use(w->csi, w->arena, &in_use);
    assert_int_equal(in_use.len, 1);
    assert_string_equal(in_use.items[0], "kubernetes.io/csi/" DRIVER "^old");
    csi_collect(w->csi); /* nobody can be asked yet */
    assert_true(kp_path_exists(folder));
    csi_look(w->csi);
    csi_collect(w->csi);
    assert_int_equal(w->unstages, 1);
    assert_false(kp_path_exists(folder));
    csi_in_use(w->csi, w->arena, &in_use);
    assert_int_equal(in_use.len, 0);
}

static void failures_are_told_as_upstream_does(void **state)
{
    struct world *w = *state;
    struct kp_error error = {0};
    struct csi_volume volume = {.pod = pod_with_uid(w, "u1"), .name = "pv-1", .persistent = volume_of(w, "readOnly: false")};
    assert_refused(w, &volume, "MountVolume.MountDevice failed for volume \"pv-1\" : kubernetes.io/csi: attacher.MountDevice failed to create "
                               "newCsiDriverClient: driver name " DRIVER " not found in the list of registered CSI drivers");
    csi_look(w->csi);
    w->fail_publish = GRPC_INTERNAL;
    assert_refused(w, &volume, "MountVolume.SetUp failed for volume \"pv-1\" : rpc error: code = Internal desc = the disk is on fire");
    w->fail_publish = 0;
    assert_mounts(w, &volume);
    assert_int_equal(w->stages, 1);
    assert_int_equal(csi_unmount_pod(w->csi, "u1", &error), 0);
}

static void drivers_hear_of_the_pod_when_they_ask(void **state)
{
    struct world *w = *state;
    struct csi_volume volume = {.pod = pod_with_uid(w, "u1"), .name = "pv-1",
                                .persistent = volume_of(w, "volumeAttributes: {a: b}, nodePublishSecretRef: {name: key, namespace: vault}")};
    csi_look(w->csi);
    w->driver_yaml = "{metadata: {name: " DRIVER "}, spec: {podInfoOnMount: true, tokenRequests: [{audience: aud}]}}";
    w->can_stage = false;
    assert_mounts(w, &volume);
    assert_string_equal(w->last, "mode=1 ro=0 fs= staged=0 a=b csi.storage.k8s.io/ephemeral=false csi.storage.k8s.io/pod.name=p "
                                 "csi.storage.k8s.io/pod.namespace=ns csi.storage.k8s.io/pod.uid=u1 csi.storage.k8s.io/serviceAccount.name=sa "
                                 "csi.storage.k8s.io/serviceAccount.tokens={\"aud\":{\"expirationTimestamp\":\"2023-11-14T22:13:20Z\","
                                 "\"token\":\"token-for-aud-3600\"}} secret:user=admin");
    assert_int_equal(w->stages, 0);
}

static void volumes_in_pods_need_a_driver_that_takes_them(void **state)
{
    struct world *w = *state;
    struct k8s_csi_volume_source source = {.driver = DRIVER};
    struct csi_volume volume = {.pod = pod_with_uid(w, "u1"), .name = "scratch", .ephemeral = &source};
    csi_look(w->csi);
    assert_refused(w, &volume, "MountVolume.SetUp failed for volume \"scratch\" : volume mode \"Ephemeral\" not supported by driver " DRIVER
                               " (no CSIDriver object)");
    w->driver_yaml = "{metadata: {name: " DRIVER "}, spec: {attachRequired: false}}";
    assert_refused(w, &volume, "MountVolume.SetUp failed for volume \"scratch\" : volume mode \"Ephemeral\" not supported by driver " DRIVER
                               " (only supports [\"Persistent\"])");
    w->driver_yaml = "{metadata: {name: " DRIVER "}, spec: {volumeLifecycleModes: [Ephemeral]}}";
    assert_mounts(w, &volume);
    assert_int_equal(w->stages, 0); /* they are never staged */
}

static void access_modes_follow_what_the_driver_can(void **state)
{
    static const struct {
        const char *mode;
        int plain, capable;
    } cases[] = {{"ReadWriteOnce", 1, 7}, {"ReadOnlyMany", 3, 3}, {"ReadWriteMany", 5, 5}, {"ReadWriteOncePod", 1, 6}, {"x", 0, 0}};
    (void)state;
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        assert_int_equal(csi_access_mode(cases[i].mode, false), cases[i].plain);
        assert_int_equal(csi_access_mode(cases[i].mode, true), cases[i].capable);
    }
}

static void names_are_those_of_upstream(void **state)
{
    struct world *w = *state;
    assert_string_equal(csi_attachment_name("vol", "drv", "node", w->arena), /* sha256 of "voldrvnode" */
                        "csi-75c705103da62dcfbf1148483950b24857cb1ef40a66c9b95b65683f00dbc90a");
}

static void what_is_noted_is_read_again(void **state)
{
    struct world *w = *state;
    struct csi_data data = {.spec_name = "pv", .handle = "h\"1", .driver = "d", .node = "n", .attachment = "csi-1", .lifecycle = "Persistent", .attaching = true};
    struct csi_data read;
    struct kp_error error = {0};
    struct kp_buf text = {0};
    csi_data_format(&data, &text);
    assert_int_equal(csi_data_parse(text.data, text.len, w->arena, &read, &error), 0);
    assert_string_equal(read.handle, "h\"1");
    assert_string_equal(read.attachment, "csi-1");
    assert_true(read.attaching);
    static const char upstream[] = "{\"attachmentID\":\"csi-2\",\"driverName\":\"d\",\"nodeName\":\"n\",\"specVolID\":\"pv\",\"volumeHandle\":\"h\","
                                   "\"volumeLifecycleMode\":\"Persistent\",\"seLinuxMountContext\":\"\"}";
    assert_int_equal(csi_data_parse(upstream, sizeof(upstream) - 1, w->arena, &read, &error), 0);
    assert_false(read.attaching);
    static const char *const bad[] = {"", "[]", "{}", "{\"driverName\":\"../..\",\"volumeHandle\":\"h\"}", "{\"driverName\":\"d\"}"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_true(csi_data_parse(bad[i], strlen(bad[i]), w->arena, &read, &error) < 0);
    kp_buf_done(&text);
}

static void plugins_of_other_kinds_are_refused(void **state)
{
    struct world *w = *state;
    const char *versions[] = {"0.3.0", "1.2.0"};
    struct csi_plugin_info info = {.type = "CSIPlugin", .name = "d", .versions = {.items = versions, .len = 2}};
    assert_null(csi_plugin_refuse(&info, w->arena));
    info.versions.len = 1;
    assert_non_null(csi_plugin_refuse(&info, w->arena));
    info.type = "DevicePlugin";
    assert_string_equal(csi_plugin_refuse(&info, w->arena), "no handler registered for plugin type: DevicePlugin");
}

static void the_csinode_lists_each_driver_once(void **state)
{
    struct world *w = *state;
    struct k8s_csi_node *node = KP_OBJECT_NEW(w->arena, k8s_csi_node);
    struct csi_node_info info = {.node_id = "i-1", .volumes_max = 25};
    kp_string_map_set(w->arena, &info.topology, "topology.d/zone", "z1");
    assert_true(csi_node_change(node, "d", &info, w->arena));
    assert_false(csi_node_change(node, "d", &info, w->arena));
    assert_int_equal(node->spec->drivers.items[0].allocatable->count, 25);
    assert_string_equal(node->spec->drivers.items[0].topology_keys.items[0], "topology.d/zone");
    info.volumes_max = 0;
    assert_true(csi_node_change(node, "d", &info, w->arena));
    assert_null(node->spec->drivers.items[0].allocatable);
    assert_int_equal(node->spec->drivers.len, 1);
    assert_true(csi_node_change(node, "d", NULL, w->arena));
    assert_false(csi_node_change(node, "d", NULL, w->arena));
    assert_int_equal(node->spec->drivers.len, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(drivers_come_and_go_with_their_sockets),
        T(a_socket_that_does_not_answer_is_tried_again),
        T(the_last_pod_unstages),
        T(a_new_kubelet_takes_down_what_the_old_one_mounted),
        T(what_was_staged_for_nobody_is_collected),
        T(failures_are_told_as_upstream_does),
        T(drivers_hear_of_the_pod_when_they_ask),
        T(volumes_in_pods_need_a_driver_that_takes_them),
        T(access_modes_follow_what_the_driver_can),
        T(names_are_those_of_upstream),
        T(what_is_noted_is_read_again),
        T(plugins_of_other_kinds_are_refused),
        T(the_csinode_lists_each_driver_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
