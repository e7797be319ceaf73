/* What expressions of webhooks and policies can name, and what that is for one write (k8s.io/apiserver pkg/admission/plugin/cel). */
#include "controlplane/apiserver/extension/extension_internal.h"

#define MEMORY_SPARE ((size_t)4 << 20) /* for messages */

/* ---- types: made once for each environment, in its arena ------------------------------------------------------------------------------------ */
struct member {
    const char *name;
    const struct cel_type *type;
};

static const struct cel_type *object_type(struct kp_arena *arena, const char *name, const struct member *members, size_t count)
{
    struct cel_field *fields = KP_NEW_ARRAY(arena, struct cel_field, count);
    for (size_t i = 0; i < count; i++)
        fields[i] = (struct cel_field){.name = cel_escape(members[i].name, arena), .key = members[i].name, .type = members[i].type};
    return cel_object(arena, name, fields, count);
}
#define OBJECT_TYPE(arena, name, ...) object_type(arena, name, (const struct member[]){__VA_ARGS__}, KP_ARRAY_LEN(((const struct member[]){__VA_ARGS__})))

static const struct cel_type *request_type(struct kp_arena *arena)
{
    const struct cel_type *strings = cel_list_of(arena, &cel_string);
    const struct cel_type *kind = OBJECT_TYPE(arena, "kubernetes.GroupVersionKind", {"group", &cel_string}, {"version", &cel_string}, {"kind", &cel_string});
    const struct cel_type *resource = OBJECT_TYPE(arena, "kubernetes.GroupVersionResource", {"group", &cel_string}, {"version", &cel_string}, {"resource", &cel_string});
    const struct cel_type *user = OBJECT_TYPE(arena, "kubernetes.UserInfo", {"username", &cel_string}, {"uid", &cel_string}, {"groups", strings},
                                              {"extra", cel_map_of(arena, &cel_string, strings)});
    return OBJECT_TYPE(arena, "kubernetes.AdmissionRequest", {"kind", kind}, {"resource", resource}, {"subResource", &cel_string}, {"requestKind", kind},
                       {"requestResource", resource}, {"requestSubResource", &cel_string}, {"name", &cel_string}, {"namespace", &cel_string},
                       {"operation", &cel_string}, {"userInfo", user}, {"dryRun", &cel_bool}, {"options", &cel_dyn});
}

/* Metadata, spec and status as upstream's namespaceObject has them: without what only clusters' own parts need. */
static const struct cel_type *namespace_type(struct kp_arena *arena)
{
    const struct cel_type *strings = cel_list_of(arena, &cel_string), *map = cel_map_of(arena, &cel_string, &cel_string);
    const struct cel_type *metadata = OBJECT_TYPE(arena, "kubernetes.NamespaceMetadata", {"name", &cel_string}, {"generateName", &cel_string}, {"namespace", &cel_string},
                                                  {"labels", map}, {"annotations", map}, {"UID", &cel_string}, {"creationTimestamp", &cel_timestamp},
                                                  {"deletionGracePeriodSeconds", &cel_int}, {"deletionTimestamp", &cel_timestamp}, {"generation", &cel_int},
                                                  {"resourceVersion", &cel_string}, {"finalizers", strings});
    const struct cel_type *condition = OBJECT_TYPE(arena, "kubernetes.NamespaceCondition", {"status", &cel_string}, {"type", &cel_string},
                                                   {"lastTransitionTime", &cel_timestamp}, {"message", &cel_string}, {"reason", &cel_string});
    const struct cel_type *spec = OBJECT_TYPE(arena, "kubernetes.NamespaceSpec", {"finalizers", strings});
    const struct cel_type *status = OBJECT_TYPE(arena, "kubernetes.NamespaceStatus", {"conditions", cel_list_of(arena, condition)}, {"phase", &cel_string});
    return OBJECT_TYPE(arena, "kubernetes.Namespace", {"metadata", metadata}, {"spec", spec}, {"status", status});
}

