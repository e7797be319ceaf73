/* Objects of the watch cache: immutable, counted, one allocation beside the JSON text. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include "api/k8s.h"

struct wcache_object *wcache_object_ref(struct wcache_object *object)
{
    if (object)
        __atomic_fetch_add(&object->refs, 1, __ATOMIC_RELAXED);
    return object;
}

void wcache_object_unref(struct wcache_object *object)
{
    if (!object || __atomic_sub_fetch(&object->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kp_blob_unref(object->json);
    free(object);
}

static const char *scalar_text(const struct kp_field *field, const void *obj, struct kp_arena *arena)
{
    const char *at = (const char *)obj + field->offset;
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_QUANTITY:
    case KP_KIND_DURATION: {
        const char *s = *(const char *const *)(const void *)at;
        return s ? s : "";
    }
    case KP_KIND_BOOL:
        return *(const bool *)at ? "true" : "false";
    case KP_KIND_INT32:
        return kp_arena_printf(arena, "%d", *(const int32_t *)(const void *)at);
    case KP_KIND_INT64:
        return kp_arena_printf(arena, "%lld", (long long)*(const int64_t *)(const void *)at);
    default:
        return "";
    }
}

/* What raw JSON has at the rest of a path ("": itself): strings without their quotes, numbers and booleans as they are written. */
static const char *raw_text(const struct kp_raw *raw, const char *path, struct kp_arena *arena)
{
    struct kp_value *value = NULL;
    if (!raw->json || kp_value_parse(raw->json, raw->len, arena, NULL, &value, NULL) < 0)
        return "";
    bool whole = !*path;
    while (value && *path) {
        size_t len = strcspn(path, ".");
        value = kp_value_get(value, kp_arena_strndup(arena, path, len));
        path += len + (path[len] == '.');
    }
    if (!value || value->kind == KP_VALUE_NULL || value->kind == KP_VALUE_ARRAY || value->kind == KP_VALUE_OBJECT)
        return "";
    if (value->kind == KP_VALUE_STRING)
        return value->string;
    if (whole)
        return kp_arena_strndup(arena, raw->json, raw->len);
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print(value, &text);
    return kp_arena_strdup(arena, text.data);
}

const char *wcache_field_value(const struct kp_type *type, const void *obj, const char *path, struct kp_arena *arena)
{
    while (obj) {
        size_t len = strcspn(path, ".");
        char name[128];
        if (len >= sizeof(name))
            return "";
        memcpy(name, path, len);
        name[len] = '\0';
        const struct kp_field *field = kp_field_find(type, name);
        if (!field)
            return "";
        if (field->cardinality == KP_LIST && field->kind == KP_KIND_STRUCT && path[len]) { /* the first element stands for all */
            const struct kp_list *list = (const void *)((const char *)obj + field->offset);
            obj = list->len ? list->items : NULL;
        } else if (field->kind == KP_KIND_STRUCT && field->cardinality == KP_ONE && path[len]) {
            obj = *(void *const *)(const void *)((const char *)obj + field->offset);
        } else if (field->kind == KP_KIND_RAW && field->cardinality == KP_ONE) {
            return raw_text((const void *)((const char *)obj + field->offset), path + len + (path[len] == '.'), arena);
        } else {
            return path[len] || field->cardinality != KP_ONE ? "" : scalar_text(field, obj, arena);
        }
        type = field->type;
        path += len + 1;
    }
    return "";
}

bool wcache_field_is(const char *entry, const char *name)
{
    size_t len = strcspn(entry, "=");
    return strncmp(entry, name, len) == 0 && !name[len];
}

static const char *field_path(const char *entry)
{
    const char *path = strchr(entry, '=');
    return path ? path + 1 : entry;
}

/* Copies s to *at and moves it on. */
static const char *pack(char **at, const char *s)
{
    size_t len = s ? strlen(s) : 0;
    char *out = *at;
    memcpy(out, s ? s : "", len);
    out[len] = '\0';
    *at += len + 1;
    return out;
}

static size_t packed(const char *s)
{
    return (s ? strlen(s) : 0) + 1;
}

static size_t field_count(const struct wcache_kind *kind)
{
    size_t count = 0;
    while (kind->fields && kind->fields[count])
        count++;
    return count;
}

