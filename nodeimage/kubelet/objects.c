/* ConfigMaps, Secrets and service-account tokens for pods, got from the API and reused for a short while. */
#include "nodeimage/kubelet/kubelet_internal.h"

#define CACHE_AGE_MAX_MS 60000    /* entries older than that are dropped when the cache is swept */
#define CACHE_ENTRIES_MAX 4096
#define TOKEN_REFRESH_PERCENT 80  /* of its lifetime */
#define TOKEN_REFRESH_MAX_S 86400

struct cached {
    char *json;
    int64_t got_ms;
};

struct token {
    char *text;
    int64_t refresh_s, expires_s; /* wall clock */
};

struct kubelet_objects {
    struct kubelet *kubelet;
    pthread_mutex_t lock;
    struct kp_strmap *cache;  /* "configmaps/ns/name" */
    struct kp_strmap *tokens; /* "uid/audience/expiration" */
};

struct getter {
    struct kubelet_getter public;
    struct kubelet_objects *objects;
    struct kp_arena *arena;
    int64_t age_ms_max;
};

static void cached_free(void *p)
{
    free(((struct cached *)p)->json);
    free(p);
}

static void token_free(void *p)
{
    struct token *token = p;
    explicit_bzero(token->text, strlen(token->text));
    free(token->text);
    free(token);
}

static void sweep(struct kubelet_objects *objects, int64_t now_ms)
{
    size_t iter = 0;
    const char *key;
    void *value;
    bool full = kp_strmap_len(objects->cache) >= CACHE_ENTRIES_MAX;
    while (kp_strmap_next(objects->cache, &iter, &key, &value)) {
        if (!full && now_ms - ((struct cached *)value)->got_ms < CACHE_AGE_MAX_MS)
            continue;
        kp_strmap_remove(objects->cache, key);
        cached_free(value);
    }
}

static void remember(struct kubelet_objects *objects, const char *key, const struct kp_type *type, const void *obj)
{
    struct kp_buf buf = {0};
    kp_json_encode(type, obj, &buf);
    struct cached *entry = kp_calloc(1, sizeof(*entry));
    entry->json = kp_buf_take(&buf);
    entry->got_ms = kp_mono_ms();
    pthread_mutex_lock(&objects->lock);
    sweep(objects, entry->got_ms);
    struct cached *old = kp_strmap_put(objects->cache, key, entry);
    if (old)
        cached_free(old);
    pthread_mutex_unlock(&objects->lock);
}

static bool recall(struct getter *getter, const char *key, const struct kp_type *type, void **ret)
{
    struct kubelet_objects *objects = getter->objects;
    bool found = false;
    pthread_mutex_lock(&objects->lock);
    const struct cached *entry = kp_strmap_get(objects->cache, key);
    if (entry && kp_mono_ms() - entry->got_ms <= getter->age_ms_max)
        found = kp_json_decode(type, entry->json, strlen(entry->json), getter->arena, NULL, ret, NULL) == 0;
    pthread_mutex_unlock(&objects->lock);
    return found;
}

static int get(struct getter *getter, const struct kp_resource *resource, const char *ns, const char *name, void **ret,
               struct kp_error *error)
{
    struct client *client = getter->objects->kubelet->client;
    if (!client)
        return kp_fail(error, KP_EUNAVAILABLE, "%s \"%s\" needs an API server", resource->singular, name);
    char *key = kp_arena_printf(getter->arena, "%s/%s/%s", resource->name, ns, name);
    if (getter->age_ms_max > 0 && recall(getter, key, resource->type, ret))
        return 0;
    int rc = client_get(client, resource, ns, name, getter->arena, ret, error);
    if (rc == 0 && getter->age_ms_max > 0)
        remember(getter->objects, key, resource->type, *ret);
    return rc;
}

static int get_config_map(void *arg, const char *ns, const char *name, const struct k8s_config_map **ret, struct kp_error *error)
{
    void *obj = NULL;
    int rc = get(arg, &k8s_configmaps_resource, ns, name, &obj, error);
    *ret = obj;
    return rc;
}

static int get_secret(void *arg, const char *ns, const char *name, const struct k8s_secret **ret, struct kp_error *error)
{
    void *obj = NULL;
    int rc = get(arg, &k8s_secrets_resource, ns, name, &obj, error);
    *ret = obj;
    return rc;
}

static int request_token(struct getter *getter, const struct k8s_pod *pod, const char *audience, int64_t expiration_s,
                         const struct k8s_token_request_status **ret, struct kp_error *error)
{
    struct kp_arena *arena = getter->arena;
    struct k8s_token_request *request = KP_OBJECT_NEW(arena, k8s_token_request);
    if (!request->spec)
        request->spec = KP_OBJECT_NEW(arena, k8s_token_request_spec);
    if (!kp_empty(audience))
        kp_string_list_add(arena, &request->spec->audiences, audience);
    KP_SET(request->spec, expiration_seconds, expiration_s);
    request->spec->bound_object_ref = KP_OBJECT_NEW(arena, k8s_bound_object_reference);
    request->spec->bound_object_ref->kind = "Pod";
    request->spec->bound_object_ref->api_version = "v1";
    request->spec->bound_object_ref->name = pod->metadata->name;
    request->spec->bound_object_ref->uid = pod->metadata->uid;
    const char *account = kp_empty(pod->spec->service_account_name) ? "default" : pod->spec->service_account_name;
    void *answer = NULL;
    int rc = client_create_sub(getter->objects->kubelet->client, &k8s_serviceaccounts_resource, pod->metadata->namespace, account,
                               "token", &k8s_token_request_type, request, arena, &answer, error);
    if (rc < 0)
        return kp_wrap(error, "failed to fetch token");
    *ret = ((struct k8s_token_request *)answer)->status;
    if (!*ret || kp_empty((*ret)->token))
        return kp_fail(error, KP_EINTERNAL, "failed to fetch token: the answer has none");
    return 0;
}

