/* What a webhook or policy is told of a write: upstream's AdmissionRequest. */
#include "controlplane/apiserver/extension/extension.h"

static struct k8s_group_version_kind *kind_of(struct kp_arena *arena, const struct kp_type *type)
{
    struct k8s_group_version_kind *kind = KP_NEW(arena, struct k8s_group_version_kind);
    *kind = (struct k8s_group_version_kind){.group = type->group, .version = type->version, .kind = type->kind};
    return kind;
}

static struct k8s_group_version_resource *resource_of(struct kp_arena *arena, const struct kp_resource *resource)
{
    struct k8s_group_version_resource *r = KP_NEW(arena, struct k8s_group_version_resource);
    *r = (struct k8s_group_version_resource){.group = resource->group, .version = resource->version, .resource = resource->name};
    return r;
}

static struct kp_raw raw_of(struct kp_arena *arena, const struct kp_type *type, const void *body)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    if (!body)
        return (struct kp_raw){0};
    kp_json_encode(type, body, &json);
    return (struct kp_raw){kp_arena_strndup(arena, json.data, json.len), json.len};
}

static struct kp_raw options_of(const struct admission_attributes *a)
{
    static const char *const kinds[] = {[ADMISSION_CREATE] = "CreateOptions", [ADMISSION_UPDATE] = "UpdateOptions"};
    KP_AUTO_BUF struct kp_buf json = {0};
    if (a->operation == ADMISSION_DELETE)
        return a->delete_options;
    if (a->operation == ADMISSION_CONNECT)
        return (struct kp_raw){0};
    kp_buf_printf(&json, "{\"kind\":\"%s\",\"apiVersion\":\"meta.k8s.io/v1\"", kinds[a->operation]);
    if (a->dry_run)
        kp_buf_puts(&json, ",\"dryRun\":[\"All\"]");
    if (!kp_empty(a->field_manager)) {
        kp_buf_puts(&json, ",\"fieldManager\":");
        kp_json_string(&json, a->field_manager);
    }
    kp_buf_puts(&json, "}");
    return (struct kp_raw){kp_arena_strndup(a->arena, json.data, json.len), json.len};
}

static struct k8s_user_info *user_of(const struct admission_attributes *a)
{
    struct k8s_user_info *user = KP_NEW(a->arena, struct k8s_user_info);
    *user = (struct k8s_user_info){.username = a->user->name, .uid = a->user->uid, .groups = a->user->groups, .extra = a->user->extra};
    return user;
}

bool extension_request_make(const struct admission_attributes *a, const struct kp_resource *resource, const struct admission_views *views,
                            struct extension_request *ret)
{
    const struct kp_type *request_type;
    const void *ignored;
    if (!views->view(a, resource, a->object, &ret->type, &ret->object) || !views->view(a, resource, a->old_object, &ret->type, &ret->old) ||
        !views->view(a, a->resource, NULL, &request_type, &ignored))
        return false;
    ret->request = (struct k8s_admission_request){.kind = kind_of(a->arena, ret->type),
                                                  .resource = resource_of(a->arena, resource),
                                                  .sub_resource = a->subresource,
                                                  .request_kind = kind_of(a->arena, request_type),
                                                  .request_resource = resource_of(a->arena, a->resource),
                                                  .request_sub_resource = a->subresource,
                                                  .name = a->name,
                                                  .namespace = extension_namespace(a),
                                                  .operation = extension_operation(a->operation),
                                                  .user_info = user_of(a),
                                                  .object = raw_of(a->arena, ret->type, ret->object),
                                                  .old_object = raw_of(a->arena, ret->type, ret->old),
                                                  .options = options_of(a)};
    KP_SET(&ret->request, dry_run, a->dry_run);
    return true;
}
