/* The four kinds of patch, from body to new object. */
#include "controlplane/apiserver/patch/patch_internal.h"

struct patch_node patch_node_of_type(const struct kp_type *type)
{
    return (struct patch_node){.kind = PATCH_STRUCT, .type = type, .atomic = type->atomic};
}

struct patch_node patch_node_of_field(const struct kp_field *field)
{
    struct patch_node node = {.kind = PATCH_SCALAR, .atomic = true};
    if (!field)
        return node;
    if (field->cardinality == KP_LIST)
        return (struct patch_node){.kind = PATCH_LIST, .type = field->kind == KP_KIND_STRUCT ? field->type : NULL, .field = field,
                                   .atomic = field->list_type != KP_LIST_SET && field->list_type != KP_LIST_MAP};
    if (field->cardinality == KP_MAP)
        return (struct patch_node){.kind = PATCH_MAP, .type = field->kind == KP_KIND_STRUCT ? field->type : NULL, .field = field,
                                   .atomic = field->map_atomic};
    if (field->kind == KP_KIND_STRUCT && field->type->json_form == KP_FORM_OBJECT)
        return (struct patch_node){.kind = PATCH_STRUCT, .type = field->type, .field = field, .atomic = field->map_atomic || field->type->atomic};
    return node;
}

struct patch_node patch_node_of_element(const struct patch_node *node)
{
    if (node->type)
        return (struct patch_node){.kind = PATCH_STRUCT, .type = node->type, .atomic = node->kind == PATCH_LIST ? false : node->type->atomic};
    return (struct patch_node){.kind = PATCH_SCALAR, .atomic = true};
}

struct patch_node patch_node_of_member(const struct patch_node *node, const char *name)
{
    if (node->kind == PATCH_STRUCT)
        return patch_node_of_field(kp_field_find(node->type, name));
    return patch_node_of_element(node);
}

const struct kp_value *patch_key_value(const struct patch_node *list, const char *key, const struct kp_value *item, struct kp_arena *arena)
{
    const struct kp_value *value = kp_value_get(item, key);
    const struct kp_field *field = value || !list->type ? NULL : kp_field_find(list->type, key);
    struct kp_value *fallback = NULL;
    if (field && field->default_json && kp_value_parse(field->default_json, strlen(field->default_json), arena, NULL, &fallback, NULL) == 0)
        return fallback;
    return value;
}

int patch_find_element(const struct patch_node *list, const struct kp_value *array, const struct kp_value *item)
{
    const struct kp_value *candidate;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; (candidate = kp_value_at(array, i)); i++) {
        bool same = true;
        if (list->field->list_type == KP_LIST_SET) {
            same = kp_value_equal(candidate, item);
        } else {
            for (const char *const *key = list->field->list_map_keys; same && *key; key++) {
                const struct kp_value *a = patch_key_value(list, *key, candidate, arena), *b = patch_key_value(list, *key, item, arena);
                same = a && b ? kp_value_equal(a, b) : a == b;
            }
        }
        if (same)
            return (int)i;
    }
    return -1;
}

/* ---- merge patch -------------------------------------------------------------------------------------------------------- */
struct kp_value *patch_merge(struct kp_value *current, const struct kp_value *patch, struct kp_arena *arena)
{
    if (patch->kind != KP_VALUE_OBJECT)
        return kp_value_clone(patch, arena);
    struct kp_value *result = current && current->kind == KP_VALUE_OBJECT ? current : kp_value_object(arena);
    for (size_t i = 0; i < patch->object.len; i++) {
        const struct kp_member *member = &patch->object.members[i];
        if (member->value->kind == KP_VALUE_NULL)
            kp_value_remove(result, member->key);
        else
            kp_value_set(arena, result, member->key, patch_merge(kp_value_get(result, member->key), member->value, arena));
    }
    return result;
}

/* ---- JSON patch (RFC 6902) -------------------------------------------------------------------------------------------------- */
/* Splits off one token of a JSON pointer; unescapes ~1 and ~0. */
static char *next_token(const char **pointer, struct kp_arena *arena)
{
    const char *start = *pointer + 1;
    size_t len = strcspn(start, "/");
    char *token = kp_arena_strndup(arena, start, len), *out = token;
    for (const char *p = token; *p; p++) {
        if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
            *out++ = *++p == '0' ? '~' : '/';
        else
            *out++ = *p;
    }
    *out = '\0';
    *pointer = start + len;
    return token;
}

