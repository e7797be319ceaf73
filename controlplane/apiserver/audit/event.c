/* Events as bytes: JSON, upstream's legacy text, and bodies without managedFields. */
#include "controlplane/apiserver/audit/audit_internal.h"

struct kp_blob *audit_event_json(const struct k8s_audit_event *event)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(&k8s_audit_event_type, event, &out);
    return kp_blob_new(out.data, out.len);
}

/* ---- k8s.io/apiserver pkg/audit/format.go ----------------------------------------------------------------------------------------------- */
static void put(struct kp_buf *out, const char *name, const char *value, const char *otherwise)
{
    kp_buf_printf(out, " %s=", name);
    kp_json_string(out, kp_empty(value) ? otherwise : value);
}

/* Quoted twice: each group, and all of them. */
static void put_groups(struct kp_buf *out, const char *name, const struct kp_string_list *groups, const char *otherwise)
{
    KP_AUTO_BUF struct kp_buf list = {0};
    for (size_t i = 0; groups && i < groups->len; i++) {
        kp_buf_puts(&list, i ? "," : "");
        kp_json_string(&list, groups->items[i]);
    }
    put(out, name, list.data, otherwise);
}

struct kp_blob *audit_event_text(const struct k8s_audit_event *event)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    char time[KP_RFC3339_MAX], code[16] = "<deferred>";
    const struct k8s_user_info *as = event->impersonated_user;
    bool known = !kp_empty(event->user->username);
    kp_format_rfc3339(time, event->request_received_timestamp.seconds, event->request_received_timestamp.nanos, true);
    if (event->response_status)
        snprintf(code, sizeof(code), "%d", event->response_status->code);
    kp_buf_printf(&out, "%s AUDIT:", time);
    put(&out, "id", event->audit_id, "");
    put(&out, "stage", event->stage, "");
    put(&out, "ip", event->source_ips.len ? event->source_ips.items[0] : NULL, "<unknown>");
    put(&out, "method", event->verb, "");
    put(&out, "user", event->user->username, "<none>");
    put_groups(&out, "groups", known ? &event->user->groups : NULL, "<none>");
    put(&out, "as", as ? as->username : NULL, "<self>");
    put_groups(&out, "asgroups", as ? &as->groups : NULL, "<lookup>");
    put(&out, "user-agent", event->user_agent, "");
    put(&out, "namespace", event->object_ref ? event->object_ref->namespace : NULL, "<none>");
    put(&out, "uri", event->request_uri, "");
    put(&out, "response", code, "");
    return kp_blob_new(out.data, out.len);
}

/* ---- omitManagedFields -------------------------------------------------------------------------------------------------------------------- */
static bool take_away(struct kp_value *object)
{
    struct kp_value *metadata = kp_value_get(object, "metadata");
    return metadata && metadata->kind == KP_VALUE_OBJECT && kp_value_remove(metadata, "managedFields");
}

struct kp_blob *audit_without_managed_fields(const char *json, size_t len)
{
    struct kp_value *root = NULL;
    if (!memmem(json, len, "\"managedFields\"", strlen("\"managedFields\"")))
        return NULL;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(SIZE_MAX); /* what is here was decoded already, within its limits */
    if (kp_value_parse(json, len, arena, NULL, &root, NULL) < 0)
        return NULL;
    bool changed = take_away(root);
    const struct kp_value *items = kp_value_get(root, "items"), *rows = kp_value_get(root, "rows");
    for (size_t i = 0; kp_value_at(items, i); i++)
        changed |= take_away(kp_value_at(items, i));
    for (size_t i = 0; kp_value_at(rows, i); i++)
        changed |= take_away(kp_value_get(kp_value_at(rows, i), "object"));
    if (!changed)
        return NULL;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_value_print(root, &out);
    return kp_blob_new(out.data, out.len);
}
