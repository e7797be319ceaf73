/* Every type of the schema survives JSON, protobuf, clone and tree, with objects made at random from its table. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static uint64_t state;
static int structs_left; /* recursive types would grow without end */
static unsigned pick(unsigned n)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 33) % n;
}

static void fill(const struct kp_type *type, void *obj, struct kp_arena *arena, int depth);

static const char *text(struct kp_arena *arena)
{
    static const char *const odd[] = {"\"quoted\" \\ slash", "line\nbreak\ttab", "\x01 control", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "\xe2\x80\xa8", "x"};
    if (pick(4) == 0)
        return odd[pick(KP_ARRAY_LEN(odd))];
    return kp_arena_printf(arena, "s%u", pick(100000));
}

static void fill_single(const struct kp_field *field, void *slot, struct kp_arena *arena, int depth)
{
    static const char *const quantities[] = {"1", "100m", "1Gi", "1536Mi", "2k", "1500u", "7e3", "123456789n", "9223372036854775807"};
    static const char *const durations[] = {"15s", "1m2.5s", "-3h0m0s", "7ns", "1.5ms", "2562047h47m16.854775807s"}; /* as Go prints them: the wire has numbers */
    static const char *const raws[] = {"{\"a\":[1,2,{\"b\":null}]}", "\"text\"", "[]", "12.5", "true"};
    switch (field->kind) {
    case KP_KIND_STRING:
        *(const char **)slot = text(arena);
        break;
    case KP_KIND_DURATION:
        *(const char **)slot = durations[pick(KP_ARRAY_LEN(durations))];
        break;
    case KP_KIND_QUANTITY:
        *(const char **)slot = quantities[pick(KP_ARRAY_LEN(quantities))];
        break;
    case KP_KIND_BOOL:
        *(bool *)slot = true;
        break;
    case KP_KIND_INT32:
        *(int32_t *)slot = pick(3) == 0 ? -(int32_t)pick(1000) - 1 : (int32_t)pick(INT32_MAX - 1) + 1;
        break;
    case KP_KIND_INT64:
        *(int64_t *)slot = pick(3) == 0 ? INT64_MIN + (int64_t)pick(5) : (int64_t)pick(INT32_MAX - 1) * 123457 + 1;
        break;
    case KP_KIND_DOUBLE:
        *(double *)slot = (double)(pick(100000) + 1) / (double)(pick(7) + 1) * (pick(2) ? 1e-9 : 1e12);
        break;
    case KP_KIND_INT_OR_STRING:
        *(struct kp_int_or_string *)slot = pick(2) ? KP_IOS_OF_INT((int32_t)pick(70000)) : KP_IOS_OF_STRING(text(arena));
        break;
    case KP_KIND_TIME:
        *(struct kp_time *)slot = KP_TIME_OF((int64_t)pick(2000000000) * (pick(3) ? 1 : 0));
        break;
    case KP_KIND_MICRO_TIME:
        *(struct kp_time *)slot = (struct kp_time){.seconds = pick(2000000000), .nanos = (int32_t)pick(1000000) * 1000, .set = true};
        break;
    case KP_KIND_BYTES:
        *(struct kp_bytes *)slot = (struct kp_bytes){.data = (const uint8_t *)"\x00\xff\x80 bytes", .len = 1 + pick(8)};
        break;
    case KP_KIND_RAW: {
        const char *json = raws[pick(KP_ARRAY_LEN(raws))];
        *(struct kp_raw *)slot = (struct kp_raw){.json = json, .len = strlen(json)};
        break;
    }
    case KP_KIND_STRING_LIST:
        for (unsigned n = pick(3) + 1; n > 0; n--)
            kp_string_list_add(arena, slot, text(arena));
        break;
    case KP_KIND_STRUCT:
        fill(field->type, slot, arena, depth + 1);
        break;
    }
}

/* KP_LIST_ADD knows its element; here only the table does. */
static void *add(struct kp_arena *arena, struct kp_list *list, size_t size)
{
    return kp_list_add_(arena, list, size);
}

