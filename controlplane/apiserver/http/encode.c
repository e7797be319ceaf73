/* Cached objects as answers: their own JSON where possible, else decoded, converted and written anew. */
#include "controlplane/apiserver/http/encode_internal.h"

#include "controlplane/apiserver/table/table.h"

struct encoding encoding_of(struct api_request *ar)
{
    struct encoding encoding = {ar->resource, ar->rq.kind, ar->out.form, ar->out.shape, INCLUDE_METADATA};
    const char *include = query_of(ar, "includeObject");
    if (kp_streq(include, "None"))
        encoding.include = INCLUDE_NONE;
    else if (kp_streq(include, "Object"))
        encoding.include = INCLUDE_OBJECT;
    return encoding;
}

bool encoding_is_plain(const struct encoding *encoding)
{
    return encoding->form == OUT_JSON && encoding->shape == SHAPE_OBJECT && registry_storage_type(encoding->kind) == encoding->resource->type;
}

static void *decode_converted(const struct encoding *encoding, const struct wcache_object *object, struct kp_arena *arena)
{
    void *stored = registry_decode(encoding->kind, object, arena);
    return registry_convert(registry_storage_type(encoding->kind), stored, encoding->resource->type, arena);
}

static void encode_metadata(const struct encoding *encoding, const void *obj, struct kp_buf *out)
{
    struct k8s_partial_object_metadata partial = {.metadata = kp_object_meta(encoding->resource->type, obj)};
    kp_json_encode(&k8s_partial_object_metadata_type, &partial, out);
}

static void encode_row(const struct encoding *encoding, const struct wcache_object *object, struct kp_arena *arena, struct kp_buf *out)
{
    const void *obj = decode_converted(encoding, object, arena);
    kp_buf_puts(out, "{\"cells\":");
    table_cells(encoding->resource, obj, kp_now_s(), arena, out);
    kp_buf_puts(out, ",\"object\":");
    if (encoding->include == INCLUDE_NONE)
        kp_buf_puts(out, "null");
    else if (encoding->include == INCLUDE_METADATA)
        encode_metadata(encoding, obj, out);
    else
        kp_json_encode(encoding->resource->type, obj, out);
    kp_buf_putc(out, '}');
}

static void table_head(const struct encoding *encoding, const char *metadata, bool columns, struct kp_buf *out)
{
    kp_buf_printf(out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":%s,\"columnDefinitions\":", metadata);
    if (columns)
        table_columns(encoding->resource, out);
    else
        kp_buf_puts(out, "null");
    kp_buf_puts(out, ",\"rows\":[");
}

void encode_object(const struct encoding *encoding, const struct wcache_object *object, bool columns, struct kp_arena *arena, struct kp_buf *out)
{
    if (encoding_is_plain(encoding) || (encoding->form == OUT_YAML && encoding->shape == SHAPE_OBJECT &&
                                        registry_storage_type(encoding->kind) == encoding->resource->type)) {
        kp_buf_append(out, object->json->data, object->json->len);
        return;
    }
    if (encoding->shape == SHAPE_TABLE) {
        table_head(encoding, kp_arena_printf(arena, "{\"resourceVersion\":\"%lld\"}", (long long)object->revision), columns, out);
        if (*object->name) /* a bookmark has no row */
            encode_row(encoding, object, arena, out);
        kp_buf_puts(out, "]}");
        return;
    }
    const void *obj = decode_converted(encoding, object, arena);
    if (encoding->shape != SHAPE_OBJECT)
        encode_metadata(encoding, obj, out);
    else if (encoding->form == OUT_PROTO)
        kp_proto_encode_object(encoding->resource->type, obj, out);
    else
        kp_json_encode(encoding->resource->type, obj, out);
}

