/* What an autoscaler is decided by: the target's scale, its pods, and the metrics of three APIs, asked as upstream's clients do. */
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/hpa.h"
#include "lib/http/http.h"

#define CUSTOM_GROUP "custom.metrics.k8s.io"
#define EXTERNAL_PREFIX "/apis/external.metrics.k8s.io/v1beta1"
#define WINDOW_S_DEFAULT 60 /* of a custom metric that does not say */

/* ---- kinds ----------------------------------------------------------------------------------------------------------------------- */
static const struct kp_resource *built_in(const char *group, const char *version, const char *kind)
{
    const struct kp_resource *found = kp_resource_find_kind(group, version, kind);
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n && !found; i++) /* the group and kind decide, as upstream */
        if (kp_streq(resources[i]->group, group) && kp_streq(resources[i]->kind, kind))
            found = resources[i];
    return found;
}

const struct kp_resource *hpa_resource_of(struct engine *engine, const char *group, const char *version, const char *kind, struct kp_arena *arena)
{
    const struct kp_resource *found = built_in(group, version, kind);
    if (found || !engine_customs(engine))
        return found;
    KP_AUTO(customs_release) struct customs_list *list = customs_hold(engine_customs(engine));
    for (size_t i = 0; i < list->len && !found; i++) {
        const struct custom *custom = list->items[i];
        if (custom->informer && kp_streq(custom->resource.group, group) && kp_streq(custom->resource.kind, kind))
            found = customs_copy(&custom->resource, arena);
    }
    return found;
}

/* "apps/v1" as group and version; NULL, or upstream's words for what is none. */
static const char *split_version(const char *api_version, struct kp_arena *arena, const char **ret_group, const char **ret_version)
{
    const char *text = api_version ? api_version : "", *slash = strchr(text, '/');
    if (slash && strchr(slash + 1, '/'))
        return kp_arena_printf(arena, "unexpected GroupVersion string: %s", text);
    *ret_group = slash ? kp_arena_strndup(arena, text, (size_t)(slash - text)) : "";
    *ret_version = slash ? slash + 1 : text;
    return NULL;
}

const char *hpa_selector_text(const struct k8s_label_selector *selector, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (!selector)
        return "nil";
    kp_buf_puts(&out, "&LabelSelector{MatchLabels:map[string]string{");
    for (size_t i = 0; i < selector->match_labels.len; i++)
        kp_buf_printf(&out, "%s: %s,", selector->match_labels.items[i].key, selector->match_labels.items[i].value);
    kp_buf_puts(&out, "},MatchExpressions:[]LabelSelectorRequirement{");
    for (size_t i = 0; i < selector->match_expressions.len; i++) {
        const struct k8s_label_selector_requirement *r = &selector->match_expressions.items[i];
        kp_buf_printf(&out, "LabelSelectorRequirement{Key:%s,Operator:%s,Values:[", r->key, r->operator);
        for (size_t k = 0; k < r->values.len; k++)
            kp_buf_printf(&out, "%s%s", k ? " " : "", r->values.items[k]);
        kp_buf_puts(&out, "],},");
    }
    kp_buf_puts(&out, "},}");
    return kp_arena_strdup(arena, out.data);
}

/* ---- metrics --------------------------------------------------------------------------------------------------------------------- */
struct asking {
    struct client *client;
    const struct hpa_input *in;
    const char *ns, *selector;
};

/* A resource that is not served is named by Go's client, whose error it is upstream. */
static const char *client_words(const struct kp_error *error, const char *resource, struct kp_arena *arena)
{
    if (error->code == KP_ENOTFOUND && strstr(error->message, "could not find the requested resource"))
        return kp_arena_printf(arena, "%s (get %s)", error->message, resource);
    return kp_arena_strdup(arena, error->message);
}

/* False when the container, or the resource, is not told. */
static bool sum_usage(const struct k8s_pod_metrics *metrics, const char *resource, const char *container, int64_t *ret)
{
    bool found = false;
    *ret = 0;
    for (size_t i = 0; i < metrics->containers.len; i++) {
        const struct k8s_container_metrics *c = &metrics->containers.items[i];
        const char *usage = kp_string_map_get(&c->usage, resource);
        if (container && !kp_streq(container, c->name))
            continue;
        if (!usage)
            return false;
        *ret += kp_quantity_str_milli(usage);
        found = true;
    }
    return found;
}

