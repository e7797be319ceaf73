/* Whole documents: one of a group version in OpenAPI 3.0, or everything in Swagger 2.0 as JSON or protobuf. */
#include "controlplane/apiserver/openapi/openapi_internal.h"
#include "lib/base/version.h"

#define TITLE "Kubernetes"

const char *oa_group_version(const struct kp_resource *r, char out[OA_GV_MAX])
{
    if (*r->group)
        snprintf(out, OA_GV_MAX, "apis/%s/%s", r->group, r->version);
    else
        snprintf(out, OA_GV_MAX, "api/%s", r->version);
    return out;
}

static void put_path(const char *path, const struct kp_buf *item, void *ctx)
{
    struct kp_buf *out = ctx;
    oa_key(out, path);
    kp_buf_append(out, item->data, item->len);
}

static void put_schema(struct kp_buf *out, enum oa_version version, const struct oa_name *name)
{
    if (name->custom) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        kp_value_print_sorted(oa_custom_schema(version, name->type, arena), out);
    } else if (name->type) {
        oa_put_type(out, version, name->type);
    } else if (!oa_put_special(out, version, name->name)) {
        KP_ASSERT(!"a reference to a schema that is none");
    }
}

static void put_schemas(struct kp_buf *out, enum oa_version version, const struct oa_names *names)
{
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < names->len; i++) {
        oa_key(out, names->items[i].name);
        put_schema(out, version, &names->items[i]);
    }
    kp_buf_putc(out, '}');
}

/* Paths of one group version (NULL: of all), and the schemas they need. False when there are none. */
static bool put_paths(struct kp_buf *out, enum oa_version version, const char *group_version, struct oa_names *names)
{
    size_t count;
    bool any = false;
    char gv[OA_GV_MAX];
    const struct kp_resource *const *resources = kp_resources(&count);
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (!oa_served(resources[i]) || (group_version && strcmp(oa_group_version(resources[i], gv), group_version) != 0))
            continue;
        any = true;
        oa_each_path(resources[i], version, put_path, out);
        oa_resource_names(resources[i], names);
    }
    kp_buf_putc(out, '}');
    oa_names_close(names);
    return any;
}

void oa_document_v3(const char *group_version, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf paths = {0};
    OA_AUTO_NAMES struct oa_names names = {0};
    if (!put_paths(&paths, OA_V3, group_version, &names))
        return;
    kp_buf_printf(out, "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"" TITLE "\",\"version\":\"%s\"},\"paths\":", kp_version);
    kp_buf_append(out, paths.data, paths.len);
    kp_buf_puts(out, ",\"components\":{\"schemas\":");
    put_schemas(out, OA_V3, &names);
    kp_buf_puts(out, ",\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer token authentication\","
                     "\"name\":\"authorization\",\"in\":\"header\"}}}}");
}

void oa_document_v2(struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf paths = {0};
    OA_AUTO_NAMES struct oa_names names = {0};
    put_paths(&paths, OA_V2, NULL, &names);
    kp_buf_printf(out, "{\"swagger\":\"2.0\",\"info\":{\"title\":\"" TITLE "\",\"version\":\"%s\"},\"paths\":", kp_version);
    kp_buf_append(out, paths.data, paths.len);
    kp_buf_puts(out, ",\"definitions\":");
    put_schemas(out, OA_V2, &names);
    kp_buf_puts(out, ",\"parameters\":");
    oa_put_parameters(out);
    kp_buf_puts(out, ",\"securityDefinitions\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer token authentication\","
                     "\"name\":\"authorization\",\"in\":\"header\"}},\"security\":[{\"BearerToken\":[]}]}");
}

/* ---- protobuf: entry by entry, so that no tree of the whole document is ever made -------------------------------------- */
static struct kp_value *parse_own(const struct kp_buf *json, struct kp_arena *arena)
{
    struct kp_value *tree = NULL;
    struct kp_error error = {0};
    KP_ASSERT(kp_value_parse(json->data, json->len, arena, NULL, &tree, &error) == 0); /* we wrote it */
    return tree;
}

struct proto_paths {
    struct kp_buf out;
    struct kp_arena *arena;
};

static void put_proto_path(const char *path, const struct kp_buf *item, void *ctx)
{
    struct proto_paths *p = ctx;
    oa_gnostic_path(&p->out, 2, path, parse_own(item, p->arena));
    kp_arena_reset(p->arena);
}

static void put_proto_definitions(struct kp_buf *out, const struct oa_names *names, struct kp_arena *arena)
{
    for (size_t i = 0; i < names->len; i++) {
        const struct oa_name *name = &names->items[i];
        KP_AUTO_BUF struct kp_buf json = {0};
        if (!name->custom)
            put_schema(&json, OA_V2, name);
        oa_gnostic_definition(out, 1, name->name, name->custom ? oa_custom_schema(OA_V2, name->type, arena) : parse_own(&json, arena));
        kp_arena_reset(arena);
    }
}

static void put_proto_parameters(struct kp_buf *out, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    oa_put_parameters(&json);
    const struct kp_value *tree = parse_own(&json, arena);
    for (size_t i = 0; i < tree->object.len; i++)
        oa_gnostic_parameter(out, 1, tree->object.members[i].key, tree->object.members[i].value);
}

void oa_document_v2_proto(struct kp_buf *out)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf part = {0};
    OA_AUTO_NAMES struct oa_names names = {0};
    struct proto_paths paths = {.arena = arena};
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    for (size_t i = 0; i < count; i++)
        if (oa_served(resources[i])) {
            oa_each_path(resources[i], OA_V2, put_proto_path, &paths);
            oa_resource_names(resources[i], &names);
        }
    oa_names_close(&names);
    oa_gnostic_string(out, 1, "2.0");
    oa_gnostic_string(&part, 1, TITLE);
    oa_gnostic_string(&part, 2, kp_version);
    oa_gnostic_bytes(out, 2, &part);
    oa_gnostic_bytes(out, 8, &paths.out);
    kp_buf_done(&paths.out);
    kp_buf_done(&part);
    put_proto_definitions(&part, &names, arena);
    oa_gnostic_bytes(out, 9, &part);
    kp_buf_done(&part);
    put_proto_parameters(&part, arena);
    oa_gnostic_bytes(out, 10, &part);
}
