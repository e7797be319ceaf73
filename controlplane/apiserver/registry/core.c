/* Strategies of the smaller kinds of the core group. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include <arpa/inet.h>

#define DATA_BYTES_MAX (1 << 20)

/* ---- nodes ---------------------------------------------------------------------------------------------------------- */
void node_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_node *node = obj;
    if (node->status && !node->status->allocatable.len)
        for (size_t i = 0; i < node->status->capacity.len; i++)
            kp_string_map_set(rq->arena, &node->status->allocatable, node->status->capacity.items[i].key, node->status->capacity.items[i].value);
}

void node_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_node *node = obj;
    (void)rq;
    for (size_t i = 0; i < node->spec->taints.len; i++) {
        const struct k8s_taint *taint = &node->spec->taints.items[i];
        const char *fault = kp_validate_qualified_name(taint->key ? taint->key : "");
        if (fault)
            field_invalid(errors, taint->key, fault, "spec.taints[%zu].key", i);
        fault = kp_validate_label_value(taint->value ? taint->value : "");
        if (fault)
            field_invalid(errors, taint->value, fault, "spec.taints[%zu].value", i);
        for (size_t j = 0; j < i; j++)
            if (kp_streq(node->spec->taints.items[j].key, taint->key) && kp_streq(node->spec->taints.items[j].effect, taint->effect))
                field_duplicate(errors, taint->key, "spec.taints[%zu]", i);
    }
}

void node_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_node *node = obj, *before = old;
    (void)rq;
    if (!kp_empty(before->spec->pod_cidr) && !kp_streq(before->spec->pod_cidr, node->spec->pod_cidr))
        field_forbidden(errors, "node updates may not change podCIDR except from \"\" to valid", "spec.podCIDRs");
    if (!kp_empty(before->spec->provider_id) && !kp_streq(before->spec->provider_id, node->spec->provider_id))
        field_forbidden(errors, "node updates may not change providerID except from \"\" to valid", "spec.providerID");
}

/* ---- namespaces ----------------------------------------------------------------------------------------------------- */
void namespace_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_namespace *ns = obj;
    if (!kp_empty(ns->metadata->name))
        kp_string_map_set(rq->arena, &ns->metadata->labels, "kubernetes.io/metadata.name", ns->metadata->name);
}

void namespace_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_namespace *ns = obj;
    ns->status->phase = "Active";
    if (!kp_string_list_has(&ns->spec->finalizers, "kubernetes"))
        kp_string_list_add(rq->arena, &ns->spec->finalizers, "kubernetes");
}

void namespace_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    (void)rq;
    ((struct k8s_namespace *)obj)->spec->finalizers = ((const struct k8s_namespace *)old)->spec->finalizers;
}

void namespace_prepare_subresource(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_namespace *ns = obj;
    const struct k8s_namespace *before = old;
    if (strcmp(rq->subresource, "finalize") == 0)
        ns->status = before->status;
    else
        ns->spec = before->spec;
}

/* ---- config maps and secrets ------------------------------------------------------------------------------------------ */
static const char *data_key_fault(const char *key)
{
    size_t len = strlen(key);
    if (len > 253)
        return "must be no more than 253 characters";
    if (!len || strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != len)
        return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
               "regex used for validation is '[-._a-zA-Z0-9]+')";
    if (strcmp(key, ".") == 0)
        return "must not be '.'";
    return strncmp(key, "..", 2) == 0 ? "must not start with '..'" : NULL;
}

static void validate_bytes_map(const struct kp_bytes_map *map, struct field_errors *errors, const char *path, size_t *total)
{
    for (size_t i = 0; i < map->len; i++) {
        const char *fault = data_key_fault(map->items[i].key);
        if (fault)
            field_invalid(errors, map->items[i].key, fault, "%s[%s]", path, map->items[i].key);
        *total += map->items[i].value.len;
    }
}

void configmap_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_config_map *map = obj;
    size_t total = 0;
    (void)rq;
    for (size_t i = 0; i < map->data.len; i++) {
        const char *key = map->data.items[i].key, *fault = data_key_fault(key);
        if (fault)
            field_invalid(errors, key, fault, "data[%s]", key);
        for (size_t j = 0; j < map->binary_data.len; j++)
            if (strcmp(map->binary_data.items[j].key, key) == 0)
                field_invalid(errors, key, "duplicate of key present in binaryData", "data[%s]", key);
        total += map->data.items[i].value ? strlen(map->data.items[i].value) : 0;
    }
    validate_bytes_map(&map->binary_data, errors, "binaryData", &total);
    if (total > DATA_BYTES_MAX)
        field_too_long(errors, DATA_BYTES_MAX, "data");
}

static bool same_bytes(const struct kp_bytes_map *a, const struct kp_bytes_map *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (strcmp(a->items[i].key, b->items[i].key) != 0 || a->items[i].value.len != b->items[i].value.len ||
            (a->items[i].value.len && memcmp(a->items[i].value.data, b->items[i].value.data, a->items[i].value.len) != 0))
            return false;
    return true;
}

void configmap_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_config_map *map = obj, *before = old;
    (void)rq;
    if (!before->has_immutable || !before->immutable)
        return;
    if (!map->has_immutable || !map->immutable)
        field_forbidden(errors, "field is immutable when `immutable` is set", "immutable");
    if (!kp_string_map_equal(&map->data, &before->data))
        field_forbidden(errors, "field is immutable when `immutable` is set", "data");
    if (!same_bytes(&map->binary_data, &before->binary_data))
        field_forbidden(errors, "field is immutable when `immutable` is set", "binaryData");
}

