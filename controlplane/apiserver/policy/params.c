/* The objects that a binding hands to its policy as `params` (k8s.io/apiserver pkg/admission/plugin/policy/generic: CollectParams). */
#include "controlplane/apiserver/policy/policy_internal.h"

#define PARAMS_BYTES_MAX ((size_t)128 << 20) /* decoded */

/* apps/v1 -> group and version, which lies in arena. */
static const struct kp_resource *resource_of(const struct k8s_param_kind *kind, struct kp_arena *arena)
{
    const char *slash = kind->api_version ? strchr(kind->api_version, '/') : NULL;
    const char *group = slash ? kp_arena_strndup(arena, kind->api_version, (size_t)(slash - kind->api_version)) : "";
    return kp_resource_find_kind(group, slash ? slash + 1 : kind->api_version ? kind->api_version : "", kind->kind ? kind->kind : "");
}

static int read_tree(const struct wcache_object *object, const struct k8s_param_kind *kind, struct kp_arena *arena, const struct kp_value **ret, struct kp_error *error)
{
    struct kp_value *tree;
    if (kp_arena_used(arena) > PARAMS_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "the parameters of one binding take more than %zu bytes", PARAMS_BYTES_MAX);
    if (kp_value_parse((const char *)object->json->data, object->json->len, arena, NULL, &tree, error) < 0)
        return error->code;
    kp_value_set(arena, tree, "apiVersion", kp_value_string(arena, kind->api_version)); /* versions differ by their name alone */
    *ret = tree;
    return 0;
}

static int none_found(const struct k8s_param_ref *ref, size_t *ret_count, struct kp_error *error)
{
    *ret_count = 0;
    if (kp_streq(ref->parameter_not_found_action, "Deny"))
        return kp_fail(error, KP_EINVALID, "no params found for policy binding with `Deny` parameterNotFoundAction");
    return 0;
}

static int find_namespace(const struct k8s_param_ref *ref, const struct kp_resource *resource, const struct admission_attributes *a, const char **ret, struct kp_error *error)
{
    *ret = "";
    if (!resource->namespaced && !kp_empty(ref->namespace))
        return kp_fail(error, KP_EINVALID, "paramRef.namespace must not be provided for a cluster-scoped `paramKind`");
    if (!resource->namespaced)
        return 0;
    *ret = kp_empty(ref->namespace) ? a->ns : ref->namespace;
    if (kp_empty(*ret))
        return kp_fail(error, KP_EINVALID, "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources");
    return 0;
}

static int find_named(struct wcache *cache, const struct k8s_param_kind *kind, const struct k8s_param_ref *ref, const char *ns, struct kp_arena *arena,
                      const struct kp_value **ret, size_t *ret_count, struct kp_error *error)
{
    const char *key = *ns ? kp_arena_printf(arena, "%s/%s", ns, ref->name) : ref->name;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache, key);
    if (!object)
        return none_found(ref, ret_count, error);
    *ret_count = 1;
    return read_tree(object, kind, arena, ret, error);
}

static int find_selected(struct wcache *cache, const struct k8s_param_kind *kind, const struct k8s_param_ref *ref, const char *ns, struct kp_arena *arena,
                         const struct kp_value ***ret, size_t *ret_count, struct kp_error *error)
{
    struct kp_selector selector = {0};
    struct wcache_list list;
    if (kp_label_selector_from(ref->selector, arena, &selector, error) < 0)
        return error->code;
    const struct wcache_filter filter = {.ns = ns, .labels = &selector};
    wcache_list(cache, &filter, NULL, POLICY_PARAMS_MAX, arena, &list);
    *ret = KP_NEW_ARRAY(arena, const struct kp_value *, list.len + 1);
    *ret_count = list.len;
    int code = 0;
    for (size_t i = 0; i < list.len && code == 0; i++)
        code = read_tree(list.items[i], kind, arena, &(*ret)[i], error);
    if (code == 0 && list.next)
        code = kp_fail(error, KP_ETOOLARGE, "more than %d objects are parameters of one binding", POLICY_PARAMS_MAX);
    wcache_list_done(&list);
    return code == 0 && !*ret_count ? none_found(ref, ret_count, error) : code;
}

int policy_params(struct policies *policies, const struct policy_hook *hook, const struct admission_attributes *a, struct kp_arena *arena,
                  const struct kp_value ***ret_params, size_t *ret_count, struct kp_error *error)
{
    const struct k8s_param_kind *kind = hook->policy->source->spec->param_kind;
    const struct k8s_param_ref *ref = hook->binding->source->spec->param_ref;
    const char *ns;
    *ret_params = KP_NEW_ARRAY(arena, const struct kp_value *, 1);
    *ret_count = 1;
    if (!kind || !ref)
        return 0;
    const struct kp_resource *resource = resource_of(kind, arena);
    struct wcache *cache = resource ? wcache_find(policies->config.caches, resource->group, resource->name) : NULL;
    if (!cache)
        return kp_fail(error, KP_EINVALID, "failed to find resource referenced by paramKind: '%s, Kind=%s'", kind->api_version, kind->kind);
    if (find_namespace(ref, resource, a, &ns, error) < 0)
        return error->code;
    if (!kp_empty(ref->name))
        return find_named(cache, kind, ref, ns, arena, *ret_params, ret_count, error);
    return find_selected(cache, kind, ref, ns, arena, ret_params, ret_count, error);
}