static size_t element_size(const struct kp_field *field)
{
    switch (field->kind) {
    case KP_KIND_STRUCT:
        return field->type->size;
    case KP_KIND_BOOL:
        return sizeof(bool);
    case KP_KIND_INT32:
        return sizeof(int32_t);
    case KP_KIND_RAW:
        return sizeof(struct kp_raw);
    default:
        return 8;
    }
}

static void fill_map(const struct kp_field *field, struct kp_list *map, struct kp_arena *arena, int depth)
{
    size_t value_size = field->kind == KP_KIND_BYTES || field->kind == KP_KIND_STRING_LIST ? 16 : field->kind == KP_KIND_TIME ? sizeof(struct kp_time) : 8;
    for (unsigned i = 0, n = pick(3) + 1; i < n; i++) {
        char *entry = add(arena, map, 8 + value_size);
        *(const char **)(void *)entry = kp_arena_printf(arena, "key%u/%s", i, i == 1 ? "\xc3\xa9" : "x");
        void *value = entry + 8;
        if (field->kind == KP_KIND_STRUCT) {
            *(void **)value = kp_object_new(field->type, arena);
            value = *(void **)value;
        }
        fill_single(field, value, arena, depth);
    }
}

static void fill_union(const struct kp_type *type, void *obj, struct kp_arena *arena, int depth)
{
    const struct kp_field *first = &type->fields[0], *second = &type->fields[1];
    if (type->json_form == KP_FORM_SCHEMA_OR_BOOL) {
        unsigned how = pick(structs_left > 0 ? 3 : 2);
        *(bool *)((char *)obj + first->offset) = *(bool *)((char *)obj + first->has_offset) = how != 0;
        if (how == 2) {
            void *schema = kp_object_new(second->type, arena);
            fill(second->type, schema, arena, depth + 1);
            *(void **)(void *)((char *)obj + second->offset) = schema;
        }
        return;
    }
    if (structs_left <= 0 || pick(2)) {
        void *schema = kp_object_new(first->type, arena);
        fill(first->type, schema, arena, depth + 1);
        *(void **)(void *)((char *)obj + first->offset) = schema;
        return;
    }
    fill_single(second, add(arena, (struct kp_list *)(void *)((char *)obj + second->offset), element_size(second)), arena, depth);
}

static void fill(const struct kp_type *type, void *obj, struct kp_arena *arena, int depth)
{
    structs_left--;
    if (type->json_form != KP_FORM_OBJECT) {
        fill_union(type, obj, arena, depth);
        return;
    }
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        char *slot = (char *)obj + field->offset;
        bool composite = field->kind == KP_KIND_STRUCT;
        if (pick(10) < 4 || (composite && !field->value && (depth > 5 || structs_left <= 0)))
            continue;
        if (field->cardinality == KP_LIST) {
            for (unsigned n = pick(3) + 1; n > 0; n--) {
                void *item = add(arena, (struct kp_list *)(void *)slot, element_size(field));
                if (composite) { /* `value` members of an element must exist, as after decoding */
                    memcpy(item, kp_object_new(field->type, arena), field->type->size);
                }
                fill_single(field, item, arena, depth);
            }
        } else if (field->cardinality == KP_MAP) {
            fill_map(field, (struct kp_list *)(void *)slot, arena, depth);
        } else if (composite) {
            void **member = (void **)(void *)slot;
            if (!*member)
                *member = kp_object_new(field->type, arena);
            fill(field->type, *member, arena, depth + 1);
        } else {
            fill_single(field, slot, arena, depth);
            if (field->has_offset >= 0)
                *(bool *)((char *)obj + field->has_offset) = true;
        }
    }
}

static void fail_type(const struct kp_type *type, unsigned seed, const char *what, const char *a, const char *b)
{
    size_t at = 0;
    while (a && b && a[at] && a[at] == b[at])
        at++;
    size_t from = at > 80 ? at - 80 : 0;
    fail_msg("%s seed %u: %s\n%.400s\n%.400s", type->openapi_name, seed, what, a ? a + from : "", b ? b + from : "");
}

