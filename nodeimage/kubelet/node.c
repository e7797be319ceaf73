/* The node's life in the API: registration, status, lease; and watching the runtime's readiness. */
#include "nodeimage/kubelet/csi/csi.h"
#include "nodeimage/kubelet/node_internal.h"

#define RUNTIME_POLL_READY_MS 5000 /* as upstream */
#define RUNTIME_POLL_UNREADY_MS 100
#define RUNTIME_REST_MS_MAX 1000
#define STATUS_REPORT_S 300   /* at least this often, changed or not */
#define RETRY_MS 500
#define IMAGES_MAX 50
#define LEASE_NAMESPACE "kube-node-lease"


struct kubelet_node *kubelet_node_new(struct kubelet *kubelet)
{
    struct kubelet_node *node = kp_calloc(1, sizeof(*node));
    node->kubelet = kubelet;
    node->arena = kp_arena_new(0);
    pthread_mutex_init(&node->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attr);
    pthread_condattr_destroy(&attr);
    snprintf(node->runtime_message, sizeof(node->runtime_message), "container runtime status check may not have completed yet");
    kubelet_node_facts(node);
    return node;
}

void kubelet_node_free(struct kubelet_node *node)
{
    (void)node; /* its threads live as long as the process */
}

void kubelet_node_allocatable(struct kubelet *kubelet, struct kp_arena *arena, struct kp_string_map *ret)
{
    (void)arena;
    *ret = kubelet->node->allocatable; /* does not change */
}

void kubelet_node_labels(struct kubelet *kubelet, struct kp_arena *arena, struct kp_string_map *ret)
{
    *ret = kubelet->node->labels;
    struct client_object *object =
        kubelet->node_informer ? client_informer_get(kubelet->node_informer, "", kubelet->config.node_name) : NULL;
    if (!object)
        return;
    const struct k8s_object_meta *meta = ((const struct k8s_node *)object->data)->metadata;
    *ret = (struct kp_string_map){0};
    for (size_t i = 0; i < meta->labels.len; i++)
        kp_string_map_set(arena, ret, kp_arena_strdup(arena, meta->labels.items[i].key),
                          kp_arena_strdup(arena, meta->labels.items[i].value));
    client_object_unref(object);
}

size_t kubelet_node_addresses(struct kubelet *kubelet, const char *const **ret_ips)
{
    *ret_ips = kubelet->node->ips;
    return kubelet->node->n_ips;
}

const struct k8s_node *kubelet_node_object(struct kubelet *kubelet, struct kp_arena *arena)
{
    struct client_object *object =
        kubelet->node_informer ? client_informer_get(kubelet->node_informer, "", kubelet->config.node_name) : NULL;
    const struct k8s_node *node = object ? KP_OBJECT_CLONE(arena, k8s_node, object->data) : NULL;
    client_object_unref(object);
    return node;
}

bool kubelet_node_has_volume(struct kubelet *kubelet, const char *volume)
{
    KP_AUTO(client_object_unref) struct client_object *object =
        kubelet->node_informer ? client_informer_get(kubelet->node_informer, "", kubelet->config.node_name) : NULL;
    const struct k8s_node_status *status = object ? ((const struct k8s_node *)object->data)->status : NULL;
    if (!status || !kp_string_list_has(&status->volumes_in_use, volume))
        return false;
    for (size_t i = 0; i < status->volumes_attached.len; i++)
        if (kp_streq(status->volumes_attached.items[i].name, volume))
            return true;
    return false;
}

