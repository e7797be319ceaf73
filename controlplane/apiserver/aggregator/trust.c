/* The ConfigMap kube-system/extension-apiserver-authentication: by what servers behind this one know our front-proxy certificate and its headers, and the
 * certificates of clients (upstream: kube-apiserver's clusterauthenticationtrust controller). */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

#include "lib/tls/tls.h"

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END "-----END CERTIFICATE-----"

static const char *json_list(const struct kp_string_list *list, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_putc(&out, '[');
    for (size_t i = 0; i < list->len; i++) {
        kp_buf_puts(&out, i ? "," : "");
        kp_json_string(&out, list->items[i]);
    }
    kp_buf_putc(&out, ']');
    return kp_arena_strdup(arena, out.data);
}

static int add_file(const char *path, const char *key, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    if (kp_empty(path))
        return 0;
    if (kp_read_file(path, TLS_CERT_PEM_MAX, &pem, error) < 0)
        return error->code;
    kp_string_map_set(arena, ret, key, kp_arena_strndup(arena, pem.data ? pem.data : "", pem.len));
    return 0;
}

int trust_read(const struct aggregator_trust *trust, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error)
{
    if (add_file(trust->client_ca_file, "client-ca-file", arena, ret, error) < 0 ||
        add_file(trust->requestheader_client_ca_file, "requestheader-client-ca-file", arena, ret, error) < 0)
        return error->code;
    if (kp_empty(trust->requestheader_client_ca_file))
        return 0;
    const struct {
        const char *key, *value;
    } lists[] = {{"requestheader-username-headers", trust->requestheader_username_headers},
                 {"requestheader-group-headers", trust->requestheader_group_headers},
                 {"requestheader-extra-headers-prefix", trust->requestheader_extra_headers_prefix},
                 {"requestheader-allowed-names", trust->requestheader_allowed_names}};
    for (size_t i = 0; i < KP_ARRAY_LEN(lists); i++) {
        const struct kp_string_list words = auth_split(arena, lists[i].value);
        kp_string_map_set(arena, ret, lists[i].key, json_list(&words, arena));
    }
    return 0;
}

/* ---- adding to what is there ------------------------------------------------------------------------------------------------------- */
static bool is_valid(const char *pem, int64_t now_s)
{
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    struct kp_error error = {0};
    return tls_cert_from_pem(pem, strlen(pem), &cert, &error) == 0 && tls_cert_info(cert)->not_after_s > now_s;
}

/* Each certificate that is not there yet; expired ones go. */
static void add_certificates(const char *pem, int64_t now_s, struct kp_arena *arena, struct kp_string_list *list)
{
    for (const char *at = strstr(pem, BEGIN); at; at = strstr(at + 1, BEGIN)) {
        const char *end = strstr(at, END);
        if (!end)
            return;
        const char *one = kp_arena_strndup(arena, at, (size_t)(end - at) + strlen(END));
        if (!kp_string_list_has(list, one) && is_valid(one, now_s))
            kp_string_list_add(arena, list, one);
    }
}

static const char *merge_certificates(const char *there, const char *own, int64_t now_s, struct kp_arena *arena)
{
    struct kp_string_list list = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    add_certificates(there, now_s, arena, &list);
    add_certificates(own, now_s, arena, &list);
    for (size_t i = 0; i < list.len; i++)
        kp_buf_printf(&out, "%s\n", list.items[i]);
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

static void add_words(const char *json, struct kp_arena *arena, struct kp_string_list *list)
{
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    if (kp_value_parse(json, strlen(json), arena, NULL, &root, &error) < 0)
        return; /* what is no list is replaced */
    for (size_t i = 0; kp_value_at(root, i); i++) {
        const char *word = kp_value_str(kp_value_at(root, i));
        if (word && !kp_string_list_has(list, word))
            kp_string_list_add(arena, list, word);
    }
}

/* No name at all means any: a list of names would take that away. */
static const char *merge_words(const char *key, const char *there, const char *own, struct kp_arena *arena)
{
    struct kp_string_list list = {0};
    bool any = strcmp(key, "requestheader-allowed-names") == 0 && strcmp(own, "[]") == 0;
    if (!any) {
        add_words(there, arena, &list);
        add_words(own, arena, &list);
    }
    return json_list(&list, arena);
}

struct kp_string_map trust_merge(const struct kp_string_map *there, const struct kp_string_map *own, int64_t now_s, struct kp_arena *arena)
{
    struct kp_string_map merged = *there; /* what others keep in it stays */
    for (size_t i = 0; i < own->len; i++) {
        const char *key = own->items[i].key, *was = kp_string_map_get(there, key);
        const char *value = kp_ends_with(key, "-ca-file") ? merge_certificates(was ? was : "", own->items[i].value, now_s, arena)
                                                          : merge_words(key, was ? was : "[]", own->items[i].value, arena);
        kp_string_map_set(arena, &merged, key, value);
    }
    return merged;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------------ */
static int make(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct k8s_config_map *map = current ? KP_OBJECT_CLONE(rq->arena, k8s_config_map, current) : KP_OBJECT_NEW(rq->arena, k8s_config_map);
    map->metadata->name = TRUST_NAME;
    map->metadata->namespace = TRUST_NAMESPACE;
    map->data = trust_merge(&map->data, arg, rq->now_s, rq->arena);
    *ret_new = map;
    return 0;
}

static bool is_right(struct aggregator *aggregator, struct kp_arena *arena)
{
    const struct registry_kind *kind = registry_kind_of(&k8s_configmaps_resource);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache_of(aggregator->config.registry, kind), TRUST_NAMESPACE "/" TRUST_NAME);
    if (!object)
        return false;
    const struct k8s_config_map *map = registry_decode(kind, object, arena);
    const struct kp_string_map merged = trust_merge(&map->data, &aggregator->trust, kp_now_s(), arena);
    return kp_string_map_equal(&merged, &map->data);
}

bool trust_publish(struct aggregator *aggregator, struct kp_arena *arena)
{
    if (!aggregator->trust.len || is_right(aggregator, arena))
        return true;
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_configmaps_resource, TRUST_NAMESPACE, TRUST_NAME);
    const struct registry_update_options options = {.create_allowed = true, .patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    int code = registry_update(aggregator->config.registry, &rq, &options, make, &aggregator->trust, &object, &created);
    if (code < 0)
        kp_debug("the ConfigMap " TRUST_NAME " could not be written yet", "error", status.message ? status.message : "", NULL);
    return code == 0;
}
