/* Bodies and patches of custom resources: trees that their schema prunes before they become objects. */
#include "controlplane/apiserver/http/http_internal.h"

static int bad(struct api_request *ar, const char *why)
{
    return status_bad_request(&ar->status, "the object provided is unrecognized (must be of type %s): %s", ar->resource->kind, why);
}

static int parse(struct api_request *ar, enum output_form form, struct kp_string_list *problems, struct kp_value **ret)
{
    struct kp_error error = {0};
    const char *text = (const char *)ar->http->body.data;
    size_t len = ar->http->body.len, count = 0;
    struct kp_value **documents = NULL;
    int code;
    if (form == OUT_YAML) {
        code = kp_yaml_parse(text, len, ar->arena, &documents, &count, &error);
        *ret = code == 0 && count == 1 ? documents[0] : NULL;
    } else {
        code = kp_value_parse(text, len, ar->arena, problems, ret, &error);
    }
    if (code == KP_ETOOLARGE)
        return status_fail(&ar->status, code, 413, "RequestEntityTooLarge", "%s", error.message);
    if (code < 0)
        return bad(ar, error.message);
    return *ret && (*ret)->kind == KP_VALUE_OBJECT ? 0 : bad(ar, "one object is wanted");
}

static int check_kind(struct api_request *ar, const struct kp_value *object)
{
    char expected[KP_API_VERSION_MAX];
    const char *api_version = kp_value_str(kp_value_get(object, "apiVersion")), *kind = kp_value_str(kp_value_get(object, "kind"));
    kp_type_api_version(ar->resource->type, expected);
    if (kp_empty(kind) || kp_empty(api_version))
        return bad(ar, kp_empty(kind) ? "Object 'Kind' is missing" : "Object 'apiVersion' is missing");
    if (!kp_streq(api_version, expected))
        return status_bad_request(&ar->status, "the API version in the data (%s) does not match the expected API version (%s)", api_version, expected);
    if (!kp_streq(kind, ar->resource->kind))
        return status_bad_request(&ar->status, "the kind in the data (%s) does not match the expected kind (%s)", kind, ar->resource->kind);
    return 0;
}

static int to_object(struct api_request *ar, struct kp_value *object, void **ret_obj)
{
    struct field_errors errors = {.arena = ar->arena};
    struct kp_error error = {0};
    if (registry_custom_decode(ar->resource, object, ar->arena, ret_obj, &errors, &error) == 0)
        return 0;
    const char *name = kp_value_str(kp_value_path(object, "metadata", "name", NULL));
    int code = status_invalid(&ar->status, ar->resource->group, ar->resource->kind, name ? name : "", &errors);
    return code < 0 ? code : bad(ar, error.message);
}

int decode_custom_body(struct api_request *ar, void **ret_obj)
{
    enum output_form form;
    struct kp_string_list problems = {0};
    struct kp_value *object = NULL;
    if (negotiate_body(ar, true, &form) < 0 || parse(ar, form, &problems, &object) < 0 || check_kind(ar, object) < 0)
        return ar->status.code;
    registry_custom_prune(ar->resource, object, ar->arena, &problems);
    if (report_problems(ar, ar->resource->type, &problems) < 0)
        return ar->status.code;
    return to_object(ar, object, ret_obj);
}

int prune_patched(struct api_request *ar, void **obj, struct kp_string_list *problems)
{
    struct kp_value *object = kp_value_from_object(ar->resource->type, *obj, ar->arena);
    size_t before = problems->len;
    registry_custom_prune(ar->resource, object, ar->arena, problems);
    return problems->len == before ? 0 : to_object(ar, object, obj);
}