static void ask_resource(const struct asking *a, const char *resource, const char *container, struct hpa_metric *ret)
{
    struct kp_arena *arena = a->in->arena;
    const struct client_list_options options = {.label_selector = a->selector};
    struct kp_error error = {0};
    void *answer = NULL;
    if (client_list(a->client, &k8s_metrics_pods_resource, a->ns, &options, arena, &answer, &error) < 0) {
        ret->error = kp_arena_printf(arena, "unable to fetch metrics from resource metrics API: %s", client_words(&error, "pods.metrics.k8s.io", arena));
        return;
    }
    const struct k8s_pod_metrics_list *list = answer;
    if (!list->items.len) {
        ret->error = "no metrics returned from resource metrics API";
        return;
    }
    ret->samples = KP_NEW_ARRAY(arena, struct hpa_sample, list->items.len);
    for (size_t i = 0; i < list->items.len; i++) {
        const struct k8s_pod_metrics *metrics = &list->items.items[i];
        struct hpa_sample sample = {.name = metrics->metadata->name, .timestamp_s = metrics->timestamp.seconds};
        int64_t window_ns = 0;
        if (!sum_usage(metrics, resource, container, &sample.value))
            continue;
        if (kp_parse_duration_ns(metrics->window, &window_ns) == 0)
            sample.window_s = window_ns / 1000000000;
        ret->samples[ret->n_samples++] = sample;
    }
}

static const struct k8s_custom_metric_value_list *ask_values(const struct asking *a, const char *path, const char *what, struct kp_error *error)
{
    struct kp_arena *arena = a->in->arena;
    KP_AUTO_BUF struct kp_buf body = {0};
    void *list = NULL;
    if (client_raw(a->client, "GET", path, NULL, NULL, 0, &body, NULL, error) == 0 &&
        kp_json_decode(&k8s_custom_metric_value_list_type, body.data ? body.data : "", body.len, arena, NULL, &list, error) == 0)
        return list;
    const char *words = client_words(error, what, arena);
    kp_fail(error, error->code, "%s", words);
    return NULL;
}

/* The version of the custom metrics API that its server prefers, of those known. */
static const char *custom_version(const struct asking *a, struct kp_error *error)
{
    struct kp_arena *arena = a->in->arena;
    KP_AUTO_BUF struct kp_buf body = {0};
    void *decoded = NULL;
    if (client_raw(a->client, "GET", "/apis/" CUSTOM_GROUP, NULL, NULL, 0, &body, NULL, error) < 0) {
        if (error->code == KP_ENOTFOUND)
            kp_fail(error, KP_ENOTFOUND, "no custom metrics API (%s) registered", CUSTOM_GROUP);
        return NULL;
    }
    if (kp_json_decode(&k8s_api_group_type, body.data ? body.data : "", body.len, arena, NULL, &decoded, error) < 0)
        return NULL;
    const struct k8s_api_group *group = decoded;
    static const char *const known[] = {"v1beta2", "v1beta1"};
    for (size_t k = 0; k < KP_ARRAY_LEN(known); k++)
        for (size_t i = 0; i < group->versions.len; i++)
            if (kp_streq(group->versions.items[i].version, known[k]))
                return known[k];
    kp_fail(error, KP_ENOTFOUND, "no known available metric versions found");
    return NULL;
}

static bool metric_selector(const struct k8s_label_selector *selector, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    static const struct k8s_label_selector everything;
    struct kp_selector parsed;
    KP_AUTO_BUF struct kp_buf text = {0};
    if (kp_label_selector_from(selector ? selector : &everything, arena, &parsed, error) < 0)
        return false;
    kp_selector_print(&parsed, &text);
    *ret = kp_arena_strdup(arena, text.data ? text.data : "");
    return true;
}

static void begin_custom_path(struct kp_buf *path, const char *version, const char *ns)
{
    kp_buf_printf(path, "/apis/%s/%s/namespaces/", CUSTOM_GROUP, version);
    http_percent_encode(path, ns, false);
}

static void end_custom_path(struct kp_buf *path, const char *metric, const char *selector, const char *of_metric)
{
    kp_buf_putc(path, '/');
    http_percent_encode(path, metric, false);
    if (!kp_empty(selector))
        http_query_append(path, "labelSelector", selector);
    if (!kp_empty(of_metric))
        http_query_append(path, "metricLabelSelector", of_metric);
}