static int compare_bytes_pair(const void *a, const void *b)
{
    return strcmp(((const struct kp_bytes_pair *)a)->key, ((const struct kp_bytes_pair *)b)->key);
}

static void set_bytes(struct kp_arena *arena, struct kp_bytes_map *map, const char *key, const char *value)
{
    struct kp_bytes bytes = {(const uint8_t *)(value ? value : ""), value ? strlen(value) : 0};
    for (size_t i = 0; i < map->len; i++)
        if (strcmp(map->items[i].key, key) == 0) {
            map->items[i].value = bytes;
            return;
        }
    struct kp_bytes_pair *items = KP_NEW_ARRAY(arena, struct kp_bytes_pair, map->len + 1);
    if (map->len)
        memcpy(items, map->items, map->len * sizeof(*items));
    items[map->len] = (struct kp_bytes_pair){key, bytes};
    map->items = items;
    qsort(map->items, ++map->len, sizeof(*map->items), compare_bytes_pair);
}

void secret_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_secret *secret = obj;
    for (size_t i = 0; i < secret->string_data.len; i++)
        set_bytes(rq->arena, &secret->data, secret->string_data.items[i].key, secret->string_data.items[i].value);
    secret->string_data = (struct kp_string_map){0};
}

static bool has_bytes(const struct kp_bytes_map *map, const char *key)
{
    for (size_t i = 0; i < map->len; i++)
        if (strcmp(map->items[i].key, key) == 0)
            return true;
    return false;
}

void secret_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_secret *secret = obj;
    size_t total = 0;
    (void)rq;
    validate_bytes_map(&secret->data, errors, "data", &total);
    if (total > DATA_BYTES_MAX)
        field_too_long(errors, DATA_BYTES_MAX, "data");
    if (kp_streq(secret->type, "kubernetes.io/service-account-token") &&
        kp_empty(kp_string_map_get(&secret->metadata->annotations, "kubernetes.io/service-account.name")))
        field_required(errors, "", "metadata.annotations[kubernetes.io/service-account.name]");
    if (kp_streq(secret->type, "kubernetes.io/tls")) {
        if (!has_bytes(&secret->data, "tls.crt"))
            field_required(errors, "", "data[tls.crt]");
        if (!has_bytes(&secret->data, "tls.key"))
            field_required(errors, "", "data[tls.key]");
    }
    if (kp_streq(secret->type, "kubernetes.io/dockerconfigjson") && !has_bytes(&secret->data, ".dockerconfigjson"))
        field_required(errors, "", "data[.dockerconfigjson]");
    if (kp_streq(secret->type, "kubernetes.io/ssh-auth") && !has_bytes(&secret->data, "ssh-privatekey"))
        field_required(errors, "", "data[ssh-privatekey]");
}

void secret_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_secret *secret = obj, *before = old;
    (void)rq;
    if (!kp_streq(secret->type, before->type))
        field_invalid(errors, secret->type, "field is immutable", "type");
    if (!before->has_immutable || !before->immutable)
        return;
    if (!secret->has_immutable || !secret->immutable)
        field_forbidden(errors, "field is immutable when `immutable` is set", "immutable");
    if (!same_bytes(&secret->data, &before->data))
        field_forbidden(errors, "field is immutable when `immutable` is set", "data");
}

/* ---- events, quotas, endpoints ------------------------------------------------------------------------------------------ */
void event_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_event *event = obj;
    const char *ns = event->involved_object->namespace ? event->involved_object->namespace : "";
    const char *own = event->metadata->namespace ? event->metadata->namespace : "";
    (void)rq;
    if (!*ns && strcmp(own, "default") != 0 && strcmp(own, "kube-system") != 0)
        field_invalid(errors, ns, "does not match event.namespace", "involvedObject.namespace");
    if (*ns && strcmp(ns, own) != 0)
        field_invalid(errors, ns, "does not match event.namespace", "involvedObject.namespace");
}

void resource_quota_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_resource_quota *quota = obj;
    (void)rq;
    for (size_t i = 0; i < quota->spec->hard.len; i++)
        if (kp_quantity_str_cmp(quota->spec->hard.items[i].value, "0") < 0)
            field_invalid(errors, quota->spec->hard.items[i].value, "must be greater than or equal to 0", "spec.hard[%s]", quota->spec->hard.items[i].key);
}

void endpoints_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_endpoints *endpoints = obj;
    (void)rq;
    for (size_t i = 0; i < endpoints->subsets.len; i++) {
        const struct k8s_endpoint_subset *subset = &endpoints->subsets.items[i];
        if (!subset->addresses.len && !subset->not_ready_addresses.len)
            field_required(errors, "must specify `addresses` or `notReadyAddresses`", "subsets[%zu]", i);
        for (size_t j = 0; j < subset->addresses.len; j++) {
            unsigned char address[16];
            const char *ip = subset->addresses.items[j].ip ? subset->addresses.items[j].ip : "";
            if (inet_pton(AF_INET, ip, address) != 1 && inet_pton(AF_INET6, ip, address) != 1)
                field_invalid(errors, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", "subsets[%zu].addresses[%zu].ip", i, j);
        }
    }
}
