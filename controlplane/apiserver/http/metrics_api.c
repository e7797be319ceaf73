/* metrics.k8s.io/v1beta1, built in: which nodes and pods are asked for, and the answers in the form asked for. */
#include "controlplane/apiserver/http/encode_internal.h"

#include "controlplane/apiserver/resource_metrics/resource_metrics.h"
#include "controlplane/apiserver/table/table.h"

bool builtin_metrics_has(const struct kp_resource *resource)
{
    return strcmp(resource->group, RESOURCE_METRICS_GROUP) == 0 && !resource->custom;
}

bool builtin_metrics_on(const struct api_server *server)
{
    return server->config.resource_metrics != NULL;
}

/* ---- which ------------------------------------------------------------------------------------------------------------------- */
static bool is_verb(const struct api_request *ar, const char *verb)
{
    return strcmp(ar->info.verb, verb) == 0;
}

static struct wcache *cache_of(struct api_request *ar, const struct kp_resource *resource)
{
    return registry_cache_of(ar->server->config.registry, registry_kind_of(resource));
}

static int check_field_names(struct api_request *ar, const struct kp_selector *fields)
{
    for (size_t i = 0; fields && i < fields->len; i++) {
        const char *key = fields->items[i].key;
        if (strcmp(key, "metadata.name") != 0 && strcmp(key, "metadata.namespace") != 0)
            return status_bad_request(&ar->status, "\"%s\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", key);
    }
    return 0;
}

/* The nodes or pods of the request, of whose metadata its answer is made. */
static int select_objects(struct api_request *ar, const struct kp_resource *resource, struct wcache_list *ret_list)
{
    struct wcache_filter filter = {.ns = ar->rq.ns, .name = ar->info.name};
    const char *labels = query_of(ar, "labelSelector"), *fields = query_of(ar, "fieldSelector");
    struct kp_selector by_label, by_field;
    struct kp_error error = {0};
    bool list = is_verb(ar, "list");
    if (list && !kp_empty(labels)) {
        if (kp_label_selector_parse(labels, ar->arena, &by_label, &error) < 0)
            return status_bad_request(&ar->status, "%s", error.message);
        filter.labels = &by_label;
    }
    if (list && !kp_empty(fields)) {
        if (kp_field_selector_parse(fields, ar->arena, &by_field, &error) < 0)
            return status_bad_request(&ar->status, "%s", error.message);
        if (check_field_names(ar, &by_field) < 0)
            return ar->status.code;
        filter.fields = &by_field;
    }
    wcache_list(cache_of(ar, resource), &filter, NULL, 0, ar->arena, ret_list);
    return 0;
}

static const char *node_of_pod(struct api_request *ar, const struct wcache_object *pod)
{
    const char *const *fields = wcache_kind(cache_of(ar, &k8s_pods_resource))->fields;
    for (size_t i = 0; fields[i]; i++)
        if (wcache_field_is(fields[i], "spec.nodeName"))
            return pod->fields[i];
    return "";
}

/* ---- from whom ---------------------------------------------------------------------------------------------------------------- */
static bool is_ready(const struct k8s_node *node)
{
    for (size_t i = 0; i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, "Ready"))
            return kp_streq(node->status->conditions.items[i].status, "True");
    return false;
}

struct asked {
    struct kp_strmap *at; /* the place of a node, counted from 1 */
    struct resource_metrics_node *nodes;
    struct resource_metrics_sample **samples;
    size_t len;
};

/* A node that is not ready is not asked: nobody waits for a machine that is known to be gone. */
static void add_node(struct api_request *ar, struct asked *asked, const char *name)
{
    if (!*name || kp_strmap_get(asked->at, name))
        return;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache_of(ar, &k8s_nodes_resource), name);
    const struct k8s_node *node = object ? registry_decode(registry_kind_of(&k8s_nodes_resource), object, ar->arena) : NULL;
    const char *endpoint = node && is_ready(node) ? kubelet_endpoint_of(ar->server->config.kubelet_address_types, node, ar->arena) : NULL;
    if (!endpoint)
        return;
    asked->nodes[asked->len] = (struct resource_metrics_node){kp_arena_strdup(ar->arena, name), endpoint};
    kp_strmap_put(asked->at, name, (void *)(uintptr_t)++asked->len);
}

static void ask(struct api_request *ar, const struct wcache_list *list, bool pods, struct asked *asked)
{
    *asked = (struct asked){.at = kp_strmap_new(), .nodes = KP_NEW_ARRAY(ar->arena, struct resource_metrics_node, list->len + 1)};
    for (size_t i = 0; i < list->len; i++)
        add_node(ar, asked, pods ? node_of_pod(ar, list->items[i]) : list->items[i]->name);
    asked->samples = KP_NEW_ARRAY(ar->arena, struct resource_metrics_sample *, asked->len + 1);
    resource_metrics_ask(ar->server->config.resource_metrics, asked->nodes, asked->len, asked->samples);
}

static const struct resource_metrics_sample *sample_of(const struct asked *asked, const char *node)
{
    uintptr_t place = (uintptr_t)kp_strmap_get(asked->at, node);
    return place ? asked->samples[place - 1] : NULL;
}

