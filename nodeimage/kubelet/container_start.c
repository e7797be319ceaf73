/* Starting one container: image, environment, mounts, creation, start, postStart hook. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/pod_worker_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

#define HOSTS_PATH "/etc/hosts"
#define SERVICES_WAIT_MS 5000

struct build {
    struct kubelet_sync *sync;
    const struct kubelet_start *start;
    const struct k8s_container *container;
    const struct cri_sandbox *sandbox;
    const struct cri_image *image;
    struct volumes_context volumes;
    struct cri_container_config config;
};

/* The services whose variables the pod gets. */
static size_t services(struct kubelet_sync *sync, struct client_view *view, const struct k8s_service *const **ret)
{
    struct client_informer *informer = sync->kubelet->services;
    if (!informer)
        return 0;
    const void *const *own;
    size_t n = client_view_list(view, informer, sync->worker->ns, &own), len = 0;
    const struct k8s_service **out = KP_NEW_ARRAY(sync->arena, const struct k8s_service *, n + 1);
    for (size_t i = 0; i < n; i++)
        out[len++] = own[i];
    const struct k8s_service *master = client_view_get(view, informer, "default", "kubernetes");
    if (master && !kp_streq(sync->worker->ns, "default"))
        out[len++] = master;
    *ret = out;
    return len;
}

/* A pod that starts before the services are known would miss their variables for good. */
static int wait_for_services(struct kubelet_sync *sync, struct kp_error *error)
{
    struct kubelet *kubelet = sync->kubelet;
    if (!kubelet->services || sync->pod->is_static || client_informer_synced(kubelet->services))
        return 0;
    if (client_informers_wait(&kubelet->services, 1, SERVICES_WAIT_MS, NULL) < 0)
        return kp_fail(error, KP_EUNAVAILABLE, "services have not yet been read at least once, cannot construct envvars");
    return 0;
}

static int make_env(struct build *b, struct kp_error *error)
{
    struct kubelet_sync *sync = b->sync;
    int rc = wait_for_services(sync, error);
    if (rc < 0)
        return rc;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const char *const *host_ips;
    size_t n_host_ips = kubelet_node_addresses(sync->kubelet, &host_ips);
    bool host_network = sync->pod->data->spec->host_network;
    struct kubelet_env_input in = {
        .pod = sync->pod->data,
        .container = b->container,
        .getter = b->volumes.getter,
        .allocatable = b->volumes.allocatable,
        .pod_ips = host_network ? host_ips : b->sandbox->ips,
        .n_pod_ips = host_network ? n_host_ips : b->sandbox->n_ips,
        .host_ips = host_ips,
        .n_host_ips = n_host_ips,
        .node_name = sync->kubelet->config.node_name,
    };
    in.pod_ip = in.n_pod_ips > 0 ? in.pod_ips[0] : NULL;
    in.host_ip = n_host_ips > 0 ? host_ips[0] : NULL;
    const struct k8s_service *const *list = NULL;
    in.n_services = services(sync, view, &list);
    in.services = list;
    rc = kubelet_make_env(&in, sync->arena, &b->config.envs, error);
    /* Values of services are borrowed from the view. */
    for (size_t i = 0; rc == 0 && i < b->config.envs.len; i++)
        b->config.envs.items[i].value = kp_arena_strdup(sync->arena, b->config.envs.items[i].value);
    return rc;
}

static struct cri_strings expand_all(struct build *b, const struct kp_string_list *list)
{
    struct cri_strings out = {.items = KP_NEW_ARRAY(b->sync->arena, const char *, list->len + 1), .len = list->len};
    for (size_t i = 0; i < list->len; i++)
        out.items[i] = kubelet_expand(b->sync->arena, list->items[i], kubelet_env_lookup, &b->config.envs);
    return out;
}

static struct cri_mount *add_mount(struct build *b, const char *container_path, const char *host_path)
{
    struct cri_mount *mount = &b->config.mounts[b->config.n_mounts++];
    *mount = (struct cri_mount){.container_path = container_path, .host_path = host_path};
    return mount;
}