static void check_one(const struct kp_type *type, unsigned seed)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf json = {0}, again = {0}, wire = {0}, wire_again = {0};
    struct kp_error error = {0};
    struct kp_decode options = {.strict = true};
    state = seed * 7919ULL + 17;
    structs_left = 200;
    void *obj = kp_object_new(type, arena), *back = NULL, *from_wire = NULL, *from_tree = NULL;
    fill(type, obj, arena, 0);
    kp_json_encode(type, obj, &json);

    if (kp_json_decode(type, json.data, json.len, arena, &options, &back, &error) < 0)
        fail_type(type, seed, error.message, json.data, NULL);
    if (options.problems.len > 0)
        fail_type(type, seed, options.problems.items[0], json.data, NULL);
    kp_json_encode(type, back, &again);
    if (strcmp(json.data, again.data) != 0)
        fail_type(type, seed, "JSON differs", json.data, again.data);
    if (!kp_object_equal(type, obj, back))
        fail_type(type, seed, "not equal after JSON", json.data, again.data);

    void *copy = kp_object_clone(type, back, arena);
    if (!kp_object_equal(type, copy, obj))
        fail_type(type, seed, "clone not equal", json.data, NULL);

    struct kp_value *tree = kp_value_from_object(type, obj, arena);
    if (kp_value_to_object(type, tree, arena, NULL, &from_tree, &error) < 0)
        fail_type(type, seed, error.message, json.data, NULL);
    if (!kp_object_equal(type, from_tree, obj))
        fail_type(type, seed, "not equal after tree", json.data, NULL);

    if (type->n_pb == 0)
        return;
    kp_proto_encode_object(type, obj, &wire);
    if (!type->kind)
        return; /* part of the kinds that hold it */
    const struct kp_type *named = NULL;
    if (kp_proto_decode_object(NULL, wire.data, wire.len, arena, NULL, &named, &from_wire, &error) < 0)
        fail_type(type, seed, error.message, json.data, NULL);
    assert_ptr_equal(named, type);
    again.len = 0;
    kp_json_encode(type, from_wire, &again);
    if (strcmp(json.data, again.data) != 0)
        fail_type(type, seed, "protobuf differs", json.data, again.data);
    kp_proto_encode_object(type, from_wire, &wire_again);
    assert_int_equal(wire.len, wire_again.len);
    assert_memory_equal(wire.data, wire_again.data, wire.len);
}

static void every_type_survives_json_protobuf_clone_and_tree(void **unused)
{
    (void)unused;
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    assert_true(n > 400);
    for (size_t i = 0; i < n; i++)
        for (unsigned seed = 1; seed <= 4; seed++)
            check_one(types[i], seed);
}

static void defaults_are_idempotent_for_every_type(void **unused)
{
    (void)unused;
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        state = i;
        structs_left = 200;
        void *obj = kp_object_new(types[i], arena);
        fill(types[i], obj, arena, 2);
        kp_object_default(types[i], obj, arena);
        void *copy = kp_object_clone(types[i], obj, arena);
        kp_object_default(types[i], obj, arena);
        assert_true(kp_object_equal(types[i], obj, copy));
    }
}

static void every_resource_resolves_to_its_types(void **unused)
{
    (void)unused;
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    assert_true(n > 60);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        assert_ptr_equal(kp_type_find(r->group, r->version, r->kind), r->type);
        assert_ptr_equal(kp_resource_find(r->group, r->version, r->name), r);
        if (r->verbs & KP_VERB_LIST) {
            assert_true(r->list_type->is_list);
            assert_ptr_equal(r->list_type->item_type, r->type);
        }
        assert_true(r->type->has_object_meta || strcmp(r->verbs & KP_VERB_LIST ? "list" : "", "") == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_resource_resolves_to_its_types),
        cmocka_unit_test(every_type_survives_json_protobuf_clone_and_tree),
        cmocka_unit_test(defaults_are_idempotent_for_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
