/* What admission does to new pods: service account and its token, priority, tolerations. */
#include "controlplane/apiserver/admission/admission_internal.h"

#define TOKEN_VOLUME_PREFIX "kube-api-access-"
#define TOKEN_MOUNT_PATH "/var/run/secrets/kubernetes.io/serviceaccount"
#define TOKEN_EXPIRATION_S (60 * 60 + 7) /* upstream: an hour and seven seconds, so that it can be told apart */
#define TOLERATION_SECONDS 300
#define ACCOUNT_WAIT_MS 10
#define ACCOUNT_TRIES 10

static bool is_new_pod(const struct admission_attributes *a)
{
    return a->operation == ADMISSION_CREATE && admission_is(a, "", "pods", "");
}

static bool is_mirror(const struct k8s_pod *pod)
{
    return kp_string_map_get(&pod->metadata->annotations, "kubernetes.io/config.mirror") != NULL;
}

/* ---- ServiceAccount ------------------------------------------------------------------------------------------------------ */
static struct k8s_volume_projection *add_source(struct kp_arena *arena, struct k8s_volume *volume)
{
    return KP_LIST_ADD(arena, &volume->projected->sources);
}

static const char *add_token_volume(struct kp_arena *arena, struct k8s_pod_spec *spec)
{
    char suffix[6];
    kp_random_suffix(suffix, 5);
    struct k8s_volume *volume = KP_LIST_ADD(arena, &spec->volumes);
    volume->name = kp_arena_printf(arena, TOKEN_VOLUME_PREFIX "%s", suffix);
    volume->projected = KP_OBJECT_NEW(arena, k8s_projected_volume_source);
    KP_SET(volume->projected, default_mode, 0644);
    struct k8s_volume_projection *token = add_source(arena, volume);
    token->service_account_token = KP_OBJECT_NEW(arena, k8s_service_account_token_projection);
    token->service_account_token->path = "token";
    KP_SET(token->service_account_token, expiration_seconds, TOKEN_EXPIRATION_S);
    struct k8s_volume_projection *ca = add_source(arena, volume);
    ca->config_map = KP_OBJECT_NEW(arena, k8s_config_map_projection);
    ca->config_map->name = "kube-root-ca.crt";
    struct k8s_key_to_path *item = KP_LIST_ADD(arena, &ca->config_map->items);
    item->key = item->path = "ca.crt";
    struct k8s_volume_projection *ns = add_source(arena, volume);
    ns->downward_api = KP_OBJECT_NEW(arena, k8s_downward_api_projection);
    struct k8s_downward_api_volume_file *file = KP_LIST_ADD(arena, &ns->downward_api->items);
    file->path = "namespace";
    file->field_ref = KP_OBJECT_NEW(arena, k8s_object_field_selector);
    file->field_ref->api_version = "v1";
    file->field_ref->field_path = "metadata.namespace";
    return volume->name;
}

static bool mounts_token(const struct k8s_container *container)
{
    for (size_t i = 0; i < container->volume_mounts.len; i++)
        if (kp_streq(container->volume_mounts.items[i].mount_path, TOKEN_MOUNT_PATH))
            return true;
    return false;
}

static void mount_token(struct kp_arena *arena, struct k8s_pod_spec *spec)
{
    struct k8s_container_items *lists[] = {&spec->init_containers, &spec->containers};
    const char *volume = NULL;
    for (size_t i = 0; i < spec->volumes.len && !volume; i++)
        if (kp_starts_with(spec->volumes.items[i].name, TOKEN_VOLUME_PREFIX))
            volume = spec->volumes.items[i].name;
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++) {
            struct k8s_container *container = &lists[l]->items[i];
            if (mounts_token(container))
                continue;
            if (!volume)
                volume = add_token_volume(arena, spec);
            struct k8s_volume_mount *mount = KP_LIST_ADD(arena, &container->volume_mounts);
            mount->name = volume;
            mount->read_only = true;
            mount->mount_path = TOKEN_MOUNT_PATH;
        }
}