static bool array_index(const struct kp_value *array, const char *token, bool adding, size_t *ret)
{
    int64_t index;
    if (adding && strcmp(token, "-") == 0) {
        *ret = array->array.len;
        return true;
    }
    if (kp_parse_i64(token, &index) < 0 || index < 0 || (token[0] == '0' && token[1]) || (size_t)index >= array->array.len + (adding ? 1 : 0))
        return false;
    *ret = (size_t)index;
    return true;
}

static struct kp_value *child(struct kp_value *parent, const char *token)
{
    size_t index;
    if (parent->kind == KP_VALUE_OBJECT)
        return kp_value_get(parent, token);
    return parent->kind == KP_VALUE_ARRAY && array_index(parent, token, false, &index) ? kp_value_at(parent, index) : NULL;
}

/* The container that holds the last token of the pointer; NULL when the way there does not exist. */
static struct kp_value *walk(struct kp_value *root, const char *pointer, struct kp_arena *arena, char **ret_last)
{
    struct kp_value *at = root;
    while (at && *pointer == '/') {
        char *token = next_token(&pointer, arena);
        if (*pointer == '\0') {
            *ret_last = token;
            return at;
        }
        at = child(at, token);
    }
    return NULL;
}

static struct kp_value *look_up(struct kp_value *root, const char *pointer, struct kp_arena *arena)
{
    char *last;
    if (*pointer == '\0')
        return root;
    struct kp_value *parent = walk(root, pointer, arena, &last);
    return parent ? child(parent, last) : NULL;
}

static bool add_at(struct kp_value **root, const char *pointer, struct kp_value *value, struct kp_arena *arena)
{
    char *last;
    size_t index;
    if (*pointer == '\0') {
        *root = value;
        return true;
    }
    struct kp_value *parent = walk(*root, pointer, arena, &last);
    if (parent && parent->kind == KP_VALUE_OBJECT) {
        kp_value_set(arena, parent, last, value);
        return true;
    }
    return parent && parent->kind == KP_VALUE_ARRAY && array_index(parent, last, true, &index) && kp_value_array_insert(arena, parent, index, value);
}

static bool remove_at(struct kp_value *root, const char *pointer, struct kp_arena *arena)
{
    char *last;
    size_t index;
    struct kp_value *parent = walk(root, pointer, arena, &last);
    if (parent && parent->kind == KP_VALUE_OBJECT)
        return kp_value_remove(parent, last);
    return parent && parent->kind == KP_VALUE_ARRAY && array_index(parent, last, false, &index) && kp_value_array_remove(parent, index);
}

static int bad_operation(struct api_status *status, const char *op, const char *path, const char *why)
{
    /* Upstream's message says no more than this; what is wrong goes into a cause, which clients show as details. */
    status_fail(status, KP_EINVALID, 422, "Invalid", "the server rejected our request due to an error in our request");
    status_add_cause(status, "UnexpectedServerResponse", kp_arena_printf(status->arena, "%s operation: %s: \"%s\"", op, why, path), "");
    return status->code;
}

/* Without a bound, copying the document into itself again and again doubles it each time. */
static size_t size_of(const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print(value, &text);
    return text.len;
}

