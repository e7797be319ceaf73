/* The schema is consistent with itself: keys that merges rely on exist, defaults decode, names do not clash. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static void for_each_field(void (*check)(const struct kp_type *, const struct kp_field *))
{
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++)
        for (size_t f = 0; f < types[i]->n_fields; f++)
            check(types[i], &types[i]->fields[f]);
}

static void check_list_keys(const struct kp_type *type, const struct kp_field *field)
{
    for (size_t i = 0; field->list_map_keys && field->list_map_keys[i]; i++)
        if (!field->type || !kp_field_find(field->type, field->list_map_keys[i]))
            fail_msg("%s.%s: no key %s", type->openapi_name, field->json_name, field->list_map_keys[i]);
    if ((field->list_type == KP_LIST_MAP) != (field->list_map_keys != NULL))
        fail_msg("%s.%s: keys and list=map go together", type->openapi_name, field->json_name);
    /* bytes count as a list of octets: APIServiceSpec.caBundle is published as atomic */
    if (field->list_type != KP_LIST_UNSPECIFIED && field->cardinality != KP_LIST && field->kind != KP_KIND_BYTES)
        fail_msg("%s.%s: only lists have a list type", type->openapi_name, field->json_name);
    bool merges = field->patch_strategy && strstr(field->patch_strategy, "merge");
    if (field->patch_merge_key && (!merges || !field->type || !kp_field_find(field->type, field->patch_merge_key)))
        fail_msg("%s.%s: no merge key %s", type->openapi_name, field->json_name, field->patch_merge_key);
}

static void keys_of_lists_exist(void **state)
{
    (void)state;
    for_each_field(check_list_keys);
}

static void check_default(const struct kp_type *type, const struct kp_field *field)
{
    if (!field->default_json)
        return;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct kp_decode options = {.strict = true};
    void *obj;
    char *text = kp_arena_printf(arena, "{\"%s\":%s}", field->json_name, field->default_json);
    if (kp_json_decode(type, text, strlen(text), arena, &options, &obj, &error) < 0)
        fail_msg("%s.%s: %s", type->openapi_name, field->json_name, error.message);
    assert_int_equal(options.problems.len, 0);
    if (!field->enum_values)
        return;
    bool known = false;
    for (size_t i = 0; field->enum_values[i]; i++)
        known |= strcmp(kp_arena_printf(arena, "\"%s\"", field->enum_values[i]), field->default_json) == 0;
    if (!known)
        fail_msg("%s.%s: default %s is not one of its values", type->openapi_name, field->json_name, field->default_json);
}

static void defaults_decode_and_are_allowed(void **state)
{
    (void)state;
    for_each_field(check_default);
}

static void check_representation(const struct kp_type *type, const struct kp_field *field)
{
    assert_int_equal(field->json_name_len, strlen(field->json_name));
    assert_true(field->offset < type->size);
    bool number = field->cardinality == KP_ONE && (field->kind == KP_KIND_BOOL || field->kind == KP_KIND_INT32 || field->kind == KP_KIND_INT64 ||
                                                   field->kind == KP_KIND_DOUBLE);
    assert_int_equal(number, field->has_offset >= 0);
    assert_int_equal(field->kind == KP_KIND_STRUCT, field->type != NULL);
}

static void fields_have_a_place(void **state)
{
    (void)state;
    for_each_field(check_representation);
}

static void names_do_not_clash(void **state)
{
    (void)state;
    size_t n;
    struct kp_strmap *seen = kp_strmap_new();
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++)
        if (kp_strmap_put(seen, types[i]->openapi_name, (void *)(uintptr_t)1))
            fail_msg("two types %s", types[i]->openapi_name);
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        for (size_t s = 0; r->short_names[s]; s++) {
            char *name = kp_asprintf("%s/%s/%s", r->group, r->version, r->short_names[s]);
            if (kp_strmap_put(seen, name, (void *)(uintptr_t)1))
                fail_msg("two resources with short name %s", name);
            free(name);
        }
        for (size_t c = 0; c < r->n_columns; c++)
            assert_true(r->columns[c].priority == 0 || r->columns[c].priority == 1);
        assert_true(r->n_columns == 0 || strcmp(r->columns[0].name, "Name") == 0 || strcmp(r->columns[0].name, "Last Seen") == 0);
    }
    kp_strmap_free(seen, NULL);
}

