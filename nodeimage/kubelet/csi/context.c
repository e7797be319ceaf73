/* What a driver is told when it mounts: names and tokens of the pod, secrets, and whether the group is its affair. */
#include "nodeimage/kubelet/csi/csi_internal.h"

#define PREFIX "csi.storage.k8s.io/"
#define TOKENS_KEY PREFIX "serviceAccount.tokens"
#define TOKEN_EXPIRATION_DEFAULT_S 3600

int csi_secrets(const struct kubelet_getter *getter, const char *ns, const char *name, struct kp_arena *arena, struct kp_string_map *ret,
                struct kp_error *error)
{
    const struct k8s_secret *secret;
    int rc = getter->secret(getter->arg, ns, name, &secret, error);
    if (rc < 0)
        return kp_wrap(error, "failed to find the secret %s in the namespace %s", name, ns);
    for (size_t i = 0; i < secret->data.len; i++) {
        const struct kp_bytes *value = &secret->data.items[i].value;
        kp_string_map_set(arena, ret, secret->data.items[i].key, kp_arena_strndup(arena, (const char *)value->data, value->len));
    }
    return 0;
}

static void pod_names(const struct csi_volume *volume, struct kp_arena *arena, struct kp_string_map *map)
{
    const struct k8s_object_meta *meta = volume->pod->metadata;
    const char *account = volume->pod->spec->service_account_name;
    kp_string_map_set(arena, map, PREFIX "pod.name", meta->name);
    kp_string_map_set(arena, map, PREFIX "pod.namespace", meta->namespace);
    kp_string_map_set(arena, map, PREFIX "pod.uid", meta->uid);
    kp_string_map_set(arena, map, PREFIX "serviceAccount.name", account ? account : "");
    kp_string_map_set(arena, map, PREFIX "ephemeral", volume->ephemeral ? "true" : "false");
}

/* {"<audience>": {"token": ..., "expirationTimestamp": ...}, ...} */
static int pod_tokens(const struct csi_volume *volume, const struct k8s_csi_driver *object, const struct kubelet_getter *getter,
                      struct kp_arena *arena, struct csi_request *request, struct kp_error *error)
{
    struct kp_value *tokens = kp_value_object(arena);
    for (size_t i = 0; i < object->spec->token_requests.len; i++) {
        const struct k8s_storage_token_request *wanted = &object->spec->token_requests.items[i];
        int64_t expiration_s = wanted->has_expiration_seconds ? wanted->expiration_seconds : TOKEN_EXPIRATION_DEFAULT_S;
        const char *audience = wanted->audience ? wanted->audience : "", *token;
        struct kp_value *one = kp_value_object(arena);
        char stamp[KP_RFC3339_MAX];
        int64_t until_s = 0;
        int rc = getter->token(getter->arg, volume->pod, audience, expiration_s, &token, error);
        if (rc < 0)
            return rc;
        if (getter->token_expiry)
            until_s = getter->token_expiry(getter->arg, volume->pod, audience, expiration_s);
        kp_value_set(arena, one, "token", kp_value_string(arena, token));
        kp_format_rfc3339(stamp, until_s, 0, false);
        kp_value_set(arena, one, "expirationTimestamp", until_s ? kp_value_string(arena, stamp) : kp_value_null(arena));
        kp_value_set(arena, tokens, audience, one);
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print_sorted(tokens, &text);
    bool secret = object->spec->has_service_account_token_in_secrets && object->spec->service_account_token_in_secrets;
    kp_string_map_set(arena, secret ? &request->secrets : &request->volume_context, TOKENS_KEY, kp_arena_strdup(arena, text.data));
    return 0;
}

int csi_pod_context(const struct csi_volume *volume, const struct k8s_csi_driver *object, const struct kubelet_getter *getter,
                    struct kp_arena *arena, struct csi_request *request, struct kp_error *error)
{
    if (object && object->spec->pod_info_on_mount)
        pod_names(volume, arena, &request->volume_context);
    if (!object || object->spec->token_requests.len == 0)
        return 0;
    int rc = pod_tokens(volume, object, getter, arena, request, error);
    return rc < 0 ? kp_wrap(error, "mounter.SetUpAt failed to get service accoount token attributes") : 0; /* upstream's spelling */
}

bool csi_wants_group(const struct csi_volume *volume, const struct k8s_csi_driver *object)
{
    const struct k8s_pod_security_context *security = volume->pod->spec->security_context;
    const char *policy = object && !kp_empty(object->spec->fs_group_policy) ? object->spec->fs_group_policy : "ReadWriteOnceWithFSType";
    if (!security || !security->has_fs_group || volume->read_only || kp_streq(policy, "None"))
        return false;
    if (kp_streq(policy, "File"))
        return true;
    if (volume->ephemeral)
        return !kp_empty(volume->ephemeral->fs_type);
    const struct k8s_persistent_volume_spec *spec = volume->persistent->spec;
    bool alone = kp_string_list_has(&spec->access_modes, "ReadWriteOnce") || kp_string_list_has(&spec->access_modes, "ReadWriteOncePod");
    return !kp_empty(spec->csi->fs_type) && alone;
}