const struct cel_env *extension_environment(struct kp_arena *arena, bool params, const struct cel_type *variables)
{
    struct cel_variable *all = KP_NEW_ARRAY(arena, struct cel_variable, EXTENSION_VARIABLE_COUNT);
    const struct cel_library **libraries = KP_NEW_ARRAY(arena, const struct cel_library *, 1);
    struct cel_env *env = KP_NEW(arena, struct cel_env);
    all[EXTENSION_OBJECT] = (struct cel_variable){"object", &cel_dyn};
    all[EXTENSION_OLD_OBJECT] = (struct cel_variable){"oldObject", &cel_dyn};
    all[EXTENSION_REQUEST] = (struct cel_variable){"request", request_type(arena)};
    all[EXTENSION_NAMESPACE] = (struct cel_variable){"namespaceObject", namespace_type(arena)};
    all[EXTENSION_AUTHORIZER] = (struct cel_variable){"authorizer", extension_authorizer_type()};
    /* What is not declared has a name that no expression can write, so that each has its place. */
    all[EXTENSION_PARAMS] = (struct cel_variable){params ? "params" : "-params", &cel_dyn};
    all[EXTENSION_VARIABLES] = (struct cel_variable){variables ? "variables" : "-variables", variables ? variables : &cel_dyn};
    libraries[0] = extension_authorizer_library();
    *env = (struct cel_env){.variables = all, .n_variables = EXTENSION_VARIABLE_COUNT, .libraries = libraries, .n_libraries = 1};
    return env;
}

/* ---- values ----------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value tree_of(const struct kp_type *type, const void *obj, struct kp_arena *arena)
{
    return obj ? cel_of_tree(kp_value_from_object(type, obj, arena), &cel_dyn, arena) : cel_of_null();
}

/* The request without its objects, and with every member that the type declares and that has a zero: expressions may ask for them without has(). */
static const struct kp_value *request_tree(const struct extension_request *request, struct kp_arena *arena)
{
    static const char *const texts[] = {"subResource", "requestSubResource", "name", "namespace"};
    static const char *const of_user[] = {"username", "uid"};
    struct k8s_admission_request bare = request->request;
    bare.object = bare.old_object = (struct kp_raw){0};
    struct kp_value *tree = kp_value_from_object(&k8s_admission_request_type, &bare, arena);
    struct kp_value *user = kp_value_get(tree, "userInfo");
    kp_value_remove(tree, "object");
    kp_value_remove(tree, "oldObject");
    kp_value_remove(tree, "uid");
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++)
        if (!kp_value_get(tree, texts[i]))
            kp_value_set(arena, tree, texts[i], kp_value_string(arena, ""));
    for (size_t i = 0; i < KP_ARRAY_LEN(of_user); i++)
        if (user && !kp_value_get(user, of_user[i]))
            kp_value_set(arena, user, of_user[i], kp_value_string(arena, ""));
    return tree;
}

void extension_values(const struct admission_attributes *a, const struct extension_request *request, struct auth *auth, const struct kp_value *namespace_object,
                      const struct kp_value *params, struct kp_arena *arena, struct cel_value values[EXTENSION_VARIABLE_COUNT])
{
    values[EXTENSION_OBJECT] = tree_of(request->type, request->object, arena);
    values[EXTENSION_OLD_OBJECT] = tree_of(request->type, request->old, arena);
    values[EXTENSION_REQUEST] = cel_of_tree(request_tree(request, arena), request_type(arena), arena);
    values[EXTENSION_NAMESPACE] = namespace_object ? cel_of_tree(namespace_object, namespace_type(arena), arena) : cel_of_null();
    values[EXTENSION_AUTHORIZER] = extension_authorizer_value(a, auth, arena);
    values[EXTENSION_PARAMS] = params ? cel_of_tree(params, &cel_dyn, arena) : cel_of_null();
    values[EXTENSION_VARIABLES] = (struct cel_value){.kind = CEL_UNSET};
}

const struct kp_value *extension_namespace_object(const struct admission_attributes *a, struct wcache *namespaces, struct kp_arena *arena)
{
    struct kp_value *tree = NULL;
    if (kp_empty(a->ns) || !a->resource->namespaced)
        return NULL;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(namespaces, a->ns);
    if (!object || kp_value_parse((const char *)object->json->data, object->json->len, arena, NULL, &tree, NULL) < 0)
        return NULL;
    struct kp_value *metadata = kp_value_get(tree, "metadata"), *uid = kp_value_get(metadata, "uid");
    if (uid)
        kp_value_set(arena, metadata, "UID", uid);
    return tree;
}

struct cel_value extension_evaluate(const struct cel_program *program, const struct cel_value *values, struct kp_arena *arena, uint64_t *left)
{
    uint64_t cost = 0;
    if (kp_arena_used(arena) + CEL_MEMORY_MAX + MEMORY_SPARE > EXTENSION_ARENA_MAX)
        return (struct cel_value){.kind = CEL_ERROR, .error = "operation cancelled: the expressions about this request use too much memory"};
    struct cel_value value = cel_evaluate(program, values, arena, KP_MIN(*left, (uint64_t)CEL_CALL_COST_MAX), &cost);
    *left -= KP_MIN(*left, cost);
    return value;
}