static void ask_pods(const struct asking *a, const struct k8s_metric_identifier *metric, struct hpa_metric *ret)
{
    struct kp_arena *arena = a->in->arena;
    KP_AUTO_BUF struct kp_buf path = {0};
    struct kp_error error = {0};
    const char *of_metric, *version;
    const struct k8s_custom_metric_value_list *list = NULL;
    if (!metric_selector(metric->selector, arena, &of_metric, &error)) {
        ret->error = kp_arena_strdup(arena, error.message);
        return;
    }
    if ((version = custom_version(a, &error))) {
        begin_custom_path(&path, version, a->ns);
        kp_buf_puts(&path, "/pods/%2A");
        end_custom_path(&path, metric->name, a->selector, of_metric);
        list = ask_values(a, path.data, "pods." CUSTOM_GROUP, &error);
    }
    if (!list || !list->items.len) {
        ret->error = list ? "no metrics returned from custom metrics API"
                          : kp_arena_printf(arena, "unable to fetch metrics from custom metrics API: %s", error.message);
        return;
    }
    ret->samples = KP_NEW_ARRAY(arena, struct hpa_sample, list->items.len);
    for (size_t i = 0; i < list->items.len; i++) {
        const struct k8s_custom_metric_value *value = &list->items.items[i];
        int64_t window_s = value->has_window_seconds ? value->window_seconds : value->has_window ? value->window : WINDOW_S_DEFAULT;
        if (value->described_object->name)
            ret->samples[ret->n_samples++] =
                (struct hpa_sample){value->described_object->name, kp_quantity_str_milli(value->value), value->timestamp.seconds, window_s};
    }
}

/* "namespaces/NS/services/NAME/METRIC", and of the namespace itself "namespaces/NS/metrics/METRIC". */
static bool object_path(const struct asking *a, struct engine *engine, const struct k8s_object_metric_source *source, const char *version,
                        const char *of_metric, struct kp_buf *path, struct kp_error *error)
{
    struct kp_arena *arena = a->in->arena;
    const struct k8s_autoscaling_v2_cross_version_object_reference *object = source->described_object;
    const char *group, *object_version, *fault = split_version(object->api_version, arena, &group, &object_version);
    begin_custom_path(path, version, a->ns);
    if (!fault && !*group && kp_streq(object->kind, "Namespace")) {
        kp_buf_puts(path, "/metrics");
        end_custom_path(path, source->metric->name, NULL, of_metric);
        return true;
    }
    const struct kp_resource *resource = fault ? NULL : hpa_resource_of(engine, group, object_version, object->kind, arena);
    if (!resource) {
        kp_fail(error, KP_ENOTFOUND, "unable to map kind %s%s%s to resource: %s", object->kind, fault || !*group ? "" : ".", fault ? "" : group,
                fault ? fault : kp_arena_printf(arena, "no matches for kind \"%s\" in group \"%s\"", object->kind, group));
        return false;
    }
    kp_buf_printf(path, "/%s%s%s/", resource->name, *group ? "." : "", group);
    http_percent_encode(path, object->name, false);
    end_custom_path(path, source->metric->name, NULL, of_metric);
    return true;
}

static void ask_object(const struct asking *a, struct engine *engine, const struct k8s_object_metric_source *source, struct hpa_metric *ret)
{
    struct kp_arena *arena = a->in->arena;
    KP_AUTO_BUF struct kp_buf path = {0};
    struct kp_error error = {0};
    const char *of_metric, *version;
    const struct k8s_custom_metric_value_list *list = NULL;
    if (!metric_selector(source->metric->selector, arena, &of_metric, &error)) {
        ret->error = kp_arena_strdup(arena, error.message);
        return;
    }
    if ((version = custom_version(a, &error)) && object_path(a, engine, source, version, of_metric, &path, &error))
        list = ask_values(a, path.data, CUSTOM_GROUP, &error);
    if (list && list->items.len != 1)
        kp_fail(&error, KP_EINTERNAL, "the custom metrics API server returned %zu results when we asked for exactly one", list->items.len);
    if (!list || list->items.len != 1)
        ret->error = kp_arena_printf(arena, "unable to fetch metrics from custom metrics API: %s", error.message);
    else
        ret->value = kp_quantity_str_milli(list->items.items[0].value);
}

