/* JSON into several types: what decodes must encode to text that decodes to an equal object; trees and selectors likewise. */
#include "api/k8s.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_type(const struct kp_type *type, const char *text, size_t len)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(64 << 20);
    KP_AUTO_BUF struct kp_buf out = {0}, again = {0};
    struct kp_decode options = {.strict = true};
    struct kp_error error = {0};
    void *obj, *back;
    if (kp_json_decode(type, text, len, arena, &options, &obj, &error) < 0)
        return;
    kp_json_encode(type, obj, &out);
    int rc = kp_json_decode(type, out.data, out.len, arena, NULL, &back, &error);
    KP_ASSERT(rc == 0 || rc == KP_ETOOLARGE);
    if (rc < 0)
        return;
    KP_ASSERT(kp_object_equal(type, obj, back));
    kp_json_encode(type, back, &again);
    KP_ASSERT(strcmp(out.data, again.data) == 0);
    kp_object_default(type, back, arena);
}

static void check_tree(const char *text, size_t len)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(64 << 20);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    struct kp_value *value, *back;
    if (kp_value_parse(text, len, arena, NULL, &value, &error) < 0)
        return;
    kp_value_print_sorted(value, &out);
    int rc = kp_value_parse(out.data, out.len, arena, NULL, &back, &error);
    KP_ASSERT(rc == 0 || rc == KP_ETOOLARGE);
    KP_ASSERT(rc < 0 || kp_value_equal(value, back));
}

static void check_selectors(const uint8_t *data, size_t len)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(64 << 20);
    struct kp_error error = {0};
    struct kp_selector selector;
    struct kp_quantity quantity;
    const char *text = kp_arena_strndup(arena, (const char *)data, KP_MIN(len, (size_t)4096));
    struct kp_string_pair pair = {"app", "web"};
    struct kp_string_map labels = {&pair, 1};
    if (kp_label_selector_parse(text, arena, &selector, &error) == 0) {
        KP_AUTO_BUF struct kp_buf out = {0};
        struct kp_selector back;
        bool matches = kp_selector_matches(&selector, &labels);
        kp_selector_print(&selector, &out);
        int rc = kp_label_selector_parse(out.data, arena, &back, &error);
        KP_ASSERT(rc == 0 && kp_selector_matches(&back, &labels) == matches);
    }
    (void)kp_field_selector_parse(text, arena, &selector, &error);
    if (kp_quantity_parse(text, &quantity, &error) == 0) {
        const char *canonical = kp_quantity_string(&quantity, arena);
        KP_ASSERT(strcmp(canonical, kp_quantity_canonical(canonical, arena)) == 0);
        KP_ASSERT(kp_quantity_str_cmp(canonical, text) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct kp_type *const types[] = {&k8s_pod_type, &k8s_deployment_list_type, &k8s_custom_resource_definition_type, &k8s_service_type, &k8s_secret_type};
    if (len < 1)
        return 0;
    const char *text = (const char *)data + 1;
    size_t n = KP_ARRAY_LEN(types), which = data[0] % (n + 2);
    if (which < n)
        check_type(types[which], text, len - 1);
    else if (which == n)
        check_tree(text, len - 1);
    else
        check_selectors(data + 1, len - 1);
    return 0;
}
