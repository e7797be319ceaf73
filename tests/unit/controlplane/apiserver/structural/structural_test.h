/* What the tests of structural schemas share: schemas and objects from JSON, faults as lines of text. */
#ifndef STRUCTURAL_TEST_H
#define STRUCTURAL_TEST_H

#include "controlplane/apiserver/structural/structural.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static inline struct k8s_json_schema_props *test_schema(struct kp_arena *arena, const char *json)
{
    struct kp_error error = {0};
    void *schema = NULL;
    if (kp_json_decode(&k8s_json_schema_props_type, json, strlen(json), arena, NULL, &schema, &error) < 0)
        fail_msg("%s: %s", error.message, json);
    return schema;
}

static inline struct kp_value *test_value(struct kp_arena *arena, const char *json)
{
    struct kp_error error = {0};
    struct kp_value *value = NULL;
    if (kp_value_parse(json, strlen(json), arena, NULL, &value, &error) < 0)
        fail_msg("%s: %s", error.message, json);
    return value;
}

static inline const char *test_print(struct kp_arena *arena, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_value_print_sorted(value, &out);
    return kp_arena_strdup(arena, out.data);
}

/* `path: message` a line. */
static inline const char *test_lines(struct kp_arena *arena, const struct field_errors *errors)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < errors->len; i++)
        kp_buf_printf(&out, "%s%s: %s", i ? "\n" : "", errors->items[i].field, errors->items[i].message);
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

static inline const char *test_check(struct kp_arena *arena, const char *json)
{
    struct field_errors errors = {.arena = arena};
    structural_check(test_schema(arena, json), "s", &errors);
    return test_lines(arena, &errors);
}

/* A schema with nothing against it. */
static inline struct structural *test_structural(struct kp_arena *arena, const char *json)
{
    const char *faults = test_check(arena, json);
    if (*faults)
        fail_msg("%s: %s", json, faults);
    return structural_new(test_schema(arena, json));
}

#endif
