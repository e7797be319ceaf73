/* LimitRanger: what a namespace's LimitRanges give to pods that say nothing of resources, and what they refuse. Texts are upstream's. */
#include "controlplane/apiserver/admission/admission_internal.h"
#include "lib/quota/quota.h"

#define ANNOTATION "kubernetes.io/limit-ranger"

static bool concerns_pods(const struct admission_attributes *a)
{
    return a->operation == ADMISSION_CREATE && admission_is(a, "", "pods", "");
}

static bool concerns_claims(const struct admission_attributes *a)
{
    return (a->operation == ADMISSION_CREATE || a->operation == ADMISSION_UPDATE) && admission_is(a, "", "persistentvolumeclaims", "");
}

/* The namespace's ranges, decoded into the arena. */
static size_t ranges_of(struct admission *admission, const struct admission_attributes *a, const struct k8s_limit_range ***ret)
{
    struct wcache_list list;
    size_t n = 0;
    wcache_list(admission->limit_ranges, &(const struct wcache_filter){.ns = a->ns}, NULL, 0, a->arena, &list);
    *ret = KP_NEW_ARRAY(a->arena, const struct k8s_limit_range *, list.len + 1);
    for (size_t i = 0; i < list.len; i++) {
        void *decoded;
        struct kp_error error = {0};
        if (kp_json_decode(&k8s_limit_range_type, (const char *)list.items[i]->json->data, list.items[i]->json->len, a->arena, NULL, &decoded, &error) == 0)
            (*ret)[n++] = decoded;
        else
            kp_warn("a LimitRange in the cache cannot be read", "namespace", a->ns, "error", error.message, NULL);
    }
    wcache_list_done(&list);
    return n;
}

/* ---- what is given -------------------------------------------------------------------------------------------------------- */
/* Entries of from that map has not; their names go to the annotation's text: "cpu, memory request for container web". */
static void fill(struct kp_arena *arena, struct kp_string_map *map, const struct kp_string_map *from, const char *what, const char *kind, const char *name,
                 struct kp_buf *said)
{
    bool any = false;
    for (size_t i = 0; i < from->len; i++) { /* maps are sorted, and so is the text */
        if (kp_string_map_get(map, from->items[i].key))
            continue;
        kp_buf_printf(said, "%s%s", any ? ", " : said->len ? "; " : "", from->items[i].key);
        kp_string_map_set(arena, map, from->items[i].key, from->items[i].value);
        any = true;
    }
    if (any)
        kp_buf_printf(said, " %s for %s %s", what, kind, name);
}

static void fill_containers(struct kp_arena *arena, struct k8s_container_items *containers, const struct k8s_limit_range_item *item, const char *kind,
                            struct kp_buf *said)
{
    for (size_t i = 0; i < containers->len; i++) {
        struct k8s_container *c = &containers->items[i];
        fill(arena, &c->resources->requests, &item->default_request, "request", kind, c->name, said);
        fill(arena, &c->resources->limits, &item->default_, "limit", kind, c->name, said);
    }
}

int admission_limit_defaults(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const struct k8s_limit_range **ranges;
    KP_AUTO_BUF struct kp_buf said = {0};
    (void)status;
    if (!concerns_pods(a))
        return 0;
    struct k8s_pod *pod = a->object;
    size_t n = ranges_of(admission, a, &ranges);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < ranges[r]->spec->limits.len; i++) {
            const struct k8s_limit_range_item *item = &ranges[r]->spec->limits.items[i];
            if (!kp_streq(item->type, "Container"))
                continue;
            fill_containers(a->arena, &pod->spec->containers, item, "container", &said);
            fill_containers(a->arena, &pod->spec->init_containers, item, "init container", &said);
        }
    if (said.len)
        kp_string_map_set(a->arena, &pod->metadata->annotations, ANNOTATION, kp_arena_printf(a->arena, "LimitRanger plugin set: %s", said.data));
    return 0;
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------ */
struct check {
    const char *type; /* of the item */
    struct kp_buf text; /* what is wrong: "a" or "a, b" */
    size_t count;
};

static void complain(struct check *check, const char *format, ...) KP_PRINTF(2, 3);
static void complain(struct check *check, const char *format, ...)
{
    va_list ap;
    char text[512];
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    kp_buf_printf(&check->text, "%s%s", check->count++ ? ", " : "", text);
}

static void check_min(struct check *check, const char *name, const char *min, const char *request, const char *limit)
{
    if (!request)
        complain(check, "minimum %s usage per %s is %s.  No request is specified", name, check->type, min);
    else if (kp_quantity_str_cmp(request, min) < 0)
        complain(check, "minimum %s usage per %s is %s, but request is %s", name, check->type, min, request);
    else if (limit && kp_quantity_str_cmp(limit, min) < 0)
        complain(check, "minimum %s usage per %s is %s, but limit is %s", name, check->type, min, limit);
}

