/* Counted pod versions, walking their containers, QoS class, grace period. */
#include "nodeimage/kubelet/pod_internal.h"

static struct kubelet_pod *pod_new(const struct k8s_pod *data)
{
    struct kubelet_pod *pod = kp_calloc(1, sizeof(*pod));
    pod->refs = 1;
    pod->data = data;
    pod->uid = data->metadata->uid;
    pod->ns = data->metadata->namespace;
    pod->name = data->metadata->name;
    return pod;
}

struct kubelet_pod *kubelet_pod_from_object(struct client_object *object)
{
    struct kubelet_pod *pod = pod_new(object->data);
    pod->object = client_object_ref(object);
    return pod;
}

struct kubelet_pod *kubelet_pod_from_static(const struct k8s_pod *data, struct kp_arena *arena)
{
    struct kubelet_pod *pod = pod_new(data);
    pod->is_static = true;
    pod->arena = arena;
    return pod;
}

struct kubelet_pod *kubelet_pod_ref(struct kubelet_pod *pod)
{
    __atomic_add_fetch(&pod->refs, 1, __ATOMIC_RELAXED);
    return pod;
}

void kubelet_pod_unref(struct kubelet_pod *pod)
{
    if (!pod || __atomic_sub_fetch(&pod->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    client_object_unref(pod->object);
    kp_arena_free(pod->arena);
    free(pod);
}

/* An ephemeral container has a container's fields and more; the pure functions want one type. */
static const struct k8s_container *ephemeral_as_container(const struct k8s_ephemeral_container *e, struct kp_arena *arena)
{
    struct k8s_container *c = KP_NEW(arena, struct k8s_container);
    c->name = e->name;
    c->image = e->image;
    c->command = e->command;
    c->args = e->args;
    c->working_dir = e->working_dir;
    memcpy(&c->env_from, &e->env_from, sizeof(c->env_from));
    memcpy(&c->env, &e->env, sizeof(c->env));
    c->resources = e->resources;
    memcpy(&c->volume_mounts, &e->volume_mounts, sizeof(c->volume_mounts));
    c->termination_message_path = e->termination_message_path;
    c->termination_message_policy = e->termination_message_policy;
    c->image_pull_policy = e->image_pull_policy;
    c->security_context = e->security_context;
    c->stdin = e->stdin;
    c->has_stdin = e->has_stdin;
    c->stdin_once = e->stdin_once;
    c->has_stdin_once = e->has_stdin_once;
    c->tty = e->tty;
    c->has_tty = e->has_tty;
    return c;
}

size_t kubelet_spec_containers(const struct k8s_pod *pod, struct kp_arena *arena, struct kubelet_spec_container **ret_items)
{
    const struct k8s_pod_spec *spec = pod->spec;
    size_t total = spec->init_containers.len + spec->containers.len + spec->ephemeral_containers.len;
    total = KP_MIN(total, KUBELET_CONTAINERS_MAX);
    struct kubelet_spec_container *items = KP_NEW_ARRAY(arena, struct kubelet_spec_container, total + 1);
    size_t n = 0;
    for (size_t i = 0; i < spec->init_containers.len && n < total; i++) {
        const struct k8s_container *c = &spec->init_containers.items[i];
        items[n++] = (struct kubelet_spec_container){
            .kind = KUBELET_INIT, .sidecar = kp_streq(c->restart_policy, "Always"), .index = i, .container = c};
    }
    for (size_t i = 0; i < spec->containers.len && n < total; i++)
        items[n++] = (struct kubelet_spec_container){.kind = KUBELET_MAIN, .index = i, .container = &spec->containers.items[i]};
    for (size_t i = 0; i < spec->ephemeral_containers.len && n < total; i++)
        items[n++] = (struct kubelet_spec_container){
            .kind = KUBELET_EPHEMERAL,
            .index = i,
            .container = ephemeral_as_container(&spec->ephemeral_containers.items[i], arena)};
    *ret_items = items;
    return n;
}

uint64_t kubelet_container_hash(const struct k8s_container *container)
{
    KP_AUTO_BUF struct kp_buf buf = {0};
    kp_buf_printf(&buf, "%s\n%s", container->name ? container->name : "", container->image ? container->image : "");
    return kp_hash64(buf.data, buf.len);
}

static bool quantity_positive(const struct kp_string_map *map, const char *key)
{
    const char *s = map ? kp_string_map_get(map, key) : NULL;
    return s && kp_quantity_str_cmp(s, "0") > 0;
}

/* Adds what one container says to the picture: whether it sets anything, and whether cpu and memory limits equal requests. */
static void qos_look(const struct k8s_container *container, bool *any, bool *guaranteed)
{
    static const char *const names[] = {"cpu", "memory"};
    const struct k8s_resource_requirements *res = container->resources;
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        bool limit = res && quantity_positive(&res->limits, names[i]);
        bool request = res && quantity_positive(&res->requests, names[i]);
        *any = *any || limit || request;
        if (!limit)
            *guaranteed = false;
        else if (request && kp_quantity_str_cmp(kp_string_map_get(&res->limits, names[i]),
                                                kp_string_map_get(&res->requests, names[i])) != 0)
            *guaranteed = false;
    }
}

const char *kubelet_qos_class(const struct k8s_pod *pod)
{
    bool any = false, guaranteed = true;
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        qos_look(&pod->spec->init_containers.items[i], &any, &guaranteed);
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        qos_look(&pod->spec->containers.items[i], &any, &guaranteed);
    if (!any)
        return "BestEffort";
    return guaranteed ? "Guaranteed" : "Burstable";
}

int64_t kubelet_grace_period_s(const struct k8s_pod *pod)
{
    if (pod->metadata->deletion_timestamp.set && pod->metadata->has_deletion_grace_period_seconds)
        return pod->metadata->deletion_grace_period_seconds;
    if (pod->spec->has_termination_grace_period_seconds)
        return pod->spec->termination_grace_period_seconds;
    return 30;
}

bool kubelet_pod_critical(const struct k8s_pod *pod)
{
    const struct kp_string_map *annotations = &pod->metadata->annotations;
    const char *source = kp_string_map_get(annotations, KUBELET_ANNOTATION_CONFIG_SOURCE);
    if ((source && !kp_streq(source, "api")) || kp_string_map_get(annotations, KUBELET_ANNOTATION_CONFIG_MIRROR))
        return true;
    return pod->spec->has_priority && pod->spec->priority >= 2000000000;
}