static char *token_key(struct getter *getter, const struct k8s_pod *pod, const char *audience, int64_t expiration_s)
{
    return kp_arena_printf(getter->arena, "%s/%s/%lld", pod->metadata->uid, audience ? audience : "", (long long)expiration_s);
}

static int get_token(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s, const char **ret,
                     struct kp_error *error)
{
    struct getter *getter = arg;
    struct kubelet_objects *objects = getter->objects;
    if (!objects->kubelet->client)
        return kp_fail(error, KP_EUNAVAILABLE, "a service account token needs an API server");
    char *key = token_key(getter, pod, audience, expiration_s);
    pthread_mutex_lock(&objects->lock);
    const struct token *known = kp_strmap_get(objects->tokens, key);
    *ret = known && kp_now_s() < known->refresh_s ? kp_arena_strdup(getter->arena, known->text) : NULL;
    pthread_mutex_unlock(&objects->lock);
    if (*ret)
        return 0;
    const struct k8s_token_request_status *status = NULL;
    int64_t now_s = kp_now_s();
    int rc = request_token(getter, pod, audience, expiration_s, &status, error);
    if (rc < 0)
        return rc;
    int64_t lifetime_s = status->expiration_timestamp.set ? status->expiration_timestamp.seconds - now_s : expiration_s;
    struct token *token = kp_calloc(1, sizeof(*token));
    token->text = kp_strdup(status->token);
    token->expires_s = now_s + lifetime_s;
    token->refresh_s = now_s + KP_MIN(lifetime_s * TOKEN_REFRESH_PERCENT / 100, TOKEN_REFRESH_MAX_S);
    pthread_mutex_lock(&objects->lock);
    struct token *old = kp_strmap_put(objects->tokens, key, token);
    if (old)
        token_free(old);
    pthread_mutex_unlock(&objects->lock);
    *ret = status->token;
    return 0;
}

static int64_t token_expiry(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s)
{
    struct getter *getter = arg;
    char *key = token_key(getter, pod, audience, expiration_s);
    pthread_mutex_lock(&getter->objects->lock);
    const struct token *known = kp_strmap_get(getter->objects->tokens, key);
    int64_t expires_s = known ? known->expires_s : 0;
    pthread_mutex_unlock(&getter->objects->lock);
    return expires_s;
}

static int get_object(void *arg, const struct kp_resource *resource, const char *ns, const char *name, void **ret, struct kp_error *error)
{
    struct getter *getter = arg;
    struct client *client = getter->objects->kubelet->client;
    if (!client)
        return kp_fail(error, KP_EUNAVAILABLE, "%s \"%s\" needs an API server", resource->singular, name);
    return client_get(client, resource, ns, name, getter->arena, ret, error);
}

struct kubelet_getter *kubelet_objects_getter(struct kubelet_objects *objects, struct kp_arena *arena, int64_t age_ms_max)
{
    struct getter *getter = KP_NEW(arena, struct getter);
    getter->objects = objects;
    getter->arena = arena;
    getter->age_ms_max = age_ms_max;
    getter->public = (struct kubelet_getter){
        .config_map = get_config_map, .secret = get_secret, .token = get_token, .token_expiry = token_expiry, .object = get_object, .arg = getter};
    return &getter->public;
}

void kubelet_objects_forget_pod(struct kubelet_objects *objects, const char *uid)
{
    size_t iter = 0;
    const char *key;
    void *value;
    pthread_mutex_lock(&objects->lock);
    while (kp_strmap_next(objects->tokens, &iter, &key, &value)) {
        if (!kp_starts_with(key, uid))
            continue;
        kp_strmap_remove(objects->tokens, key);
        token_free(value);
    }
    pthread_mutex_unlock(&objects->lock);
}

struct kubelet_objects *kubelet_objects_new(struct kubelet *kubelet)
{
    struct kubelet_objects *objects = kp_calloc(1, sizeof(*objects));
    objects->kubelet = kubelet;
    pthread_mutex_init(&objects->lock, NULL);
    objects->cache = kp_strmap_new();
    objects->tokens = kp_strmap_new();
    return objects;
}

void kubelet_objects_free(struct kubelet_objects *objects)
{
    if (!objects)
        return;
    kp_strmap_free(objects->cache, cached_free);
    kp_strmap_free(objects->tokens, token_free);
    free(objects);
}
