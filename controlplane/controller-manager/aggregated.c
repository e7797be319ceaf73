/* Discovery of aggregated API servers, one group version after the other. */
#include "controlplane/controller-manager/aggregated.h"

static bool is_available(const struct k8s_api_service *service)
{
    for (size_t i = 0; i < service->status->conditions.len; i++)
        if (kp_streq(service->status->conditions.items[i].type, "Available"))
            return kp_streq(service->status->conditions.items[i].status, "True");
    return false;
}

static unsigned verbs_of(const struct kp_string_list *names)
{
    unsigned verbs = 0;
    for (int bit = 0; bit < KP_VERB_COUNT; bit++)
        if (kp_string_list_has(names, kp_verb_name((enum kp_verb)(1u << bit))))
            verbs |= 1u << bit;
    return verbs;
}

static void add_resource(const struct k8s_api_service_spec *spec, const struct k8s_api_resource *found, struct kp_arena *arena, struct aggregated *ret)
{
    static const char *const none[] = {NULL};
    unsigned verbs = verbs_of(&found->verbs), needed = KP_VERB_LIST | KP_VERB_DELETE;
    if (!found->namespaced || kp_empty(found->name) || strchr(found->name, '/') || (verbs & needed) != needed || ret->resources.len == AGGREGATED_RESOURCES_MAX)
        return;
    struct kp_resource *resource = KP_LIST_ADD(arena, &ret->resources);
    *resource = (struct kp_resource){
        .group = spec->group, .version = spec->version, .name = found->name, .singular = "", .kind = found->kind ? found->kind : "", .short_names = none,
        .categories = none, .namespaced = true, .verbs = verbs, .type = &k8s_partial_object_metadata_type, .list_type = &k8s_partial_object_metadata_list_type,
    };
}

static int ask(const struct plan_input *in, const struct k8s_api_service_spec *spec, struct aggregated *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    void *list;
    const char *path = kp_arena_printf(in->arena, "/apis/%s/%s", spec->group, spec->version);
    if (client_raw(engine_client(in->engine), "GET", path, NULL, NULL, 0, &out, NULL, error) < 0 ||
        kp_json_decode(&k8s_api_resource_list_type, out.data ? out.data : "", out.len, in->arena, NULL, &list, error) < 0)
        return error->code;
    const struct k8s_api_resource_list *resources = list;
    for (size_t i = 0; i < resources->resources.len; i++)
        add_resource(spec, &resources->resources.items[i], in->arena, ret);
    return 0;
}

static void add_failure(const struct k8s_api_service_spec *spec, const char *why, struct kp_arena *arena, struct aggregated *ret)
{
    ret->why = kp_arena_printf(arena, "%s%s%s/%s: %s", ret->why ? ret->why : "", ret->why ? ", " : "", spec->group, spec->version, why);
    ret->failed++;
}

void aggregated_discover(const struct plan_input *in, struct aggregated *ret)
{
    const void *const *items;
    size_t count = client_view_list(in->view, engine_cache(in->engine, &k8s_apiservices_resource), NULL, &items);
    *ret = (struct aggregated){0};
    for (size_t i = 0; i < count; i++) {
        const struct k8s_api_service *service = items[i];
        const struct k8s_api_service_spec *spec = service->spec;
        struct kp_error error = {0};
        if (!spec->service || kp_empty(spec->group))
            continue;
        if (!is_available(service))
            add_failure(spec, kp_arena_printf(in->arena, "stale GroupVersion discovery: %s/%s", spec->group, spec->version), in->arena, ret);
        else if (ask(in, spec, ret, &error) < 0)
            add_failure(spec, error.message, in->arena, ret);
    }
}