/* ---- lists ------------------------------------------------------------------------------------------------------------ */
static const char *list_metadata(const struct registry_list *list, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "{\"resourceVersion\":\"%lld\"", (long long)list->objects.revision);
    if (!kp_empty(list->continue_token)) {
        kp_buf_puts(&out, ",\"continue\":");
        kp_json_string(&out, list->continue_token);
        if (list->has_remaining && list->remaining > 0)
            kp_buf_printf(&out, ",\"remainingItemCount\":%lld", (long long)list->remaining);
    }
    kp_buf_putc(&out, '}');
    return kp_arena_strdup(arena, out.data);
}

static void encode_table(const struct encoding *encoding, const struct registry_list *list, struct kp_arena *arena, struct kp_buf *out)
{
    table_head(encoding, list_metadata(list, arena), true, out);
    for (size_t i = 0; i < list->objects.len; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
        if (i)
            kp_buf_putc(out, ',');
        encode_row(encoding, list->objects.items[i], scratch, out);
    }
    kp_buf_puts(out, "]}");
}

static void encode_proto_list(const struct encoding *encoding, const struct registry_list *list, struct kp_arena *arena, struct kp_buf *out)
{
    const struct kp_type *type = encoding->resource->list_type;
    void *obj = kp_object_new(type, arena);
    struct k8s_list_meta *meta = kp_object_list_meta(type, obj);
    meta->resource_version = kp_arena_printf(arena, "%lld", (long long)list->objects.revision);
    meta->continue_ = kp_empty(list->continue_token) ? NULL : list->continue_token;
    if (meta->continue_ && list->has_remaining)
        KP_SET(meta, remaining_item_count, list->remaining);
    struct kp_list *items = (struct kp_list *)(void *)((char *)obj + type->items_offset);
    items->items = kp_arena_alloc(arena, type->item_type->size * (list->objects.len + 1));
    items->len = list->objects.len;
    for (size_t i = 0; i < list->objects.len; i++)
        memcpy((char *)items->items + i * type->item_type->size, decode_converted(encoding, list->objects.items[i], arena), type->item_type->size);
    kp_proto_encode_object(type, obj, out);
}

/* An item of a list does not repeat kind and apiVersion. */
static void encode_item(const struct encoding *encoding, const struct wcache_object *object, const char *prefix, struct kp_arena *arena, struct kp_buf *out)
{
    size_t from = out->len;
    encode_object(encoding, object, false, arena, out);
    size_t len = strlen(prefix);
    if (encoding->shape != SHAPE_OBJECT || out->len - from < len || memcmp(out->data + from, prefix, len) != 0)
        return;
    memmove(out->data + from + 1, out->data + from + len, out->len - from - len);
    out->len -= len - 1;
    out->data[out->len] = '\0';
}

void encode_list(const struct encoding *encoding, const struct registry_list *list, struct kp_arena *arena, struct kp_buf *out)
{
    char version[KP_API_VERSION_MAX];
    if (encoding->shape == SHAPE_TABLE) {
        encode_table(encoding, list, arena, out);
        return;
    }
    if (encoding->form == OUT_PROTO) {
        encode_proto_list(encoding, list, arena, out);
        return;
    }
    bool partial = encoding->shape != SHAPE_OBJECT;
    kp_type_api_version(encoding->resource->type, version);
    const char *prefix = kp_arena_printf(arena, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",", encoding->resource->kind, version);
    const char *kind = partial ? "PartialObjectMetadataList" : kp_arena_printf(arena, "%sList", encoding->resource->kind);
    kp_buf_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":%s,\"items\":[", kind, partial ? "meta.k8s.io/v1" : version,
                  list_metadata(list, arena));
    for (size_t i = 0; i < list->objects.len; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
        if (i)
            kp_buf_putc(out, ',');
        encode_item(encoding, list->objects.items[i], prefix, scratch, out);
    }
    kp_buf_puts(out, "]}");
}

int encode_form(const struct encoding *encoding, struct kp_arena *arena, struct kp_buf *text, struct kp_error *error)
{
    struct kp_value *value = NULL;
    if (encoding->form != OUT_YAML)
        return 0;
    if (kp_value_parse(text->data, text->len, arena, NULL, &value, error) < 0)
        return error->code;
    text->len = 0;
    kp_yaml_print(value, text);
    return 0;
}
