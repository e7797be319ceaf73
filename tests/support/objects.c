/* Objects for unit tests, written as YAML. */
#include "tests/support/objects.h"
#include "lib/client/client_internal.h"

void *test_object(const struct kp_type *type, struct kp_arena *arena, const char *yaml)
{
    struct kp_error error = {0};
    struct kp_decode decode = {.strict = true};
    void *obj = NULL;
    if (kp_yaml_decode(type, yaml, strlen(yaml), arena, &decode, &obj, &error) < 0 || decode.problems.len) {
        fprintf(stderr, "bad test object: %s%s\n%s\n", error.message, decode.problems.len ? decode.problems.items[0] : "", yaml);
        abort();
    }
    kp_object_default(type, obj, arena);
    return obj;
}

struct client_object *test_client_object(const struct kp_type *type, const char *yaml)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return client_object_copy(type, test_object(type, arena, yaml));
}