struct wcache_object *wcache_object_new(const struct wcache_kind *kind, const char *key, void *obj, int64_t revision)
{
    const struct kp_type *type = kind->resource->type;
    struct k8s_object_meta *meta = kp_object_meta(type, obj);
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
    size_t n_fields = field_count(kind);
    const char **values = KP_NEW_ARRAY(scratch, const char *, n_fields + 1);
    size_t size = sizeof(struct wcache_object) + n_fields * sizeof(char *) + meta->labels.len * sizeof(struct kp_string_pair);
    size += packed(key) + packed(meta->namespace) + packed(meta->name) + packed(meta->uid);
    for (size_t i = 0; i < n_fields; i++) {
        values[i] = wcache_field_value(type, obj, field_path(kind->fields[i]), scratch);
        size += packed(values[i]);
    }
    for (size_t i = 0; i < meta->labels.len; i++)
        size += packed(meta->labels.items[i].key) + packed(meta->labels.items[i].value);
    struct wcache_object *object = kp_malloc(size);
    *object = (struct wcache_object){.refs = 1, .revision = revision};
    object->fields = (const char **)(void *)(object + 1);
    object->labels.items = (struct kp_string_pair *)(void *)(object->fields + n_fields);
    object->labels.len = meta->labels.len;
    char *at = (char *)(object->labels.items + meta->labels.len);
    object->key = pack(&at, key);
    object->ns = pack(&at, meta->namespace);
    object->name = pack(&at, meta->name);
    object->uid = pack(&at, meta->uid);
    for (size_t i = 0; i < n_fields; i++)
        object->fields[i] = pack(&at, values[i]);
    for (size_t i = 0; i < meta->labels.len; i++) {
        object->labels.items[i].key = pack(&at, meta->labels.items[i].key);
        object->labels.items[i].value = pack(&at, meta->labels.items[i].value);
    }
    const char *before = meta->resource_version;
    /* What is not stored (a dry run) has no version. */
    meta->resource_version = revision ? kp_arena_printf(scratch, "%lld", (long long)revision) : NULL;
    KP_AUTO_BUF struct kp_buf json = {0};
    kp_json_encode(type, obj, &json);
    meta->resource_version = before;
    object->json = kp_blob_new(json.data, json.len);
    return object;
}

int wcache_object_decode(const struct wcache_kind *kind, const char *key, const void *data, size_t len, int64_t revision,
                         struct wcache_object **ret_object, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *obj = NULL;
    int code = kp_proto_is_envelope(data, len)
                   ? kp_proto_decode_object(kind->resource->type, data, len, arena, NULL, NULL, &obj, error)
                   : kp_json_decode(kind->resource->type, data, len, arena, NULL, &obj, error);
    if (code < 0) {
        kp_wrap(error, "stored object %s%s", kind->prefix, key);
        if (error)
            error->code = KP_ECORRUPT;
        return KP_ECORRUPT;
    }
    *ret_object = wcache_object_new(kind, key, obj, revision);
    return 0;
}

struct field_context {
    const struct wcache_kind *kind;
    const struct wcache_object *object;
};

static const char *object_field(void *ctx, const char *field)
{
    const struct field_context *context = ctx;
    if (strcmp(field, "metadata.name") == 0)
        return context->object->name;
    if (strcmp(field, "metadata.namespace") == 0)
        return context->object->ns;
    for (size_t i = 0; context->kind->fields && context->kind->fields[i]; i++)
        if (wcache_field_is(context->kind->fields[i], field))
            return context->object->fields[i];
    return "";
}

bool wcache_filter_matches(const struct wcache_kind *kind, const struct wcache_filter *filter, const struct wcache_object *object)
{
    if (!kp_empty(filter->ns) && strcmp(filter->ns, object->ns) != 0)
        return false;
    if (!kp_empty(filter->name) && strcmp(filter->name, object->name) != 0)
        return false;
    if (filter->labels && !kp_selector_matches(filter->labels, &object->labels))
        return false;
    struct field_context context = {kind, object};
    return !filter->fields || kp_field_selector_matches(filter->fields, object_field, &context);
}
