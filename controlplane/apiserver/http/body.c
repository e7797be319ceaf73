/* Request bodies: decoding, strictness, and delete options from body and query. */
#include "controlplane/apiserver/http/http_internal.h"

/* What a body may take in memory: a write holds several copies and trees of it, and a request's arena ends the process when it is full. A schema of
   three megabytes would take two hundred. */
#define DECODED_BYTES_MAX ((size_t)32 << 20)

const char *query_of(struct api_request *ar, const char *name)
{
    return http_request_query(ar->http, name);
}

bool query_true(struct api_request *ar, const char *name)
{
    const char *value = query_of(ar, name);
    return value && (!*value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

enum registry_validation field_validation(struct api_request *ar, int *ret_code)
{
    const char *value = query_of(ar, "fieldValidation");
    *ret_code = 0;
    if (kp_empty(value) || strcmp(value, "Warn") == 0)
        return REGISTRY_WARN;
    if (strcmp(value, "Strict") == 0)
        return REGISTRY_STRICT;
    if (strcmp(value, "Ignore") == 0)
        return REGISTRY_IGNORE;
    struct field_errors errors = {.arena = ar->arena};
    field_not_supported(&errors, value, (const char *const[]){"Ignore", "Strict", "Warn", NULL}, "fieldValidation");
    *ret_code = status_invalid(&ar->status, "meta.k8s.io", "CreateOptions", "", &errors);
    return REGISTRY_WARN;
}

static int cannot_handle(struct api_request *ar, const struct kp_type *type, const char *why)
{
    return status_bad_request(&ar->status, "%s in version \"%s\" cannot be handled as a %s: %s", type->name, type->version, type->name, why);
}

int report_problems(struct api_request *ar, const struct kp_type *type, const struct kp_string_list *problems)
{
    int code;
    enum registry_validation validation = field_validation(ar, &code);
    if (code < 0)
        return code;
    if (!problems->len || validation == REGISTRY_IGNORE)
        return 0;
    if (validation == REGISTRY_WARN) {
        for (size_t i = 0; i < problems->len; i++)
            kp_string_list_add(ar->arena, &ar->rq.warnings, problems->items[i]);
        return 0;
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_puts(&text, "strict decoding error: ");
    for (size_t i = 0; i < problems->len; i++)
        kp_buf_printf(&text, "%s%s", i ? ", " : "", problems->items[i]);
    return cannot_handle(ar, type, text.data);
}

static int check_kind(struct api_request *ar, const struct kp_type *type, const struct kp_decode *decode)
{
    char expected[KP_API_VERSION_MAX];
    kp_type_api_version(type, expected);
    if (!kp_empty(decode->api_version) && strcmp(decode->api_version, expected) != 0)
        return status_bad_request(&ar->status, "the API version in the data (%s) does not match the expected API version (%s)", decode->api_version,
                                  expected);
    if (!kp_empty(decode->kind) && strcmp(decode->kind, type->name) != 0)
        return status_bad_request(&ar->status, "%s in version \"%s\" cannot be handled as a %s: no kind \"%s\" is registered for version \"%s\" here",
                                  decode->kind, type->version, type->name, decode->kind, expected);
    return 0;
}

static int decode_as(struct api_request *ar, const struct kp_type *type, void **ret_obj)
{
    enum output_form form;
    struct kp_error error = {0};
    struct kp_decode decode = {.strict = true};
    const char *text = (const char *)ar->http->body.data;
    size_t len = ar->http->body.len;
    if (ar->resource->custom && type == ar->resource->type)
        return decode_custom_body(ar, ret_obj);
    if (negotiate_body(ar, false, &form) < 0)
        return ar->status.code;
    int code;
    if (form == OUT_PROTO)
        code = kp_proto_decode_object(type, text, len, ar->arena, &decode, NULL, ret_obj, &error);
    else if (form == OUT_YAML)
        code = kp_yaml_decode(type, text, len, ar->arena, &decode, ret_obj, &error);
    else
        code = kp_json_decode(type, text, len, ar->arena, &decode, ret_obj, &error);
    if (code == KP_ETOOLARGE)
        return status_fail(&ar->status, code, 413, "RequestEntityTooLarge", "%s", error.message);
    if (code < 0)
        return cannot_handle(ar, type, error.message);
    if (check_kind(ar, type, &decode) < 0)
        return ar->status.code;
    return report_problems(ar, type, &decode.problems);
}

int check_decoded(struct api_request *ar, size_t before, size_t max)
{
    size_t used = kp_arena_used(ar->arena) - before;
    if (used <= max)
        return 0;
    return status_fail(&ar->status, KP_ETOOLARGE, 413, "RequestEntityTooLarge", "the object takes %zu bytes of memory, the limit is %zu: make it smaller", used, max);
}

int decode_body(struct api_request *ar, const struct kp_type *type, void **ret_obj)
{
    size_t before = kp_arena_used(ar->arena);
    int code = decode_as(ar, type, ret_obj);
    if (code == 0)
        code = check_decoded(ar, before, DECODED_BYTES_MAX);
    if (code == 0 && ar->audit)
        api_audit_request_object(ar, type, *ret_obj);
    return code;
}

static int options_from_query(struct api_request *ar, struct k8s_delete_options *options)
{
    const char *grace = query_of(ar, "gracePeriodSeconds"), *policy = query_of(ar, "propagationPolicy"), *orphan = query_of(ar, "orphanDependents");
    if (grace) {
        int64_t seconds;
        if (kp_parse_i64(grace, &seconds) < 0)
            return status_bad_request(&ar->status, "strconv.ParseInt: parsing \"%s\": invalid syntax", grace);
        KP_SET(options, grace_period_seconds, seconds);
    }
    if (!kp_empty(policy))
        options->propagation_policy = policy;
    if (orphan)
        KP_SET(options, orphan_dependents, strcmp(orphan, "true") == 0);
    return 0;
}

int decode_delete_options(struct api_request *ar, struct k8s_delete_options **ret_options)
{
    struct k8s_delete_options *options = KP_OBJECT_NEW(ar->arena, k8s_delete_options);
    *ret_options = options;
    if (!ar->http->body.len)
        return options_from_query(ar, options);
    enum output_form form;
    struct kp_error error = {0};
    void *obj = NULL;
    if (negotiate_body(ar, false, &form) < 0)
        return ar->status.code;
    /* The body may call itself DeleteOptions of any group: upstream's clients do. */
    int code = form == OUT_PROTO ? kp_proto_decode_object(&k8s_delete_options_type, ar->http->body.data, ar->http->body.len, ar->arena, NULL, NULL, &obj, &error)
                                 : kp_yaml_decode(&k8s_delete_options_type, (const char *)ar->http->body.data, ar->http->body.len, ar->arena, NULL, &obj, &error);
    if (code < 0)
        return status_bad_request(&ar->status, "DeleteOptions cannot be decoded: %s", error.message);
    *ret_options = obj;
    if (ar->audit)
        api_audit_request_object(ar, &k8s_delete_options_type, obj);
    if ((*ret_options)->dry_run.len)
        ar->rq.dry_run = true;
    return 0;
}