static int expand_sub_path(struct build *b, const struct k8s_volume_mount *vm, const char **ret, struct kp_error *error)
{
    *ret = vm->sub_path;
    if (kp_empty(vm->sub_path_expr))
        return 0;
    *ret = kubelet_expand(b->sync->arena, vm->sub_path_expr, kubelet_env_lookup, &b->config.envs);
    if (strstr(*ret, "$("))
        return kp_fail(error, KP_EINVALID, "missing value for a variable in subPathExpr \"%s\"", vm->sub_path_expr);
    return 0;
}

static int mount_volumes(struct build *b, bool *ret_own_hosts, struct kp_error *error)
{
    struct kubelet_sync *sync = b->sync;
    for (size_t i = 0; i < b->container->volume_mounts.len; i++) {
        const struct k8s_volume_mount *vm = &b->container->volume_mounts.items[i];
        const struct k8s_volume *volume = volumes_find(sync->pod->data, vm->name);
        const char *sub_path, *source = NULL;
        *ret_own_hosts = *ret_own_hosts || kp_streq(vm->mount_path, HOSTS_PATH);
        int rc = expand_sub_path(b, vm, &sub_path, error);
        if (rc == 0 && !(volume && volume->image))
            rc = volumes_mount_source(&b->volumes, sync->pod->data, b->container->name, i, vm->name, sub_path, &source, error);
        if (rc < 0)
            return rc;
        const char *path = vm->mount_path[0] == '/' ? vm->mount_path : kp_arena_printf(sync->arena, "/%s", vm->mount_path);
        struct cri_mount *mount = add_mount(b, path, source);
        /* What comes from the API is the kubelet's to write, nobody else's. */
        bool ours = volume && (volume->config_map || volume->secret || volume->projected || volume->downward_api);
        mount->readonly = vm->read_only || ours || volumes_read_only(&b->volumes, vm->name);
        if (kp_streq(vm->mount_propagation, "HostToContainer"))
            mount->propagation = CRI_PROPAGATION_HOST_TO_CONTAINER;
        else if (kp_streq(vm->mount_propagation, "Bidirectional"))
            mount->propagation = CRI_PROPAGATION_BIDIRECTIONAL;
        if (volume && volume->image) {
            mount->image = volume->image->reference;
            mount->image_sub_path = sub_path;
            mount->readonly = true;
        } else if (volume && volume->host_path && kp_empty(volume->host_path->type) && !kp_path_exists(source)) {
            /* As container runtimes always did: a missing host path becomes a folder. */
            rc = kp_mkdir_p(source, 0755, error);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* /etc/hosts is written anew for every container, so that it shows the sandbox's present address. */
static int mount_hosts(struct build *b, struct kp_error *error)
{
    struct kubelet_sync *sync = b->sync;
    const struct k8s_pod *pod = sync->pod->data;
    KP_AUTO_BUF struct kp_buf text = {0}, node = {0};
    const char *domain, *const *ips = b->sandbox->ips;
    const char *hostname = kubelet_pod_hostname(pod, sync->kubelet->config.cluster_domain, sync->arena, &domain);
    if (pod->spec->host_network && kp_read_file(HOSTS_PATH, 1 << 20, &node, error) < 0)
        kp_buf_puts(&node, "127.0.0.1\tlocalhost\n");
    kubelet_hosts_file(&text, pod, ips, b->sandbox->n_ips, hostname, domain,
                       pod->spec->host_network ? (node.data ? node.data : "") : NULL);
    const char *path = kp_arena_printf(sync->arena, "%s/etc-hosts",
                                       volumes_pod_dir(sync->kubelet->config.root_dir, sync->worker->uid, sync->arena));
    /* In place: running containers have this very file mounted. */
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len)
        return kp_fail_errno(error, "write %s", path);
    if (fchmod(fd, 0644) < 0)
        return kp_fail_errno(error, "set the mode of %s", path);
    add_mount(b, HOSTS_PATH, path);
    return 0;
}

static const char *message_path(const struct k8s_container *c)
{
    return kp_empty(c->termination_message_path) ? "/dev/termination-log" : c->termination_message_path;
}

static int mount_message_file(struct build *b, struct kp_error *error)
{
    struct kubelet_sync *sync = b->sync;
    const char *dir = kp_arena_printf(sync->arena, "%s/containers/%s",
                                      volumes_pod_dir(sync->kubelet->config.root_dir, sync->worker->uid, sync->arena),
                                      b->container->name);
    int rc = kp_mkdir_p(dir, 0755, error);
    if (rc < 0)
        return rc;
    const char *path = kp_arena_printf(sync->arena, "%s/%08x", dir, (unsigned)kp_random_u64());
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || fchmod(fd, 0666) < 0) /* whatever user the container runs as may write */
        return kp_fail_errno(error, "create %s", path);
    add_mount(b, message_path(b->container), path);
    return 0;
}

static void set_labels(struct build *b, uint32_t restart_count)
{
    struct kp_arena *arena = b->sync->arena;
    const struct k8s_container *c = b->container;
    const struct k8s_object_meta *meta = b->sync->pod->data->metadata;
    struct cri_pair labels[] = {{KUBELET_LABEL_CONTAINER_NAME, c->name},
                                {KUBELET_LABEL_POD_NAME, meta->name},
                                {KUBELET_LABEL_POD_NAMESPACE, meta->namespace},
                                {KUBELET_LABEL_POD_UID, meta->uid}};
    struct cri_pair annotations[] = {
        {KUBELET_ANNOTATION_HASH, kp_arena_printf(arena, "%llx", (unsigned long long)kubelet_container_hash(c))},
        {KUBELET_ANNOTATION_RESTART_COUNT, kp_arena_printf(arena, "%u", restart_count)},
        {KUBELET_ANNOTATION_MESSAGE_PATH, message_path(c)},
        {KUBELET_ANNOTATION_MESSAGE_POLICY, kp_empty(c->termination_message_policy) ? "File" : c->termination_message_policy},
        {KUBELET_ANNOTATION_GRACE,
         kp_arena_printf(arena, "%lld", (long long)kubelet_grace_period_s(b->sync->pod->data))}};
    b->config.labels = (struct cri_pairs){.items = kp_arena_memdup(arena, labels, sizeof(labels)), .len = KP_ARRAY_LEN(labels)};
    b->config.annotations =
        (struct cri_pairs){.items = kp_arena_memdup(arena, annotations, sizeof(annotations)), .len = KP_ARRAY_LEN(annotations)};
}

static uint32_t next_restart_count(const struct kubelet_sync *sync, const struct kubelet_start *start)
{
    const struct cri_container *previous = start->previous;
    if (!previous)
        return 0;
    const char *text = cri_pairs_get(&previous->annotations, KUBELET_ANNOTATION_RESTART_COUNT);
    int64_t count;
    return (text && kp_parse_i64(text, &count) == 0 ? (uint32_t)count : previous->attempt) + 1;
}

/* The container whose processes an ephemeral container is to see. */
static const char *target_id(struct build *b)
{
    if (b->start->spec.kind != KUBELET_EPHEMERAL)
        return NULL;
    const char *name = b->sync->pod->data->spec->ephemeral_containers.items[b->start->spec.index].target_container_name;
    const struct cri_container *c = kp_empty(name) ? NULL : kubelet_runtime_find(&b->sync->rt, name, NULL);
    return c ? c->id : NULL;
}

static int make_config(struct build *b, struct kp_error *error)
{
    struct kubelet_sync *sync = b->sync;
    const struct k8s_container *c = b->container;
    uint32_t restart_count = next_restart_count(sync, b->start);
    b->config.name = c->name;
    b->config.attempt = restart_count;
    b->config.image = b->image->id;
    b->config.user_image = c->image;
    int rc = make_env(b, error);
    if (rc < 0)
        return rc;
    b->config.command = expand_all(b, &c->command);
    b->config.args = expand_all(b, &c->args);
    b->config.working_dir = c->working_dir;
    b->config.mounts = KP_NEW_ARRAY(sync->arena, struct cri_mount, c->volume_mounts.len + 3);
    bool own_hosts = false;
    rc = mount_volumes(b, &own_hosts, error);
    if (rc == 0 && !own_hosts)
        rc = mount_hosts(b, error);
    if (rc == 0)
        rc = mount_message_file(b, error);
    if (rc == 0)
        rc = kubelet_container_security(sync->pod->data, c, b->image, target_id(b), sync->arena, &b->config.security, error);
    if (rc == 0)
        rc = kp_mkdir_p(kp_arena_printf(sync->arena, "%s/%s", kubelet_pod_log_dir(sync->pod->data, sync->arena), c->name), 0755, error);
    if (rc < 0)
        return rc;
    b->config.log_path = kp_arena_printf(sync->arena, "%s/%u.log", c->name, restart_count);
    b->config.stdin_open = c->stdin;
    b->config.stdin_once = c->stdin_once;
    b->config.tty = c->tty;
    kubelet_container_resources(sync->pod->data, c, sync->kubelet->memory_bytes, &b->config.resources);
    set_labels(b, restart_count);
    return 0;
}

static int fail(struct build *b, const char *reason, struct kp_error *error)
{
    kubelet_sync_fail(b->sync->worker, b->container->name, reason, error->message);
    kubelet_event(b->sync->kubelet, b->sync->pod, b->container->name, "Warning", "Failed", "Error: %s", error->message);
    return error->code;
}

static int post_start(struct build *b, const char *id, struct kp_error *error)
{
    const struct k8s_lifecycle_handler *hook = b->container->lifecycle ? b->container->lifecycle->post_start : NULL;
    struct kubelet_sync *sync = b->sync;
    if (!hook)
        return 0;
    if (hook->sleep) {
        kp_sleep_ms(hook->sleep->seconds * 1000);
        return 0;
    }
    const char *ip = b->sandbox->n_ips > 0 ? b->sandbox->ips[0] : NULL;
    struct kubelet_handler handler = {.exec = hook->exec, .http_get = hook->http_get, .tcp_socket = hook->tcp_socket};
    int rc = kubelet_handler_run(sync->kubelet, &handler, b->container, id, ip, 0, NULL, error);
    if (rc == 0)
        return 0;
    kubelet_event(sync->kubelet, sync->pod, b->container->name, "Warning", "FailedPostStartHook", "PostStartHook failed: %s",
                  error->message);
    struct cri_container made = {.id = id, .name = b->container->name};
    kubelet_container_kill(sync->kubelet, sync->pod, b->container, &made, "FailedPostStartHook",
                           kubelet_grace_period_s(sync->pod->data), ip);
    kubelet_sync_fail(sync->worker, b->container->name, "PostStartHookError", error->message);
    return rc;
}

int kubelet_container_start(struct kubelet_sync *sync, const struct kubelet_start *start, const struct cri_sandbox *sandbox,
                            struct kp_error *error)
{
    struct kubelet *kubelet = sync->kubelet;
    struct build b = {.sync = sync, .start = start, .container = start->spec.container, .sandbox = sandbox};
    struct cri_sandbox_config sandbox_config;
    struct cri_image *image = NULL;
    const char *reason = NULL, *id;
    int rc = kubelet_sync_sandbox_config(sync, sandbox->attempt, &sandbox_config, error);
    if (rc < 0)
        return fail(&b, "CreateContainerConfigError", error);
    rc = kubelet_image_ensure(kubelet, sync->pod, b.container, &sandbox_config, sync->arena, &image, &reason, error);
    if (rc < 0) {
        kubelet_sync_fail(sync->worker, b.container->name, reason, error->message);
        return rc;
    }
    b.image = image;
    kubelet_sync_volumes_context(sync, 0, &b.volumes);
    if (make_config(&b, error) < 0)
        return fail(&b, "CreateContainerConfigError", error);
    rc = cri_create_container(kubelet->cri, sandbox->id, &b.config, &sandbox_config, sync->arena, &id, error);
    if (rc < 0)
        return fail(&b, "CreateContainerError", error);
    kubelet_event(kubelet, sync->pod, b.container->name, "Normal", "Created", "Container created");
    rc = cri_start_container(kubelet->cri, id, error);
    if (rc < 0)
        return fail(&b, "RunContainerError", error);
    kubelet_event(kubelet, sync->pod, b.container->name, "Normal", "Started", "Container started");
    return post_start(&b, id, error);
}