int patch_json(struct kp_value **root, const struct kp_value *operations, struct kp_arena *arena, struct api_status *status)
{
    const struct kp_value *operation;
    size_t copied = 0;
    if (operations->kind != KP_VALUE_ARRAY)
        return status_bad_request(status, "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch");
    if (operations->array.len > PATCH_JSON_OPERATIONS_MAX)
        return status_fail(status, KP_ETOOLARGE, 413, "RequestEntityTooLarge", "The allowed maximum operations in a JSON patch is %d, got %zu",
                           PATCH_JSON_OPERATIONS_MAX, operations->array.len);
    for (size_t i = 0; (operation = kp_value_at(operations, i)); i++) {
        const char *op = kp_value_str(kp_value_get(operation, "op")), *path = kp_value_str(kp_value_get(operation, "path"));
        const char *from = kp_value_str(kp_value_get(operation, "from"));
        const struct kp_value *value = kp_value_get(operation, "value");
        if (!op || !path || (*path && *path != '/'))
            return bad_operation(status, op ? op : "unknown", path ? path : "", "missing or malformed op or path");
        if (kp_streq(op, "add") || kp_streq(op, "replace")) {
            if (!value)
                return bad_operation(status, op, path, "value is missing");
            if (kp_streq(op, "replace") && (!look_up(*root, path, arena) || (*path && !remove_at(*root, path, arena))))
                return bad_operation(status, op, path, "doc is missing key");
            if (!add_at(root, path, kp_value_clone(value, arena), arena))
                return bad_operation(status, op, path, "doc is missing path");
        } else if (kp_streq(op, "remove")) {
            if (!remove_at(*root, path, arena))
                return bad_operation(status, op, path, "Unable to remove nonexistent key");
        } else if (kp_streq(op, "move") || kp_streq(op, "copy")) {
            struct kp_value *source = from ? look_up(*root, from, arena) : NULL;
            if (!source)
                return bad_operation(status, op, from ? from : "", "doc is missing from path");
            if (kp_streq(op, "copy") && (copied += size_of(source)) > PATCH_COPY_BYTES_MAX)
                return status_fail(status, KP_ETOOLARGE, 413, "RequestEntityTooLarge",
                                   "Unable to complete the copy, the accumulated size increase of copy is %zu, exceeding the limit %zu", copied,
                                   PATCH_COPY_BYTES_MAX);
            source = kp_value_clone(source, arena);
            if ((kp_streq(op, "move") && !remove_at(*root, from, arena)) || !add_at(root, path, source, arena))
                return bad_operation(status, op, path, "doc is missing path");
        } else if (kp_streq(op, "test")) {
            const struct kp_value *found = look_up(*root, path, arena);
            bool same = found && value ? kp_value_equal(found, value) : !found && value && value->kind == KP_VALUE_NULL;
            if (!same)
                return bad_operation(status, "test", path, "testing value failed");
        } else {
            return bad_operation(status, op, path, "unexpected kind");
        }
    }
    return 0;
}

/* ---- all together ---------------------------------------------------------------------------------------------------------------- */
static int parse_body(const struct patch_request *request, struct kp_arena *arena, struct kp_string_list *problems, struct kp_value **ret,
                      struct api_status *status)
{
    struct kp_error error = {0};
    if (request->kind == PATCH_APPLY) {
        struct kp_value **documents;
        size_t count;
        if (kp_yaml_parse(request->body, request->body_len, arena, &documents, &count, &error) < 0)
            return status_bad_request(status, "error decoding YAML: %s", error.message);
        if (count != 1 || documents[0]->kind != KP_VALUE_OBJECT)
            return status_bad_request(status, "error decoding YAML: one object is wanted");
        *ret = documents[0];
        return 0;
    }
    if (kp_value_parse(request->body, request->body_len, arena, request->strict ? problems : NULL, ret, &error) < 0)
        return status_bad_request(status, "error decoding patch: %s", error.message);
    if ((*ret)->kind != KP_VALUE_OBJECT && request->kind != PATCH_JSON)
        return status_bad_request(status, "error decoding patch: an object is wanted");
    return 0;
}

int patch_apply(const struct kp_type *type, const struct patch_request *request, const void *current, struct kp_arena *arena,
                struct kp_string_list *problems, void **ret_obj, struct api_status *status)
{
    struct kp_value *body, *tree = current ? kp_value_from_object(type, current, arena) : NULL, *result = NULL;
    struct kp_error error = {0};
    int code = parse_body(request, arena, problems, &body, status);
    if (code < 0)
        return code;
    switch (request->kind) {
    case PATCH_JSON:
        result = tree;
        code = patch_json(&result, body, arena, status);
        break;
    case PATCH_MERGE:
        result = patch_merge(tree, body, arena);
        break;
    case PATCH_STRATEGIC:
        code = patch_strategic(type, tree, body, arena, &result, status);
        break;
    case PATCH_APPLY:
        code = apply_server_side(type, request, tree, body, arena, &result, status);
        break;
    }
    if (code < 0)
        return code;
    struct kp_decode decode = {.strict = request->strict};
    if (kp_value_to_object(type, result, arena, &decode, ret_obj, &error) < 0)
        return request->kind == PATCH_APPLY ? status_bad_request(status, "%s", error.message)
                                            : status_fail(status, KP_EINVALID, 422, "Invalid", "%s", error.message);
    for (size_t i = 0; problems && i < decode.problems.len; i++)
        kp_string_list_add(arena, problems, decode.problems.items[i]);
    return 0;
}
