/* A structural schema and an object, with a line break between them: whatever schema passes the check, objects of any form are pruned, defaulted and
   validated by it, and come through its tables as they went in. */
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
    struct field_errors of_rules = {.arena = arena};
    struct kp_string_list warnings = {0};
    structural_rules(structural, object, object, &of_rules, &warnings);
    KP_ASSERT(of_rules.len <= FIELD_ERRORS_MAX);
}

static void pass_through(const struct k8s_json_schema_props *schema, struct kp_value *object, struct kp_arena *arena)
{
    static const struct structural_names names = {"fuzz.test", "v1", "Fuzz", "FuzzList"};
    const struct kp_type *type, *list;
    struct kp_error error = {0};
    void *once = NULL, *twice = NULL;
    structural_types(schema, &names, arena, &type, &list);
    kp_value_remove(object, "metadata"); /* has a type of its own, which refuses */
    kp_value_remove(object, "kind");
    kp_value_remove(object, "apiVersion");
    if (object->kind != KP_VALUE_OBJECT || kp_value_to_object(type, object, arena, NULL, &once, &error) == KP_ETOOLARGE)
        return;
    KP_ASSERT(once);
    void *copy = kp_object_clone(type, once, arena);
    KP_ASSERT(kp_object_equal(type, once, copy));
    struct kp_value *tree = kp_value_from_object(type, copy, arena);
    KP_ASSERT(kp_value_to_object(type, tree, arena, NULL, &twice, &error) == 0);
    KP_ASSERT(kp_value_equal(tree, kp_value_from_object(type, twice, arena)));
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
    if (errors.len > 0 || kp_value_parse((const char *)split + 1, len - 1 - (size_t)(split - data), arena, NULL, &object, &error) < 0)
        return 0;
    struct structural *structural = structural_new(schema);
    pass_through(schema, kp_value_clone(object, arena), arena);
    use(structural, object, arena);
    structural_free(structural);
    return 0;
}
