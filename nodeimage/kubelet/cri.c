/* The CRI client: one function a call, over gRPC on the runtime's socket. */
#include "lib/grpc/grpc.h"
#include "nodeimage/kubelet/cri_messages_internal.h"

#define CALL_TIMEOUT_MS 120000        /* what is no wait by nature must end by then */
#define PULL_TIMEOUT_MS 1800000
#define STOP_TIMEOUT_EXTRA_MS 120000  /* for the killing after the grace period */
#define EXEC_TIMEOUT_EXTRA_MS 15000

#define RUNTIME "/runtime.v1.RuntimeService/"
#define IMAGE "/runtime.v1.ImageService/"

struct cri {
    struct grpc_channel *channel;
};

int cri_new(struct loop *loop, const char *endpoint, struct cri **ret_cri, struct kp_error *error)
{
    const char *path = kp_starts_with(endpoint, "unix://") ? endpoint + strlen("unix://") : endpoint;
    if (path[0] != '/')
        return kp_fail(error, KP_EUSAGE, "container runtime endpoint %s is no unix socket", endpoint);
    KP_AUTO_FREE char *url = kp_asprintf("unix:%s", path);
    const char *endpoints[] = {url};
    struct grpc_channel_config config = {.endpoints = endpoints, .endpoint_count = 1, .call_timeout_ms = CALL_TIMEOUT_MS};
    struct cri *cri = kp_calloc(1, sizeof(*cri));
    int rc = grpc_channel_new(loop, &config, &cri->channel, error);
    if (rc < 0) {
        free(cri);
        return kp_wrap(error, "container runtime %s", endpoint);
    }
    *ret_cri = cri;
    return 0;
}

void cri_free(struct cri *cri)
{
    if (!cri)
        return;
    grpc_channel_free(cri->channel);
    free(cri);
}

struct grpc_channel *cri_channel(struct cri *cri)
{
    return cri->channel;
}

static int call_for(struct cri *cri, const char *path, const void *request, const ProtobufCMessageDescriptor *type,
                    int64_t timeout_ms, struct kp_arena *arena, void *ret_response, struct kp_error *error)
{
    struct grpc_call_options options = {.timeout_ms = timeout_ms};
    ProtobufCMessage *response;
    int rc = grpc_call(cri->channel, path, request, type, &options, arena, &response, error);
    if (rc == 0)
        memcpy(ret_response, &response, sizeof(response)); /* the caller's pointer is of the message's own type */
    return rc;
}

static int call(struct cri *cri, const char *path, const void *request, const ProtobufCMessageDescriptor *type,
                struct kp_arena *arena, void *ret_response, struct kp_error *error)
{
    return call_for(cri, path, request, type, 0, arena, ret_response, error);
}

