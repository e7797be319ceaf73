/* A structural schema and an object, with a line break between them: whatever schema passes the check, objects of any form are pruned, defaulted and
   validated by it. */
#include "controlplane/apiserver/structural/structural.h"

#define FUZZ_BYTES_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void use(const struct structural *structural, struct kp_value *object, struct kp_arena *arena)
{
    struct field_errors errors = {.arena = arena};
    struct kp_string_list dropped = {0};
    structural_prune(structural, object, arena, &dropped);
    structural_default(structural, object, arena);
    KP_ASSERT(dropped.len <= 100);
    structural_validate(structural, object, &errors);
    KP_ASSERT(errors.len <= FIELD_ERRORS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *split = memchr(data, '\n', len);
    split = split ? split : memchr(data, '\0', len);
    if (!split || len > FUZZ_BYTES_MAX)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct field_errors errors = {.arena = arena};
    struct kp_value *object = NULL;
    void *schema = NULL;
    if (kp_json_decode(&k8s_json_schema_props_type, (const char *)data, (size_t)(split - data), arena, NULL, &schema, &error) < 0)
        return 0;
    structural_check(schema, "schema", &errors);
    structural_has_rules(schema);
    if (errors.len > 0 || kp_value_parse((const char *)split + 1, len - 1 - (size_t)(split - data), arena, NULL, &object, &error) < 0)
        return 0;
    struct structural *structural = structural_new(schema);
    use(structural, object, arena);
    structural_free(structural);
    return 0;
}
