/* The client of CSI drivers and of those that register them: one function a call. */
#include "lib/grpc/grpc.h"
#include "nodeimage/kubelet/csi/csi_internal.h"
#include "proto/csi.pb-c.h"
#include "proto/pluginregistration.pb-c.h"

#define NODE "/csi.v1.Node/"
#define REGISTRATION "/pluginregistration.Registration/"
#define REGISTRATION_TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_MS 10000

/* The codes' names as gRPC for Go prints them: users know the messages by them. */
static const char *status_word(enum grpc_status status)
{
    static const char *const words[] = {
        "OK",           "Canceled",          "Unknown",          "InvalidArgument",    "DeadlineExceeded", "NotFound",
        "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",         "OutOfRange",
        "Unimplemented", "Internal",         "Unavailable",       "DataLoss",           "Unauthenticated"};
    return (size_t)status < KP_ARRAY_LEN(words) ? words[status] : "Unknown";
}

/* As upstream sees it: with these the call may still be under way, or was carried out though the answer was lost. */
static bool is_final(enum grpc_status status)
{
    return status != GRPC_CANCELLED && status != GRPC_DEADLINE_EXCEEDED && status != GRPC_UNAVAILABLE &&
           status != GRPC_RESOURCE_EXHAUSTED && status != GRPC_ABORTED;
}

static int call(struct grpc_channel *channel, const char *path, const void *request, const ProtobufCMessageDescriptor *type,
                struct kp_arena *arena, void *ret_response, bool *ret_final, struct kp_error *error)
{
    enum grpc_status status = GRPC_UNKNOWN;
    struct grpc_call_options options = {.ret_status = &status};
    struct kp_error inner = {0};
    ProtobufCMessage *response = NULL;
    int rc = grpc_call(channel, path, request, type, &options, arena, &response, &inner);
    if (ret_final)
        *ret_final = rc == 0 || is_final(status);
    if (rc < 0)
        return kp_fail(error, rc, "rpc error: code = %s desc = %s", status_word(status), inner.message);
    memcpy(ret_response, &response, sizeof(response)); /* the caller's pointer is of the message's own type */
    return 0;
}

static int channel_to(struct loop *loop, const char *socket, int64_t timeout_ms, struct grpc_channel **ret, struct kp_error *error)
{
    const char *path = kp_starts_with(socket, "unix://") ? socket + strlen("unix://") : socket;
    KP_AUTO_FREE char *url = kp_asprintf("unix:%s", path);
    const char *endpoints[] = {url};
    struct grpc_channel_config config = {
        .endpoints = endpoints, .endpoint_count = 1, .connect_timeout_ms = CONNECT_TIMEOUT_MS, .call_timeout_ms = timeout_ms};
    return grpc_channel_new(loop, &config, ret, error);
}

struct csi_driver *csi_driver_new(struct loop *loop, const char *name, const char *endpoint, struct kp_error *error)
{
    struct csi_driver *driver = kp_calloc(1, sizeof(*driver));
    driver->refs = 1;
    driver->name = kp_strdup(name);
    if (channel_to(loop, endpoint, CSI_CALL_TIMEOUT_MS, &driver->channel, error) == 0)
        return driver;
    csi_driver_unref(driver);
    return NULL;
}