static char *str(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

int cri_version(struct cri *cri, struct kp_arena *arena, const char **ret_name, const char **ret_version, struct kp_error *error)
{
    Runtime__V1__VersionRequest request = RUNTIME__V1__VERSION_REQUEST__INIT;
    Runtime__V1__VersionResponse *response = NULL;
    int rc = call(cri, RUNTIME "Version", &request, &runtime__v1__version_response__descriptor, arena, &response, error);
    if (rc < 0)
        return rc;
    *ret_name = response->runtime_name;
    *ret_version = response->runtime_version;
    return 0;
}

int cri_runtime_status(struct cri *cri, struct kp_arena *arena, struct cri_status *ret_status, struct kp_error *error)
{
    Runtime__V1__StatusRequest request = RUNTIME__V1__STATUS_REQUEST__INIT;
    Runtime__V1__StatusResponse *response = NULL;
    int rc = call_for(cri, RUNTIME "Status", &request, &runtime__v1__status_response__descriptor, 10000, arena, &response, error);
    if (rc < 0)
        return rc;
    *ret_status = (struct cri_status){0};
    if (!response->status)
        return 0;
    size_t n = response->status->n_conditions;
    ret_status->conditions = KP_NEW_ARRAY(arena, struct cri_condition, n + 1);
    ret_status->n_conditions = n;
    for (size_t i = 0; i < n; i++) {
        const Runtime__V1__RuntimeCondition *c = response->status->conditions[i];
        ret_status->conditions[i] =
            (struct cri_condition){.type = c->type, .reason = c->reason, .message = c->message, .status = c->status};
    }
    return 0;
}

int cri_run_sandbox(struct cri *cri, const struct cri_sandbox_config *config, struct kp_arena *arena, const char **ret_id,
                    struct kp_error *error)
{
    Runtime__V1__RunPodSandboxRequest request = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
    Runtime__V1__RunPodSandboxResponse *response = NULL;
    request.config = cri_sandbox_message(config, arena);
    request.runtime_handler = str(config->runtime_handler);
    int rc = call(cri, RUNTIME "RunPodSandbox", &request, &runtime__v1__run_pod_sandbox_response__descriptor, arena, &response,
                  error);
    if (rc == 0)
        *ret_id = response->pod_sandbox_id;
    return rc;
}

int cri_stop_sandbox(struct cri *cri, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__StopPodSandboxRequest request = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.pod_sandbox_id = str(id);
    return call(cri, RUNTIME "StopPodSandbox", &request, &runtime__v1__stop_pod_sandbox_response__descriptor, arena, &response,
                error);
}

int cri_remove_sandbox(struct cri *cri, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__RemovePodSandboxRequest request = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.pod_sandbox_id = str(id);
    return call(cri, RUNTIME "RemovePodSandbox", &request, &runtime__v1__remove_pod_sandbox_response__descriptor, arena,
                &response, error);
}

int cri_sandbox_status(struct cri *cri, const char *id, struct kp_arena *arena, struct cri_sandbox *ret_sandbox,
                       struct kp_error *error)
{
    Runtime__V1__PodSandboxStatusRequest request = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
    Runtime__V1__PodSandboxStatusResponse *response = NULL;
    request.pod_sandbox_id = str(id);
    int rc = call(cri, RUNTIME "PodSandboxStatus", &request, &runtime__v1__pod_sandbox_status_response__descriptor, arena,
                  &response, error);
    if (rc < 0)
        return rc;
    if (!response->status)
        return kp_fail(error, KP_ENOTFOUND, "sandbox %s has no status", id);
    cri_read_sandbox_status(response->status, arena, ret_sandbox);
    return 0;
}

int cri_list_sandboxes(struct cri *cri, const char *label, const char *value, struct kp_arena *arena,
                       struct cri_sandbox **ret_items, size_t *ret_len, struct kp_error *error)
{
    Runtime__V1__ListPodSandboxRequest request = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
    Runtime__V1__PodSandboxFilter filter = RUNTIME__V1__POD_SANDBOX_FILTER__INIT;
    Runtime__V1__PodSandboxFilter__LabelSelectorEntry entry = RUNTIME__V1__POD_SANDBOX_FILTER__LABEL_SELECTOR_ENTRY__INIT;
    Runtime__V1__PodSandboxFilter__LabelSelectorEntry *entries[] = {&entry};
    Runtime__V1__ListPodSandboxResponse *response = NULL;
    if (label) {
        entry.key = str(label);
        entry.value = str(value);
        filter.n_label_selector = 1;
        filter.label_selector = entries;
        request.filter = &filter;
    }
    int rc = call(cri, RUNTIME "ListPodSandbox", &request, &runtime__v1__list_pod_sandbox_response__descriptor, arena, &response,
                  error);
    if (rc < 0)
        return rc;
    *ret_items = KP_NEW_ARRAY(arena, struct cri_sandbox, response->n_items + 1);
    *ret_len = response->n_items;
    for (size_t i = 0; i < response->n_items; i++)
        cri_read_sandbox(response->items[i], arena, &(*ret_items)[i]);
    return 0;
}

int cri_list_containers(struct cri *cri, const char *label, const char *value, struct kp_arena *arena,
                        struct cri_container **ret_items, size_t *ret_len, struct kp_error *error)
{
    Runtime__V1__ListContainersRequest request = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
    Runtime__V1__ContainerFilter filter = RUNTIME__V1__CONTAINER_FILTER__INIT;
    Runtime__V1__ContainerFilter__LabelSelectorEntry entry = RUNTIME__V1__CONTAINER_FILTER__LABEL_SELECTOR_ENTRY__INIT;
    Runtime__V1__ContainerFilter__LabelSelectorEntry *entries[] = {&entry};
    Runtime__V1__ListContainersResponse *response = NULL;
    if (label) {
        entry.key = str(label);
        entry.value = str(value);
        filter.n_label_selector = 1;
        filter.label_selector = entries;
        request.filter = &filter;
    }
    int rc = call(cri, RUNTIME "ListContainers", &request, &runtime__v1__list_containers_response__descriptor, arena, &response,
                  error);
    if (rc < 0)
        return rc;
    *ret_items = KP_NEW_ARRAY(arena, struct cri_container, response->n_containers + 1);
    *ret_len = response->n_containers;
    for (size_t i = 0; i < response->n_containers; i++)
        cri_read_container(response->containers[i], arena, &(*ret_items)[i]);
    return 0;
}

int cri_create_container(struct cri *cri, const char *sandbox_id, const struct cri_container_config *config,
                         const struct cri_sandbox_config *sandbox, struct kp_arena *arena, const char **ret_id,
                         struct kp_error *error)
{
    Runtime__V1__CreateContainerRequest request = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
    Runtime__V1__CreateContainerResponse *response = NULL;
    request.pod_sandbox_id = str(sandbox_id);
    request.config = cri_container_message(config, arena);
    request.sandbox_config = cri_sandbox_message(sandbox, arena);
    int rc = call(cri, RUNTIME "CreateContainer", &request, &runtime__v1__create_container_response__descriptor, arena, &response,
                  error);
    if (rc == 0)
        *ret_id = response->container_id;
    return rc;
}

int cri_start_container(struct cri *cri, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__StartContainerRequest request = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.container_id = str(id);
    return call(cri, RUNTIME "StartContainer", &request, &runtime__v1__start_container_response__descriptor, arena, &response,
                error);
}

int cri_stop_container(struct cri *cri, const char *id, int64_t timeout_s, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__StopContainerRequest request = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.container_id = str(id);
    request.timeout = timeout_s;
    return call_for(cri, RUNTIME "StopContainer", &request, &runtime__v1__stop_container_response__descriptor,
                    timeout_s * 1000 + STOP_TIMEOUT_EXTRA_MS, arena, &response, error);
}

int cri_remove_container(struct cri *cri, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__RemoveContainerRequest request = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.container_id = str(id);
    return call(cri, RUNTIME "RemoveContainer", &request, &runtime__v1__remove_container_response__descriptor, arena, &response,
                error);
}

int cri_container_status(struct cri *cri, const char *id, struct kp_arena *arena, struct cri_container *ret_container,
                         struct kp_error *error)
{
    Runtime__V1__ContainerStatusRequest request = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
    Runtime__V1__ContainerStatusResponse *response = NULL;
    request.container_id = str(id);
    int rc = call(cri, RUNTIME "ContainerStatus", &request, &runtime__v1__container_status_response__descriptor, arena, &response,
                  error);
    if (rc < 0)
        return rc;
    if (!response->status)
        return kp_fail(error, KP_ENOTFOUND, "container %s has no status", id);
    cri_read_container_status(response->status, arena, ret_container);
    return 0;
}

int cri_update_resources(struct cri *cri, const char *id, const struct cri_resources *resources, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__UpdateContainerResourcesRequest request = RUNTIME__V1__UPDATE_CONTAINER_RESOURCES_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.container_id = str(id);
    request.linux_ = cri_resources_message(resources, arena);
    return call(cri, RUNTIME "UpdateContainerResources", &request, &runtime__v1__update_container_resources_response__descriptor,
                arena, &response, error);
}

int cri_reopen_log(struct cri *cri, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__ReopenContainerLogRequest request = RUNTIME__V1__REOPEN_CONTAINER_LOG_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.container_id = str(id);
    return call(cri, RUNTIME "ReopenContainerLog", &request, &runtime__v1__reopen_container_log_response__descriptor, arena,
                &response, error);
}

int cri_exec_sync(struct cri *cri, const char *id, const struct cri_strings *command, int64_t timeout_s, struct kp_buf *out,
                  struct kp_buf *err_out, int32_t *ret_exit_code, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__ExecSyncRequest request = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
    Runtime__V1__ExecSyncResponse *response = NULL;
    request.container_id = str(id);
    request.cmd = (char **)(uintptr_t)command->items;
    request.n_cmd = command->len;
    request.timeout = timeout_s;
    int rc = call_for(cri, RUNTIME "ExecSync", &request, &runtime__v1__exec_sync_response__descriptor,
                      timeout_s > 0 ? timeout_s * 1000 + EXEC_TIMEOUT_EXTRA_MS : -1, arena, &response, error);
    if (rc < 0)
        return rc;
    if (out)
        kp_buf_append(out, response->stdout.data, response->stdout.len);
    if (err_out)
        kp_buf_append(err_out, response->stderr.data, response->stderr.len);
    *ret_exit_code = response->exit_code;
    return 0;
}

int cri_exec(struct cri *cri, const char *id, const struct cri_strings *command, const struct cri_stream_options *options,
             struct kp_arena *arena, const char **ret_url, struct kp_error *error)
{
    Runtime__V1__ExecRequest request = RUNTIME__V1__EXEC_REQUEST__INIT;
    Runtime__V1__ExecResponse *response = NULL;
    request.container_id = str(id);
    request.cmd = (char **)(uintptr_t)command->items;
    request.n_cmd = command->len;
    request.tty = options->tty;
    request.stdin = options->in;
    request.stdout = options->out;
    request.stderr = options->err;
    int rc = call(cri, RUNTIME "Exec", &request, &runtime__v1__exec_response__descriptor, arena, &response, error);
    if (rc == 0)
        *ret_url = response->url;
    return rc;
}

int cri_attach(struct cri *cri, const char *id, const struct cri_stream_options *options, struct kp_arena *arena,
               const char **ret_url, struct kp_error *error)
{
    Runtime__V1__AttachRequest request = RUNTIME__V1__ATTACH_REQUEST__INIT;
    Runtime__V1__AttachResponse *response = NULL;
    request.container_id = str(id);
    request.tty = options->tty;
    request.stdin = options->in;
    request.stdout = options->out;
    request.stderr = options->err;
    int rc = call(cri, RUNTIME "Attach", &request, &runtime__v1__attach_response__descriptor, arena, &response, error);
    if (rc == 0)
        *ret_url = response->url;
    return rc;
}

int cri_port_forward(struct cri *cri, const char *sandbox_id, const int32_t *ports, size_t n_ports, struct kp_arena *arena,
                     const char **ret_url, struct kp_error *error)
{
    Runtime__V1__PortForwardRequest request = RUNTIME__V1__PORT_FORWARD_REQUEST__INIT;
    Runtime__V1__PortForwardResponse *response = NULL;
    request.pod_sandbox_id = str(sandbox_id);
    request.port = (int32_t *)(uintptr_t)ports;
    request.n_port = n_ports;
    int rc = call(cri, RUNTIME "PortForward", &request, &runtime__v1__port_forward_response__descriptor, arena, &response, error);
    if (rc == 0)
        *ret_url = response->url;
    return rc;
}

int cri_list_stats(struct cri *cri, struct kp_arena *arena, struct cri_container_stats **ret_items, size_t *ret_len,
                   struct kp_error *error)
{
    Runtime__V1__ListContainerStatsRequest request = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
    Runtime__V1__ListContainerStatsResponse *response = NULL;
    int rc = call(cri, RUNTIME "ListContainerStats", &request, &runtime__v1__list_container_stats_response__descriptor, arena,
                  &response, error);
    if (rc < 0)
        return rc;
    *ret_items = KP_NEW_ARRAY(arena, struct cri_container_stats, response->n_stats + 1);
    *ret_len = response->n_stats;
    for (size_t i = 0; i < response->n_stats; i++)
        cri_read_stats(response->stats[i], arena, &(*ret_items)[i]);
    return 0;
}

int cri_list_images(struct cri *cri, struct kp_arena *arena, struct cri_image **ret_items, size_t *ret_len,
                    struct kp_error *error)
{
    Runtime__V1__ListImagesRequest request = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
    Runtime__V1__ListImagesResponse *response = NULL;
    int rc = call(cri, IMAGE "ListImages", &request, &runtime__v1__list_images_response__descriptor, arena, &response, error);
    if (rc < 0)
        return rc;
    *ret_items = KP_NEW_ARRAY(arena, struct cri_image, response->n_images + 1);
    *ret_len = response->n_images;
    for (size_t i = 0; i < response->n_images; i++)
        cri_read_image(response->images[i], arena, &(*ret_items)[i]);
    return 0;
}

static Runtime__V1__ImageSpec *image_spec(const char *image, struct kp_arena *arena)
{
    Runtime__V1__ImageSpec *spec = CRI_NEW(arena, Runtime__V1__ImageSpec, runtime__v1__image_spec__init);
    spec->image = str(image);
    return spec;
}

int cri_image_status(struct cri *cri, const char *image, struct kp_arena *arena, struct cri_image **ret_image,
                     struct kp_error *error)
{
    Runtime__V1__ImageStatusRequest request = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
    Runtime__V1__ImageStatusResponse *response = NULL;
    request.image = image_spec(image, arena);
    int rc = call(cri, IMAGE "ImageStatus", &request, &runtime__v1__image_status_response__descriptor, arena, &response, error);
    if (rc < 0)
        return rc;
    *ret_image = NULL;
    if (response->image) {
        *ret_image = KP_NEW(arena, struct cri_image);
        cri_read_image(response->image, arena, *ret_image);
    }
    return 0;
}

int cri_pull_image(struct cri *cri, const char *image, const struct cri_auth *auth, const struct cri_sandbox_config *sandbox,
                   struct kp_arena *arena, const char **ret_ref, struct kp_error *error)
{
    Runtime__V1__PullImageRequest request = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
    Runtime__V1__AuthConfig auth_message = RUNTIME__V1__AUTH_CONFIG__INIT;
    Runtime__V1__PullImageResponse *response = NULL;
    request.image = image_spec(image, arena);
    request.sandbox_config = sandbox ? cri_sandbox_message(sandbox, arena) : NULL;
    if (auth) {
        auth_message.username = str(auth->username);
        auth_message.password = str(auth->password);
        auth_message.server_address = str(auth->server);
        auth_message.identity_token = str(auth->identity_token);
        request.auth = &auth_message;
    }
    int rc = call_for(cri, IMAGE "PullImage", &request, &runtime__v1__pull_image_response__descriptor, PULL_TIMEOUT_MS, arena,
                      &response, error);
    if (rc == 0)
        *ret_ref = response->image_ref;
    return rc;
}

int cri_remove_image(struct cri *cri, const char *image, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Runtime__V1__RemoveImageRequest request = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.image = image_spec(image, arena);
    return call(cri, IMAGE "RemoveImage", &request, &runtime__v1__remove_image_response__descriptor, arena, &response, error);
}

int cri_image_fs(struct cri *cri, struct kp_arena *arena, struct cri_fs_info **ret_items, size_t *ret_len,
                 struct kp_error *error)
{
    Runtime__V1__ImageFsInfoRequest request = RUNTIME__V1__IMAGE_FS_INFO_REQUEST__INIT;
    Runtime__V1__ImageFsInfoResponse *response = NULL;
    int rc = call(cri, IMAGE "ImageFsInfo", &request, &runtime__v1__image_fs_info_response__descriptor, arena, &response, error);
    if (rc < 0)
        return rc;
    *ret_items = KP_NEW_ARRAY(arena, struct cri_fs_info, response->n_image_filesystems + 1);
    *ret_len = response->n_image_filesystems;
    for (size_t i = 0; i < response->n_image_filesystems; i++) {
        const Runtime__V1__FilesystemUsage *fs = response->image_filesystems[i];
        (*ret_items)[i] = (struct cri_fs_info){.mountpoint = fs->fs_id ? fs->fs_id->mountpoint : "",
                                               .used_bytes = fs->used_bytes ? fs->used_bytes->value : 0,
                                               .inodes_used = fs->inodes_used ? fs->inodes_used->value : 0};
    }
    return 0;
}
