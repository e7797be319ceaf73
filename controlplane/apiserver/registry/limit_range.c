/* LimitRanges: defaults that follow from bounds, and bounds that contradict each other. Rules and texts are upstream's (ValidateLimitRange). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define TEXT_MAX 256

static void fill(struct kp_arena *arena, struct kp_string_map *map, const struct kp_string_map *from)
{
    for (size_t i = 0; i < from->len; i++)
        if (!kp_string_map_get(map, from->items[i].key))
            kp_string_map_set(arena, map, from->items[i].key, from->items[i].value);
}

void limit_range_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_limit_range *range = obj;
    for (size_t i = 0; i < range->spec->limits.len; i++) {
        struct k8s_limit_range_item *item = &range->spec->limits.items[i];
        if (!kp_streq(item->type, "Container"))
            continue;
        fill(rq->arena, &item->default_, &item->max);
        fill(rq->arena, &item->default_request, &item->default_);
        fill(rq->arena, &item->default_request, &item->min);
    }
}

/* What must not be more than what, in an item. */
struct order {
    const char *field; /* that is blamed */
    const struct kp_string_map *less, *more;
    const char *less_word, *more_word;
    bool tells_more; /* the value that is told is the second, as upstream has it row by row */
};

static void check_order(const struct order *order, size_t at, struct field_errors *errors)
{
    char text[TEXT_MAX];
    for (size_t i = 0; i < order->less->len; i++) {
        const char *name = order->less->items[i].key, *less = order->less->items[i].value, *more = kp_string_map_get(order->more, name);
        if (!more || kp_quantity_str_cmp(less, more) <= 0)
            continue;
        snprintf(text, sizeof(text), "%s value %s is greater than %s value %s", order->less_word, less, order->more_word, more);
        field_invalid(errors, order->tells_more ? more : less, text, "spec.limits[%zu].%s[%s]", at, order->field, name);
    }
}

static void check_ratio(const struct k8s_limit_range_item *item, size_t at, struct field_errors *errors)
{
    char text[TEXT_MAX];
    for (size_t i = 0; i < item->max_limit_request_ratio.len; i++) {
        const char *name = item->max_limit_request_ratio.items[i].key, *ratio = item->max_limit_request_ratio.items[i].value;
        const char *min = kp_string_map_get(&item->min, name), *max = kp_string_map_get(&item->max, name);
        if (kp_quantity_str_cmp(ratio, "1") < 0) {
            snprintf(text, sizeof(text), "ratio %s is less than 1", ratio);
            field_invalid(errors, ratio, text, "spec.limits[%zu].maxLimitRequestRatio[%s]", at, name);
        }
        int64_t lowest = kp_quantity_str_milli(min);
        double widest = lowest > 0 ? (double)kp_quantity_str_milli(max) / (double)lowest : 0;
        if (min && max && widest > 0 && (double)kp_quantity_str_milli(ratio) / 1000 > widest) {
            snprintf(text, sizeof(text), "ratio %s is greater than max/min = %f", ratio, widest);
            field_invalid(errors, ratio, text, "spec.limits[%zu].maxLimitRequestRatio[%s]", at, name);
        }
    }
}

/* Devices and huge pages are not lent twice: a container's limit of them is its request. */
static void check_not_shared(const struct k8s_limit_range_item *item, size_t at, struct field_errors *errors)
{
    char text[TEXT_MAX];
    for (size_t i = 0; i < item->default_.len; i++) {
        const char *name = item->default_.items[i].key, *value = item->default_.items[i].value, *request = kp_string_map_get(&item->default_request, name);
        bool shared = (!strchr(name, '/') || strstr(name, "kubernetes.io/")) && !kp_starts_with(name, "hugepages-");
        if (shared || !request || kp_quantity_str_cmp(value, request) == 0)
            continue;
        snprintf(text, sizeof(text), "default value %s must equal to defaultRequest value %s in %s", value, request, name);
        field_invalid(errors, request, text, "spec.limits[%zu].defaultRequest[%s]", at, name);
    }
}

static void check_item(const struct k8s_limit_range_item *item, size_t at, struct field_errors *errors)
{
    const struct order orders[] = {
        {"min", &item->min, &item->max, "min", "max", false},
        {"defaultRequest", &item->min, &item->default_request, "min", "default request", true},
        {"defaultRequest", &item->default_request, &item->max, "default request", "max", false},
        {"defaultRequest", &item->default_request, &item->default_, "default request", "default limit", false},
        {"default", &item->min, &item->default_, "min", "default", false},
        {"default", &item->default_, &item->max, "default", "max", true},
    };
    bool is_pod = kp_streq(item->type, "Pod");
    if (is_pod && item->default_.len)
        field_forbidden(errors, "may not be specified when `type` is 'Pod'", "spec.limits[%zu].default", at);
    if (is_pod && item->default_request.len)
        field_forbidden(errors, "may not be specified when `type` is 'Pod'", "spec.limits[%zu].defaultRequest", at);
    if (kp_streq(item->type, "PersistentVolumeClaim") && !kp_string_map_get(&item->min, "storage") && !kp_string_map_get(&item->max, "storage"))
        field_required(errors, "either minimum or maximum storage value is required, but neither was provided", "spec.limits[%zu].limits", at);
    for (size_t i = 0; i < KP_ARRAY_LEN(orders) && !(is_pod && i > 0); i++)
        check_order(&orders[i], at, errors);
    check_ratio(item, at, errors);
    check_not_shared(item, at, errors);
}

void limit_range_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_limit_range *range = obj;
    (void)rq;
    for (size_t i = 0; i < range->spec->limits.len; i++) {
        const struct k8s_limit_range_item *item = &range->spec->limits.items[i];
        for (size_t k = 0; k < i; k++)
            if (kp_streq(range->spec->limits.items[k].type, item->type))
                field_duplicate(errors, item->type ? item->type : "", "spec.limits[%zu].type", i);
        check_item(item, i, errors);
    }
}