static void ask_external(const struct asking *a, const struct k8s_metric_identifier *metric, struct hpa_metric *ret)
{
    struct kp_arena *arena = a->in->arena;
    KP_AUTO_BUF struct kp_buf path = {0};
    struct kp_error error = {0};
    const char *selector;
    if (!metric_selector(metric->selector, arena, &selector, &error)) {
        ret->error = kp_arena_strdup(arena, error.message);
        return;
    }
    kp_buf_puts(&path, EXTERNAL_PREFIX "/namespaces/");
    http_percent_encode(&path, a->ns, false);
    kp_buf_putc(&path, '/');
    http_percent_encode(&path, metric->name, false);
    if (*selector)
        http_query_append(&path, "labelSelector", selector);
    const struct k8s_custom_metric_value_list *list =
        ask_values(a, path.data, kp_arena_printf(arena, "%s.external.metrics.k8s.io", metric->name), &error);
    if (!list || !list->items.len)
        ret->error = list ? "no metrics returned from external metrics API"
                          : kp_arena_printf(arena, "unable to fetch metrics from external metrics API: %s", error.message);
    for (size_t i = 0; list && i < list->items.len; i++)
        if (__builtin_add_overflow(ret->value, kp_quantity_str_milli(list->items.items[i].value), &ret->value))
            ret->value = INT64_MAX;
}

static const struct hpa_metric *ask_metrics(struct engine *engine, const struct asking *a)
{
    const struct k8s_metric_spec_items *specs = &a->in->hpa->spec->metrics;
    struct hpa_metric *metrics = KP_NEW_ARRAY(a->in->arena, struct hpa_metric, specs->len + 1);
    for (size_t i = 0; i < specs->len; i++) {
        const struct k8s_metric_spec *spec = &specs->items[i];
        if (spec->resource)
            ask_resource(a, spec->resource->name, NULL, &metrics[i]);
        else if (spec->container_resource)
            ask_resource(a, spec->container_resource->name, spec->container_resource->container, &metrics[i]);
        else if (spec->pods)
            ask_pods(a, spec->pods->metric, &metrics[i]);
        else if (spec->object)
            ask_object(a, engine, spec->object, &metrics[i]);
        else if (spec->external)
            ask_external(a, spec->external->metric, &metrics[i]);
    }
    return metrics;
}

/* ---- target and pods -------------------------------------------------------------------------------------------------------------- */
static void get_scale(const struct plan_input *plan_in, struct hpa_input *in)
{
    const struct k8s_autoscaling_v2_cross_version_object_reference *ref = in->hpa->spec->scale_target_ref;
    const char *group, *version;
    struct kp_error error = {0};
    void *scale = NULL;
    in->scale_error = split_version(ref->api_version, in->arena, &group, &version);
    if (in->scale_error)
        return;
    in->target = hpa_resource_of(plan_in->engine, group, version, ref->kind, in->arena);
    if (!in->target)
        in->scale_error = kp_arena_printf(in->arena, "no matches for kind \"%s\" in group \"%s\"", ref->kind, group);
    else if (client_get_sub(engine_client(plan_in->engine), in->target, plan_in->ns, ref->name, "scale", &k8s_scale_type, in->arena, &scale, &error) < 0)
        in->scale_error = kp_arena_strdup(in->arena, error.message);
    in->scale = scale;
}

static void find_pods(const struct plan_input *plan_in, struct hpa_input *in)
{
    struct kp_selector selector;
    struct kp_error error = {0};
    const void *const *pods;
    if (kp_label_selector_parse(in->scale->status->selector, in->arena, &selector, &error) < 0) {
        in->selector_error = kp_arena_strdup(in->arena, error.message);
        return;
    }
    size_t n = client_view_list(plan_in->view, engine_cache(plan_in->engine, &k8s_pods_resource), plan_in->ns, &pods);
    const struct k8s_pod **selected = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_pod *pod = pods[i];
        if (kp_selector_matches(&selector, &pod->metadata->labels))
            selected[in->n_pods++] = pod;
    }
    in->pods = selected;
}

void hpa_gather(const struct plan_input *plan_in, struct hpa_input *in)
{
    get_scale(plan_in, in);
    if (in->scale_error || kp_empty(in->scale->status->selector))
        return;
    find_pods(plan_in, in);
    const struct asking a = {engine_client(plan_in->engine), in, plan_in->ns, in->scale->status->selector};
    if (!in->selector_error && hpa_needs_metrics(in->hpa, in->scale))
        in->metrics = ask_metrics(plan_in->engine, &a);
}