void csi_driver_unref(struct csi_driver *driver)
{
    if (!driver || __atomic_sub_fetch(&driver->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    grpc_channel_free(driver->channel);
    free(driver->name);
    free(driver);
}

bool csi_driver_can(const struct csi_driver *driver, enum csi_capability capability)
{
    return __atomic_load_n(&driver->capabilities, __ATOMIC_ACQUIRE) & 1u << capability;
}

static char *str(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

/* Every map has an entry type of its own, all of one layout. */
#define WRITE_MAP(arena, message, field, map, type, init_fn)                                                           \
    do {                                                                                                               \
        (message)->n_##field = (map)->len;                                                                             \
        (message)->field = KP_NEW_ARRAY((arena), type *, (map)->len + 1);                                              \
        for (size_t i_ = 0; i_ < (map)->len; i_++) {                                                                   \
            (message)->field[i_] = KP_NEW((arena), type);                                                              \
            init_fn((message)->field[i_]);                                                                             \
            (message)->field[i_]->key = str((map)->items[i_].key);                                                     \
            (message)->field[i_]->value = str((map)->items[i_].value);                                                 \
        }                                                                                                              \
    } while (0)

int csi_call_info(struct csi_driver *driver, struct kp_arena *arena, struct csi_node_info *ret, struct kp_error *error)
{
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    Csi__V1__NodeGetInfoResponse *response = NULL;
    int rc = call(driver->channel, NODE "NodeGetInfo", &request, &csi__v1__node_get_info_response__descriptor, arena, &response, NULL, error);
    if (rc < 0)
        return rc;
    *ret = (struct csi_node_info){.node_id = response->node_id, .volumes_max = response->max_volumes_per_node};
    const Csi__V1__Topology *topology = response->accessible_topology;
    for (size_t i = 0; topology && i < topology->n_segments; i++)
        kp_string_map_set(arena, &ret->topology, topology->segments[i]->key, topology->segments[i]->value);
    return 0;
}

int csi_call_capabilities(struct csi_driver *driver, struct kp_error *error)
{
    if (__atomic_load_n(&driver->capabilities_known, __ATOMIC_ACQUIRE))
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Csi__V1__NodeGetCapabilitiesRequest request = CSI__V1__NODE_GET_CAPABILITIES_REQUEST__INIT;
    Csi__V1__NodeGetCapabilitiesResponse *response = NULL;
    int rc = call(driver->channel, NODE "NodeGetCapabilities", &request, &csi__v1__node_get_capabilities_response__descriptor, arena,
                  &response, NULL, error);
    if (rc < 0)
        return rc;
    unsigned bits = 0;
    for (size_t i = 0; i < response->n_capabilities; i++) {
        const Csi__V1__NodeServiceCapability *one = response->capabilities[i];
        bool known = one->type_case == CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC && (unsigned)one->rpc->type < 32;
        bits |= known ? 1u << (unsigned)one->rpc->type : 0;
    }
    __atomic_store_n(&driver->capabilities, bits, __ATOMIC_RELEASE);
    __atomic_store_n(&driver->capabilities_known, true, __ATOMIC_RELEASE);
    return 0;
}

int csi_access_mode(const char *mode, bool capable)
{
    if (kp_streq(mode, "ReadOnlyMany"))
        return CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY;
    if (kp_streq(mode, "ReadWriteMany"))
        return CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
    if (kp_streq(mode, "ReadWriteOnce"))
        return capable ? CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER
                       : CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    if (kp_streq(mode, "ReadWriteOncePod"))
        return capable ? CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER
                       : CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    return CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__UNKNOWN;
}

static Csi__V1__VolumeCapability *write_capability(const struct csi_driver *driver, const struct csi_request *request, struct kp_arena *arena)
{
    Csi__V1__VolumeCapability *m = KP_NEW(arena, Csi__V1__VolumeCapability);
    Csi__V1__VolumeCapability__MountVolume *mount = KP_NEW(arena, Csi__V1__VolumeCapability__MountVolume);
    Csi__V1__VolumeCapability__AccessMode *access = KP_NEW(arena, Csi__V1__VolumeCapability__AccessMode);
    csi__v1__volume_capability__init(m);
    csi__v1__volume_capability__mount_volume__init(mount);
    csi__v1__volume_capability__access_mode__init(access);
    access->mode = (Csi__V1__VolumeCapability__AccessMode__Mode)csi_access_mode(request->access_mode,
                                                                               csi_driver_can(driver, CSI_CAN_MULTI_WRITE));
    mount->fs_type = str(request->fs_type);
    mount->volume_mount_group = str(request->mount_group);
    mount->n_mount_flags = request->mount_flags.len;
    mount->mount_flags = (char **)(uintptr_t)request->mount_flags.items;
    m->access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    m->mount = mount;
    m->access_mode = access;
    return m;
}

int csi_call_stage(struct csi_driver *driver, const struct csi_request *request, bool *ret_final, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Csi__V1__NodeStageVolumeRequest m = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    m.volume_id = str(request->handle);
    m.staging_target_path = str(request->staging_path);
    m.volume_capability = write_capability(driver, request, arena);
    WRITE_MAP(arena, &m, publish_context, &request->publish_context, Csi__V1__NodeStageVolumeRequest__PublishContextEntry,
              csi__v1__node_stage_volume_request__publish_context_entry__init);
    WRITE_MAP(arena, &m, secrets, &request->secrets, Csi__V1__NodeStageVolumeRequest__SecretsEntry,
              csi__v1__node_stage_volume_request__secrets_entry__init);
    WRITE_MAP(arena, &m, volume_context, &request->volume_context, Csi__V1__NodeStageVolumeRequest__VolumeContextEntry,
              csi__v1__node_stage_volume_request__volume_context_entry__init);
    return call(driver->channel, NODE "NodeStageVolume", &m, &csi__v1__node_stage_volume_response__descriptor, arena, &response, ret_final,
                error);
}

int csi_call_publish(struct csi_driver *driver, const struct csi_request *request, bool *ret_final, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Csi__V1__NodePublishVolumeRequest m = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    m.volume_id = str(request->handle);
    m.staging_target_path = str(request->staging_path);
    m.target_path = str(request->target_path);
    m.readonly = request->read_only;
    m.volume_capability = write_capability(driver, request, arena);
    WRITE_MAP(arena, &m, publish_context, &request->publish_context, Csi__V1__NodePublishVolumeRequest__PublishContextEntry,
              csi__v1__node_publish_volume_request__publish_context_entry__init);
    WRITE_MAP(arena, &m, secrets, &request->secrets, Csi__V1__NodePublishVolumeRequest__SecretsEntry,
              csi__v1__node_publish_volume_request__secrets_entry__init);
    WRITE_MAP(arena, &m, volume_context, &request->volume_context, Csi__V1__NodePublishVolumeRequest__VolumeContextEntry,
              csi__v1__node_publish_volume_request__volume_context_entry__init);
    return call(driver->channel, NODE "NodePublishVolume", &m, &csi__v1__node_publish_volume_response__descriptor, arena, &response,
                ret_final, error);
}

int csi_call_unpublish(struct csi_driver *driver, const char *handle, const char *target_path, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Csi__V1__NodeUnpublishVolumeRequest m = CSI__V1__NODE_UNPUBLISH_VOLUME_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    m.volume_id = str(handle);
    m.target_path = str(target_path);
    return call(driver->channel, NODE "NodeUnpublishVolume", &m, &csi__v1__node_unpublish_volume_response__descriptor, arena, &response,
                NULL, error);
}

int csi_call_unstage(struct csi_driver *driver, const char *handle, const char *staging_path, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Csi__V1__NodeUnstageVolumeRequest m = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    m.volume_id = str(handle);
    m.staging_target_path = str(staging_path);
    return call(driver->channel, NODE "NodeUnstageVolume", &m, &csi__v1__node_unstage_volume_response__descriptor, arena, &response, NULL,
                error);
}

int csi_call_plugin_info(struct loop *loop, const char *socket, struct kp_arena *arena, struct csi_plugin_info *ret, struct kp_error *error)
{
    KP_AUTO(grpc_channel_free) struct grpc_channel *channel = NULL;
    Pluginregistration__InfoRequest request = PLUGINREGISTRATION__INFO_REQUEST__INIT;
    Pluginregistration__PluginInfo *response = NULL;
    int rc = channel_to(loop, socket, REGISTRATION_TIMEOUT_MS, &channel, error);
    if (rc == 0)
        rc = call(channel, REGISTRATION "GetInfo", &request, &pluginregistration__plugin_info__descriptor, arena, &response, NULL, error);
    if (rc < 0)
        return rc;
    *ret = (struct csi_plugin_info){.type = response->type, .name = response->name, .endpoint = response->endpoint};
    for (size_t i = 0; i < response->n_supported_versions; i++)
        kp_string_list_add(arena, &ret->versions, response->supported_versions[i]);
    return 0;
}

int csi_call_plugin_notify(struct loop *loop, const char *socket, const char *complaint, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(grpc_channel_free) struct grpc_channel *channel = NULL;
    Pluginregistration__RegistrationStatus request = PLUGINREGISTRATION__REGISTRATION_STATUS__INIT;
    ProtobufCMessage *response = NULL;
    request.plugin_registered = !complaint;
    request.error = str(complaint);
    int rc = channel_to(loop, socket, REGISTRATION_TIMEOUT_MS, &channel, error);
    if (rc == 0)
        rc = call(channel, REGISTRATION "NotifyRegistrationStatus", &request,
                  &pluginregistration__registration_status_response__descriptor, arena, &response, NULL, error);
    return rc;
}