void kubelet_node_report(struct kubelet *kubelet)
{
    struct kubelet_node *node = kubelet->node;
    pthread_mutex_lock(&node->lock);
    node->wanted = true;
    pthread_cond_signal(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

/* ---- the runtime's readiness -------------------------------------------------------------------------------------- */

static void look_at_runtime(struct kubelet *kubelet, char *message, size_t size, bool *ret_runtime, bool *ret_network)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_status status;
    struct kp_error error = {0};
    *ret_runtime = *ret_network = false;
    message[0] = '\0';
    if (cri_runtime_status(kubelet->cri, arena, &status, &error) < 0) {
        snprintf(message, size, "container runtime is down");
        return;
    }
    for (size_t i = 0; i < status.n_conditions; i++) {
        const struct cri_condition *c = &status.conditions[i];
        bool runtime = kp_streq(c->type, "RuntimeReady"), network = kp_streq(c->type, "NetworkReady");
        if (runtime)
            *ret_runtime = c->status;
        if (network)
            *ret_network = c->status;
        if ((runtime || network) && !c->status && !*message)
            snprintf(message, size, "container runtime %snot ready: %s=false reason:%s message:%s", network ? "network " : "",
                     c->type, c->reason, c->message);
    }
}

static void *watch_runtime(void *arg)
{
    struct kubelet *kubelet = arg;
    struct kubelet_node *node = kubelet->node;
    while (!kubelet->stopping) {
        char message[512];
        bool runtime, network;
        int64_t began_ms = kp_mono_ms();
        look_at_runtime(kubelet, message, sizeof(message), &runtime, &network);
        pthread_mutex_lock(&node->lock);
        bool differs = !kp_streq(message, node->runtime_message);
        snprintf(node->runtime_message, sizeof(node->runtime_message), "%s", message);
        pthread_mutex_unlock(&node->lock);
        bool came = network && !__atomic_exchange_n(&kubelet->network_ready, network, __ATOMIC_ACQ_REL);
        __atomic_store_n(&kubelet->network_ready, network, __ATOMIC_RELEASE);
        __atomic_store_n(&kubelet->runtime_ready, runtime, __ATOMIC_RELEASE);
        if (differs) {
            kp_info("runtime state", "ready", runtime && network ? "true" : "false", "message", message, NULL);
            kubelet_node_report(kubelet);
        }
        if (came)
            kubelet_workers_wake_all(kubelet->workers);
        kp_sleep_ms(runtime && network ? RUNTIME_POLL_READY_MS : kp_rest_ms(kp_mono_ms() - began_ms, RUNTIME_POLL_UNREADY_MS, RUNTIME_REST_MS_MAX));
    }
    return NULL;
}

/* ---- the node object ------------------------------------------------------------------------------------------------ */

static int larger_image(const void *a, const void *b)
{
    const struct cri_image *x = a, *y = b;
    return x->size_bytes < y->size_bytes ? 1 : x->size_bytes > y->size_bytes ? -1 : 0;
}

static void add_images(struct kubelet *kubelet, struct k8s_node_status *status, struct kp_arena *arena)
{
    struct cri_image *images;
    size_t n;
    if (cri_list_images(kubelet->cri, arena, &images, &n, NULL) < 0)
        return;
    if (n > 1)
        qsort(images, n, sizeof(*images), larger_image);
    for (size_t i = 0; i < n && i < IMAGES_MAX; i++) {
        struct k8s_container_image *image = KP_LIST_ADD(arena, &status->images);
        for (size_t j = 0; j < images[i].digests.len; j++)
            kp_string_list_add(arena, &image->names, images[i].digests.items[j]);
        for (size_t j = 0; j < images[i].tags.len; j++)
            kp_string_list_add(arena, &image->names, images[i].tags.items[j]);
        KP_SET(image, size_bytes, (int64_t)images[i].size_bytes);
    }
}

static struct k8s_node_status *make_status(struct kubelet_node *node, const struct k8s_node_status *old, struct kp_arena *arena)
{
    struct kubelet *kubelet = node->kubelet;
    struct k8s_node_status *status = KP_OBJECT_NEW(arena, k8s_node_status);
    bool pressure[EVICTION_PRESSURES];
    status->capacity = node->capacity;
    status->allocatable = node->allocatable;
    for (size_t i = 0; i < node->n_ips; i++) {
        struct k8s_node_address *address = KP_LIST_ADD(arena, &status->addresses);
        address->type = "InternalIP";
        address->address = node->ips[i];
    }
    struct k8s_node_address *host = KP_LIST_ADD(arena, &status->addresses);
    host->type = "Hostname";
    host->address = kubelet->config.node_name;
    status->daemon_endpoints = KP_OBJECT_NEW(arena, k8s_node_daemon_endpoints);
    status->daemon_endpoints->kubelet_endpoint = KP_OBJECT_NEW(arena, k8s_daemon_endpoint);
    KP_SET(status->daemon_endpoints->kubelet_endpoint, port, (int32_t)kubelet->config.port);
    status->node_info = node->info;
    add_images(kubelet, status, arena);
    if (kubelet->csi)
        csi_in_use(kubelet->csi, arena, &status->volumes_in_use);
    kubelet_evictions_pressure(kubelet, pressure);
    pthread_mutex_lock(&node->lock);
    const char *message = kp_arena_strdup(arena, node->runtime_message);
    pthread_mutex_unlock(&node->lock);
    kubelet_node_conditions(message, pressure, old, kp_now_s(), status, arena);
    return status;
}

static int register_node(struct kubelet_node *node, struct kp_arena *arena, struct kp_error *error)
{
    struct kubelet *kubelet = node->kubelet;
    struct k8s_node *object = KP_OBJECT_NEW(arena, k8s_node);
    object->metadata->name = kubelet->config.node_name;
    object->metadata->labels = node->labels;
    object->spec->taints = kubelet->config.taints;
    object->spec->provider_id = kubelet->config.provider_id;
    object->status = make_status(node, NULL, arena);
    int rc = client_create(kubelet->client, &k8s_nodes_resource, NULL, object, NULL, arena, NULL, error);
    if (rc == 0)
        kp_info("node registered", "node", kubelet->config.node_name, NULL);
    return rc;
}

/* A node that is there already gets the labels it should have. */
static int reconcile_labels(struct kubelet_node *node, const struct k8s_node *there, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf patch = {0};
    size_t n = 0;
    kp_buf_puts(&patch, "{\"metadata\":{\"labels\":{");
    for (size_t i = 0; i < node->labels.len; i++) {
        const struct kp_string_pair *label = &node->labels.items[i];
        if (kp_streq(kp_string_map_get(&there->metadata->labels, label->key), label->value))
            continue;
        if (n++ > 0)
            kp_buf_putc(&patch, ',');
        kp_json_string(&patch, label->key);
        kp_buf_putc(&patch, ':');
        kp_json_string(&patch, label->value);
    }
    kp_buf_puts(&patch, "}}}");
    if (n == 0)
        return 0;
    return client_patch(node->kubelet->client, &k8s_nodes_resource, NULL, node->kubelet->config.node_name, CLIENT_PATCH_MERGE,
                        patch.data, patch.len, NULL, arena, NULL, error);
}

static int ensure_registered(struct kubelet_node *node, struct kp_arena *arena, const struct k8s_node **ret, struct kp_error *error)
{
    struct kubelet *kubelet = node->kubelet;
    void *object = NULL;
    int rc = client_get(kubelet->client, &k8s_nodes_resource, NULL, kubelet->config.node_name, arena, &object, error);
    if (rc == KP_ENOTFOUND && kubelet->config.register_node) {
        rc = register_node(node, arena, error);
        if (rc == 0 || rc == KP_EEXISTS)
            rc = client_get(kubelet->client, &k8s_nodes_resource, NULL, kubelet->config.node_name, arena, &object, error);
    } else if (rc == 0) {
        rc = reconcile_labels(node, object, arena, error);
    }
    *ret = object;
    return rc;
}

/* The status without the times that always differ, to see whether anything changed. */
static char *fingerprint(const struct k8s_node_status *status, struct kp_arena *arena)
{
    struct k8s_node_status *copy = KP_OBJECT_CLONE(arena, k8s_node_status, status);
    for (size_t i = 0; i < copy->conditions.len; i++)
        copy->conditions.items[i].last_heartbeat_time = copy->conditions.items[i].last_transition_time = (struct kp_time){0};
    copy->volumes_attached.items = NULL; /* the controller's */
    copy->volumes_attached.len = 0;
    struct kp_buf buf = {0};
    kp_json_encode(&k8s_node_status_type, copy, &buf);
    return kp_buf_take(&buf);
}

static int patch_status(struct kubelet_node *node, const struct k8s_node_status *status, struct kp_arena *arena,
                        struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf patch = {0};
    kp_buf_puts(&patch, "{\"status\":");
    kp_json_encode(&k8s_node_status_type, status, &patch);
    if (status->volumes_in_use.len == 0) { /* a list that is left out would stay as it was */
        patch.len--;
        kp_buf_puts(&patch, ",\"volumesInUse\":null}");
    }
    kp_buf_putc(&patch, '}');
    struct client_write_options options = {.subresource = "status", .field_manager = "kubelet"};
    return client_patch(node->kubelet->client, &k8s_nodes_resource, NULL, node->kubelet->config.node_name, CLIENT_PATCH_STRATEGIC,
                        patch.data, patch.len, &options, arena, NULL, error);
}

struct reporter {
    char *last;       /* fingerprint of what was written */
    int64_t last_s;
    bool registered;
};

static int report(struct kubelet_node *node, struct reporter *reporter, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_node *there = NULL;
    struct client_object *cached =
        reporter->registered ? client_informer_get(node->kubelet->node_informer, "", node->kubelet->config.node_name) : NULL;
    int rc = 0;
    if (cached)
        there = cached->data;
    else
        rc = ensure_registered(node, arena, &there, error);
    if (rc == 0) {
        reporter->registered = true;
        struct k8s_node_status *status = make_status(node, there->status, arena);
        char *now = fingerprint(status, arena);
        /* Someone else may have marked the node unready: what the API shows counts. */
        char *seen = there->status ? fingerprint(there->status, arena) : NULL;
        bool same = kp_streq(now, reporter->last) && kp_streq(seen, reporter->last);
        if (!same || kp_now_s() - reporter->last_s >= STATUS_REPORT_S)
            rc = patch_status(node, status, arena, error);
        if (rc == 0 && (!same || kp_now_s() - reporter->last_s >= STATUS_REPORT_S)) {
            reporter->last_s = kp_now_s();
            free(reporter->last);
            reporter->last = now;
        } else {
            free(now);
        }
        free(seen);
    }
    client_object_unref(cached);
    if (rc == KP_ENOTFOUND)
        reporter->registered = false;
    return rc;
}

static void *run_status(void *arg)
{
    struct kubelet *kubelet = arg;
    struct kubelet_node *node = kubelet->node;
    struct reporter reporter = {0};
    while (!kubelet->stopping) {
        struct kp_error error = {0};
        pthread_mutex_lock(&node->lock);
        node->wanted = false;
        pthread_mutex_unlock(&node->lock);
        int rc = report(node, &reporter, &error);
        if (rc < 0)
            kp_warn("writing the node's status failed", "node", kubelet->config.node_name, "error", error.message, NULL);
        int64_t until_ms = kp_mono_ms() + (rc < 0 ? RETRY_MS : kubelet->config.status_frequency_s * 1000);
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_mutex_lock(&node->lock);
        while (!node->wanted && pthread_cond_timedwait(&node->changed, &node->lock, &until) == 0)
            continue;
        pthread_mutex_unlock(&node->lock);
    }
    return NULL;
}

/* ---- the lease ------------------------------------------------------------------------------------------------------- */

static struct kp_time now_micro(void)
{
    int64_t now_ns = kp_now_ns();
    return (struct kp_time){.seconds = now_ns / 1000000000, .nanos = (int32_t)(now_ns % 1000000000), .set = true};
}

static int create_lease(struct kubelet *kubelet, struct kp_arena *arena, struct kp_error *error)
{
    struct k8s_lease *lease = KP_OBJECT_NEW(arena, k8s_lease);
    lease->metadata->name = kubelet->config.node_name;
    lease->metadata->namespace = LEASE_NAMESPACE;
    if (!lease->spec)
        lease->spec = KP_OBJECT_NEW(arena, k8s_lease_spec);
    lease->spec->holder_identity = kubelet->config.node_name;
    KP_SET(lease->spec, lease_duration_seconds, (int32_t)kubelet->config.lease_duration_s);
    lease->spec->renew_time = now_micro();
    struct client_object *node = client_informer_get(kubelet->node_informer, "", kubelet->config.node_name);
    if (node) {
        struct k8s_owner_reference *owner = KP_LIST_ADD(arena, &lease->metadata->owner_references);
        owner->api_version = "v1";
        owner->kind = "Node";
        owner->name = kubelet->config.node_name;
        owner->uid = kp_arena_strdup(arena, node->uid);
        client_object_unref(node);
    }
    return client_create(kubelet->client, &k8s_leases_resource, LEASE_NAMESPACE, lease, NULL, arena, NULL, error);
}

static int renew_lease(struct kubelet *kubelet, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    char stamp[KP_RFC3339_MAX];
    struct kp_time now = now_micro();
    kp_format_rfc3339(stamp, now.seconds, now.nanos, true);
    char *patch = kp_arena_printf(arena, "{\"spec\":{\"holderIdentity\":\"%s\",\"leaseDurationSeconds\":%lld,\"renewTime\":\"%s\"}}",
                                  kubelet->config.node_name, (long long)kubelet->config.lease_duration_s, stamp);
    int rc = client_patch(kubelet->client, &k8s_leases_resource, LEASE_NAMESPACE, kubelet->config.node_name, CLIENT_PATCH_MERGE,
                          patch, strlen(patch), NULL, arena, NULL, error);
    return rc == KP_ENOTFOUND ? create_lease(kubelet, arena, error) : rc;
}

static void *run_lease(void *arg)
{
    struct kubelet *kubelet = arg;
    while (!kubelet->stopping) {
        struct kp_error error = {0};
        int rc = renew_lease(kubelet, &error);
        if (rc < 0)
            kp_warn("renewing the node's lease failed", "node", kubelet->config.node_name, "error", error.message, NULL);
        kp_sleep_ms(rc < 0 ? 1000 : kubelet->config.lease_duration_s * 1000 / 4);
    }
    return NULL;
}

void kubelet_node_start(struct kubelet *kubelet)
{
    kubelet_thread("runtime", watch_runtime, kubelet);
    if (!kubelet->client)
        return;
    kubelet_thread("node-status", run_status, kubelet);
    kubelet_thread("node-lease", run_lease, kubelet);
}