static void check_max(struct check *check, const char *name, const char *max, const char *request, const char *limit)
{
    if (!limit)
        complain(check, "maximum %s usage per %s is %s.  No limit is specified", name, check->type, max);
    else if (kp_quantity_str_cmp(limit, max) > 0)
        complain(check, "maximum %s usage per %s is %s, but limit is %s", name, check->type, max, limit);
    else if (request && kp_quantity_str_cmp(request, max) > 0)
        complain(check, "maximum %s usage per %s is %s, but request is %s", name, check->type, max, request);
}

static void check_ratio(struct check *check, const char *name, const char *ratio, const char *request, const char *limit)
{
    int64_t asked = kp_quantity_str_milli(request), most = kp_quantity_str_milli(limit);
    if (asked == 0)
        complain(check, "%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, check->type, ratio);
    else if (most == 0)
        complain(check, "%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, check->type, ratio);
    else if ((double)most / (double)asked * 1000 > (double)kp_quantity_str_milli(ratio))
        complain(check, "%s max limit to request ratio per %s is %s, but provided ratio is %f", name, check->type, ratio, (double)most / (double)asked);
}

/* An amount by the name of a resource, NULL when nothing is said of it. */
typedef const char *(*amount_fn)(const void *of, bool limit, const char *name, struct kp_arena *arena);

static void check_item(struct check *check, const struct k8s_limit_range_item *item, amount_fn amount, const void *of, struct kp_arena *arena)
{
    static void (*const checks[])(struct check *, const char *, const char *, const char *, const char *) = {check_min, check_max, check_ratio};
    const struct kp_string_map *maps[] = {&item->min, &item->max, &item->max_limit_request_ratio};
    check->type = item->type;
    for (size_t m = 0; m < KP_ARRAY_LEN(maps); m++)
        for (size_t i = 0; i < maps[m]->len; i++) {
            const char *name = maps[m]->items[i].key;
            checks[m](check, name, maps[m]->items[i].value, amount(of, false, name, arena), amount(of, true, name, arena));
        }
}

static const char *container_amount(const void *of, bool limit, const char *name, struct kp_arena *arena)
{
    const struct k8s_container *container = of;
    (void)arena;
    return kp_string_map_get(limit ? &container->resources->limits : &container->resources->requests, name);
}

static const char *pod_amount(const void *of, bool limit, const char *name, struct kp_arena *arena)
{
    return quota_pod_amount(of, limit, name, arena);
}

static void check_pod(struct check *check, const struct k8s_limit_range_item *item, const struct k8s_pod_spec *spec, struct kp_arena *arena)
{
    if (kp_streq(item->type, "Pod"))
        check_item(check, item, pod_amount, spec, arena);
    if (!kp_streq(item->type, "Container"))
        return;
    for (size_t i = 0; i < spec->containers.len; i++)
        check_item(check, item, container_amount, &spec->containers.items[i], arena);
    for (size_t i = 0; i < spec->init_containers.len; i++)
        check_item(check, item, container_amount, &spec->init_containers.items[i], arena);
}

/* Claims have no limits: the maximum is one of requests. */
static void check_claim(struct check *check, const struct k8s_limit_range_item *item, const struct k8s_persistent_volume_claim *claim)
{
    if (!kp_streq(item->type, "PersistentVolumeClaim"))
        return;
    check->type = item->type;
    for (size_t i = 0; i < item->min.len; i++)
        check_min(check, item->min.items[i].key, item->min.items[i].value, kp_string_map_get(&claim->spec->resources->requests, item->min.items[i].key), NULL);
    for (size_t i = 0; i < item->max.len; i++) {
        const char *name = item->max.items[i].key, *max = item->max.items[i].value;
        const char *request = kp_string_map_get(&claim->spec->resources->requests, name);
        if (!request)
            complain(check, "maximum %s usage per %s is %s.  No request is specified", name, item->type, max);
        else if (kp_quantity_str_cmp(request, max) > 0)
            complain(check, "maximum %s usage per %s is %s, but request is %s", name, item->type, max, request);
    }
}

int admission_limits(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const struct k8s_limit_range **ranges;
    struct check check = {0};
    bool pods = concerns_pods(a);
    if (!pods && !concerns_claims(a))
        return 0;
    size_t n = ranges_of(admission, a, &ranges);
    for (size_t r = 0; r < n && !check.count; r++) /* the first range that refuses speaks, as upstream */
        for (size_t i = 0; i < ranges[r]->spec->limits.len; i++) {
            if (pods)
                check_pod(&check, &ranges[r]->spec->limits.items[i], ((const struct k8s_pod *)a->object)->spec, a->arena);
            else
                check_claim(&check, &ranges[r]->spec->limits.items[i], a->object);
        }
    int code = 0;
    if (check.count)
        code = status_forbidden(status, "", a->resource->name, a->name, check.count > 1 ? "[%s]" : "%s", check.text.data);
    kp_buf_done(&check.text);
    return code;
}
