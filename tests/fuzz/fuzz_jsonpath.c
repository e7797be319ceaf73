/* A JSONPath and a document, behind one another: refused, or what is found lies in the document. */
#include "lib/codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(const struct kp_value *root, const struct kp_value *value)
{
    bool in = root == value;
    for (size_t i = 0; !in && root->kind == KP_VALUE_ARRAY && i < root->array.len; i++)
        in = lies_in(root->array.items[i], value);
    for (size_t i = 0; !in && root->kind == KP_VALUE_OBJECT && i < root->object.len; i++)
        in = lies_in(root->object.members[i].value, value);
    return in;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\n', size);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct kp_jsonpath *path;
    struct kp_value *root;
    struct kp_value_list found;
    if (!end || kp_value_parse((const char *)end + 1, size - (size_t)(end + 1 - data), arena, NULL, &root, NULL) < 0)
        return 0;
    if (kp_jsonpath_parse(kp_arena_strndup(arena, (const char *)data, (size_t)(end - data)), arena, &path, &error) < 0) {
        KP_ASSERT(error.code == KP_EINVALID && *error.message);
        return 0;
    }
    if (kp_jsonpath_find(path, root, arena, &found, NULL) < 0)
        return 0;
    KP_ASSERT(found.len <= KP_JSONPATH_VISITS_MAX);
    for (size_t i = 0; i < found.len && i < 10; i++)
        KP_ASSERT(lies_in(root, found.items[i]));
    return 0;
}