int admission_service_account(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (!is_new_pod(a))
        return 0;
    struct k8s_pod *pod = a->object;
    if (is_mirror(pod)) {
        if (!kp_empty(pod->spec->service_account_name))
            return status_forbidden(status, "", "pods", a->name, "a mirror pod may not reference service accounts");
        return 0;
    }
    if (kp_empty(pod->spec->service_account_name))
        pod->spec->service_account_name = "default";
    pod->spec->service_account = pod->spec->service_account_name;
    struct k8s_service_account *account = NULL;
    for (int i = 0; i < ACCOUNT_TRIES && !account; i++) { /* made by a controller moments after the namespace */
        account = admission_load(admission->accounts, &k8s_service_account_type, a->ns, pod->spec->service_account_name, a->arena);
        if (!account)
            kp_sleep_ms(ACCOUNT_WAIT_MS << i >> (i / 2));
    }
    if (!account)
        return status_forbidden(status, "", "pods", a->name, "error looking up service account %s/%s: serviceaccount \"%s\" not found", a->ns,
                                pod->spec->service_account_name, pod->spec->service_account_name);
    bool automount = true;
    if (pod->spec->has_automount_service_account_token)
        automount = pod->spec->automount_service_account_token;
    else if (account->has_automount_service_account_token)
        automount = account->automount_service_account_token;
    if (automount)
        mount_token(a->arena, pod->spec);
    if (pod->spec->image_pull_secrets.len == 0)
        pod->spec->image_pull_secrets = account->image_pull_secrets;
    return 0;
}

/* ---- Priority -------------------------------------------------------------------------------------------------------------- */
struct builtin_class {
    const char *name;
    int32_t value;
};
static const struct builtin_class system_classes[] = {
    {"system-node-critical", 2000001000},
    {"system-cluster-critical", 2000000000},
};

static int default_class(struct admission *admission, struct admission_attributes *a, const struct k8s_priority_class **ret)
{
    struct wcache_list list;
    *ret = NULL;
    wcache_list(admission->priority_classes, &(const struct wcache_filter){0}, NULL, 0, a->arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        void *decoded;
        struct kp_error error = {0};
        if (kp_json_decode(&k8s_priority_class_type, (const char *)list.items[i]->json->data, list.items[i]->json->len, a->arena, NULL, &decoded, &error) < 0)
            continue;
        const struct k8s_priority_class *class = decoded;
        if (class->global_default && (!*ret || class->value < (*ret)->value))
            *ret = class;
    }
    wcache_list_done(&list);
    return 0;
}

int admission_priority(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (!is_new_pod(a))
        return 0;
    struct k8s_pod *pod = a->object;
    const struct k8s_priority_class *class = NULL;
    const char *name = pod->spec->priority_class_name, *preemption = "PreemptLowerPriority";
    int32_t value = 0;
    bool found = false;
    for (size_t i = 0; i < KP_ARRAY_LEN(system_classes) && !found; i++)
        if (kp_streq(system_classes[i].name, name)) {
            value = system_classes[i].value;
            found = true;
        }
    if (!found) {
        if (kp_empty(name))
            default_class(admission, a, &class);
        else if (!(class = admission_load(admission->priority_classes, &k8s_priority_class_type, "", name, a->arena)))
            return status_forbidden(status, "", "pods", a->name, "no PriorityClass with name %s was found", name);
        if (class) {
            pod->spec->priority_class_name = class->metadata->name;
            value = class->value;
            if (!kp_empty(class->preemption_policy))
                preemption = class->preemption_policy;
        }
    }
    if (pod->spec->has_priority && pod->spec->priority != value)
        return status_forbidden(status, "", "pods", a->name,
                                "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name",
                                pod->spec->priority, value);
    if (!kp_empty(pod->spec->preemption_policy) && strcmp(pod->spec->preemption_policy, preemption) != 0)
        return status_forbidden(status, "", "pods", a->name,
                                "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name",
                                pod->spec->preemption_policy, preemption);
    KP_SET(pod->spec, priority, value);
    pod->spec->preemption_policy = preemption;
    return 0;
}

/* ---- DefaultTolerationSeconds ------------------------------------------------------------------------------------------------- */
static void tolerate(struct kp_arena *arena, struct k8s_pod_spec *spec, const char *key)
{
    for (size_t i = 0; i < spec->tolerations.len; i++) {
        const struct k8s_toleration *t = &spec->tolerations.items[i];
        if ((kp_streq(t->key, key) || kp_empty(t->key)) && (kp_streq(t->effect, "NoExecute") || kp_empty(t->effect)))
            return;
    }
    struct k8s_toleration *toleration = KP_LIST_ADD(arena, &spec->tolerations);
    toleration->key = key;
    toleration->operator= "Exists";
    toleration->effect = "NoExecute";
    KP_SET(toleration, toleration_seconds, TOLERATION_SECONDS);
}

int admission_default_tolerations(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (!is_new_pod(a))
        return 0;
    struct k8s_pod *pod = a->object;
    tolerate(a->arena, pod->spec, "node.kubernetes.io/not-ready");
    tolerate(a->arena, pod->spec, "node.kubernetes.io/unreachable");
    return 0;
}
