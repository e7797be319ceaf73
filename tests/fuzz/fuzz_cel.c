/* An expression in CEL: whatever it is, it compiles or has its faults told, and what compiles is evaluated within its bounds, twice the same. */
#include "lib/cel/cel.h"

#define FUZZ_BYTES_MAX 4096
#define COST_MAX 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char activation[] = "{\"i\":7,\"d\":1.5,\"s\":\"text\",\"b\":true,\"n\":null,\"l\":[1,2,3],\"names\":[\"a\",\"b\"],\"m\":{\"k\":\"v\"},"
                                 "\"when\":\"2026-01-02T03:04:05Z\",\"long\":\"1h\",\"raw\":\"aGk=\",\"o\":{\"x\":{\"y\":1}}}";

static const struct cel_type *declare(struct kp_arena *arena)
{
    struct cel_type *set = kp_arena_memdup(arena, cel_list_of(arena, &cel_string), sizeof(*set));
    set->list_type = CEL_LIST_SET;
    const struct cel_field fields[] = {{"i", "i", &cel_int},       {"d", "d", &cel_double}, {"s", "s", &cel_string}, {"b", "b", &cel_bool},
                                       {"l", "l", cel_list_of(arena, &cel_int)}, {"names", "names", set}, {"m", "m", cel_map_of(arena, &cel_string, &cel_string)},
                                       {"when", "when", &cel_timestamp}, {"long", "long", &cel_duration}, {"raw", "raw", &cel_bytes}, {"any", "any", &cel_dyn}};
    return cel_object(arena, "object", kp_arena_memdup(arena, fields, sizeof(fields)), KP_ARRAY_LEN(fields));
}

static enum cel_kind evaluate(const struct cel_program *program, const struct cel_type *type, const struct kp_value *json, uint64_t *ret_cost)
{
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(CEL_MEMORY_MAX + ((size_t)4 << 20));
    const struct cel_value values[] = {cel_of_tree(json, type, scratch), cel_of_tree(json, &cel_dyn, scratch)};
    struct cel_value result = cel_evaluate(program, values, scratch, COST_MAX, ret_cost);
    KP_ASSERT(result.kind != CEL_ERROR || result.error);
    return result.kind;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > FUZZ_BYTES_MAX || memchr(data, '\0', len))
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct kp_value *json = NULL;
    KP_ASSERT(kp_value_parse(activation, strlen(activation), arena, NULL, &json, &error) == 0);
    const struct cel_type *type = declare(arena);
    const struct cel_variable variables[] = {{"self", type}, {"x", &cel_dyn}};
    const char *fault = NULL;
    KP_AUTO(cel_program_free)
    struct cel_program *program = cel_compile(&(const struct cel_env){.variables = variables, .n_variables = 2}, kp_arena_strndup(arena, (const char *)data, len), arena, &fault);
    KP_ASSERT(program || (fault && *fault));
    if (!program)
        return 0;
    uint64_t once, twice;
    KP_ASSERT(evaluate(program, type, json, &once) == evaluate(program, type, json, &twice));
    KP_ASSERT(once == twice);
    return 0;
}