static void asked_done(struct asked *asked)
{
    for (size_t i = 0; i < asked->len; i++)
        resource_metrics_sample_unref(asked->samples[i]);
    kp_strmap_free(asked->at, NULL);
}

/* ---- the answer ----------------------------------------------------------------------------------------------------------------- */
static void put_row(struct api_request *ar, const struct encoding *encoding, const void *item, struct kp_buf *out)
{
    const struct k8s_partial_object_metadata partial = {.metadata = kp_object_meta(ar->resource->type, item)};
    kp_buf_puts(out, "{\"cells\":");
    table_cells(ar->resource, item, ar->rq.now_s, ar->arena, out);
    kp_buf_puts(out, ",\"object\":");
    if (encoding->include == INCLUDE_NONE)
        kp_buf_puts(out, "null");
    else if (encoding->include == INCLUDE_METADATA)
        kp_json_encode(&k8s_partial_object_metadata_type, &partial, out);
    else
        kp_json_encode(ar->resource->type, item, out);
    kp_buf_putc(out, '}');
}

static void respond_table(struct api_request *ar, const struct kp_list *items)
{
    struct encoding encoding = encoding_of(ar);
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{},\"columnDefinitions\":");
    table_columns(ar->resource, &out);
    kp_buf_puts(&out, ",\"rows\":[");
    for (size_t i = 0; i < items->len; i++) {
        kp_buf_puts(&out, i ? "," : "");
        put_row(ar, &encoding, (const char *)items->items + i * ar->resource->type->size, &out);
    }
    kp_buf_puts(&out, "]}");
    if (encode_form(&encoding, ar->arena, &out, &error) < 0) {
        status_from_error(&ar->status, &error);
        respond_status(ar);
        return;
    }
    respond_bytes(ar, 200, form_content_type(ar->out.form), out.data, out.len);
}

static void respond_metadata(struct api_request *ar, const struct kp_list *items, bool list)
{
    struct k8s_partial_object_metadata_list *all = KP_OBJECT_NEW(ar->arena, k8s_partial_object_metadata_list);
    for (size_t i = 0; i < items->len; i++)
        KP_LIST_ADD(ar->arena, &all->items)->metadata =
            kp_object_meta(ar->resource->type, (const char *)items->items + i * ar->resource->type->size);
    if (list)
        respond_typed(ar, 200, &k8s_partial_object_metadata_list_type, all);
    else
        respond_typed(ar, 200, &k8s_partial_object_metadata_type, &all->items.items[0]);
}

static void respond_items(struct api_request *ar, const struct kp_list *items)
{
    const struct kp_type *list_type = ar->resource->list_type;
    bool list = is_verb(ar, "list");
    if (ar->out.shape == SHAPE_TABLE) {
        respond_table(ar, items);
    } else if (ar->out.shape != SHAPE_OBJECT) {
        respond_metadata(ar, items, list);
    } else if (list) {
        void *obj = kp_object_new(list_type, ar->arena);
        *(struct kp_list *)(void *)((char *)obj + list_type->items_offset) = *items;
        respond_typed(ar, 200, list_type, obj);
    } else {
        respond_typed(ar, 200, ar->resource->type, items->items);
    }
}

/* As metrics-server: an object that is not there at all is missed by its own name, one without metrics by that of the metrics. */
static void respond_missing(struct api_request *ar, bool pods, bool known)
{
    if (!known)
        status_not_found(&ar->status, "", pods ? "pods" : "node", ar->info.name);
    else if (pods)
        status_not_found(&ar->status, RESOURCE_METRICS_GROUP, "podmetrics", kp_arena_printf(ar->arena, "%s/%s", ar->rq.ns, ar->info.name));
    else
        status_not_found(&ar->status, RESOURCE_METRICS_GROUP, "nodemetrics", ar->info.name);
    respond_status(ar);
}

void builtin_metrics_handle(struct api_request *ar)
{
    bool pods = strcmp(ar->resource->name, "pods") == 0;
    struct wcache_list list;
    struct asked asked;
    if (select_objects(ar, pods ? &k8s_pods_resource : &k8s_nodes_resource, &list) < 0) {
        respond_status(ar);
        return;
    }
    ask(ar, &list, pods, &asked);
    const struct kp_type *type = ar->resource->type;
    struct kp_list items = {.items = kp_arena_alloc(ar->arena, type->size * (list.len + 1))};
    for (size_t i = 0; i < list.len; i++) {
        const struct wcache_object *object = list.items[i];
        const struct resource_metrics_sample *sample = sample_of(&asked, pods ? node_of_pod(ar, object) : object->name);
        void *item = (char *)items.items + items.len * type->size;
        if (sample && (pods ? resource_metrics_of_pod(sample, object->ns, object->name, &object->labels, ar->rq.now_s, ar->arena, item)
                            : resource_metrics_of_node(sample, object->name, &object->labels, ar->rq.now_s, ar->arena, item)))
            items.len++;
    }
    if (items.len || is_verb(ar, "list"))
        respond_items(ar, &items);
    else
        respond_missing(ar, pods, list.len > 0);
    asked_done(&asked);
    wcache_list_done(&list);
}