static void lookups_find_what_clients_ask_for(void **state)
{
    (void)state;
    assert_ptr_equal(kp_type_find_api_version("apps/v1", "Deployment"), &k8s_deployment_type);
    assert_ptr_equal(kp_type_find_api_version("v1", "Pod"), &k8s_pod_type);
    assert_null(kp_type_find_api_version("v1", "Deployment"));
    assert_null(kp_type_find_api_version(NULL, "Pod"));
    assert_null(kp_type_find_api_version("v1", "PodSpec"));
    assert_ptr_equal(kp_type_find_openapi("io.k8s.api.core.v1.PodSpec"), &k8s_pod_spec_type);
    const struct kp_resource *pods = kp_resource_find("", "v1", "pods");
    assert_ptr_equal(pods, &k8s_pods_resource);
    assert_ptr_equal(kp_resource_find_kind("", "v1", "Pod"), pods);
    const struct kp_subresource *eviction = kp_subresource_find(pods, "eviction");
    assert_string_equal(eviction->group, "policy");
    assert_ptr_equal(eviction->type, &k8s_eviction_type);
    assert_null(kp_subresource_find(pods, "exec")->type);
    assert_null(kp_subresource_find(pods, "scale"));
    assert_int_equal(kp_subresource_find(&k8s_deployments_resource, "scale")->verbs, KP_VERB_GET | KP_VERB_PATCH | KP_VERB_UPDATE);
    char text[KP_API_VERSION_MAX];
    assert_string_equal(kp_type_api_version(&k8s_table_type, text), "meta.k8s.io/v1");
    assert_string_equal(kp_type_api_version(&k8s_status_type, text), "v1");
    assert_string_equal(kp_verb_name(KP_VERB_DELETECOLLECTION), "deletecollection");
    assert_true(k8s_label_selector_type.atomic);
}

/* Clients print descriptions on one line: kubectl explain, the OpenAPI document, table columns. */
static void check_doc(const char *doc, const char *where, const char *name)
{
    enum { DOC_LEN_MAX = 160 };
    if (!doc || doc[0] == '\0' || doc[0] == ' ')
        fail_msg("%s %s: no description", where, name);
    size_t len = strlen(doc);
    if (len > DOC_LEN_MAX)
        fail_msg("%s %s: a description of %zu characters, at most %d fit", where, name, len, DOC_LEN_MAX);
    if (doc[len - 1] != '.' || strchr(doc, '\n'))
        fail_msg("%s %s: a description is one line that ends in a full stop", where, name);
}

static void check_field_doc(const struct kp_type *type, const struct kp_field *field)
{
    check_doc(field->doc, type->openapi_name, field->json_name);
}

static void everything_has_a_short_description(void **state)
{
    (void)state;
    for_each_field(check_field_doc);
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++)
        check_doc(types[i]->doc, "type", types[i]->openapi_name);
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        assert_non_null(r->type);
        check_doc(r->type->doc, "kind of resource", r->name);
        for (size_t c = 0; c < r->n_columns; c++)
            check_doc(r->columns[c].doc, r->name, r->columns[c].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_lists_exist),    cmocka_unit_test(defaults_decode_and_are_allowed),
        cmocka_unit_test(fields_have_a_place),    cmocka_unit_test(names_do_not_clash),
        cmocka_unit_test(lookups_find_what_clients_ask_for), cmocka_unit_test(everything_has_a_short_description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
