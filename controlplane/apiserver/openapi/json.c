/* Writing JSON straight into a buffer, as the documents need it. */
#include "controlplane/apiserver/openapi/openapi_internal.h"

void oa_separate(struct kp_buf *out)
{
    char last = out->len ? out->data[out->len - 1] : '{';
    if (last != '{' && last != '[' && last != ':')
        kp_buf_putc(out, ',');
}

void oa_key(struct kp_buf *out, const char *name)
{
    oa_separate(out);
    kp_json_string(out, name);
    kp_buf_putc(out, ':');
}

void oa_member(struct kp_buf *out, const char *name, const char *value)
{
    oa_key(out, name);
    kp_json_string(out, value);
}

void oa_raw_member(struct kp_buf *out, const char *name, const char *json)
{
    oa_key(out, name);
    kp_buf_puts(out, json);
}

void oa_ref(struct kp_buf *out, enum oa_version version, const char *schema)
{
    oa_key(out, "$ref");
    kp_buf_printf(out, "\"#/%s/%s\"", version == OA_V3 ? "components/schemas" : "definitions", schema);
}

void oa_gvk(struct kp_buf *out, const char *group, const char *api_version, const char *kind)
{
    oa_separate(out);
    kp_buf_putc(out, '{');
    oa_member(out, "group", group);
    oa_member(out, "kind", kind);
    oa_member(out, "version", api_version);
    kp_buf_putc(out, '}');
}
