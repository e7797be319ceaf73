/* Who may use the kubelet's server: client certificates or tokens, then a SubjectAccessReview, with caches. */
#include "nodeimage/kubelet/server_internal.h"

#define ALLOWED_FOR_MS 300000
#define DENIED_FOR_MS 30000
#define TOKEN_FOR_MS 120000
#define CACHE_MAX 4096
#define GROUPS_MAX 64

struct verdict {
    bool allowed;
    int64_t until_ms;
};
struct identity {
    const char *user;
    const char *groups[GROUPS_MAX];
    size_t n_groups;
};
struct cached_identity {
    struct kp_arena *arena;
    struct identity who;
    int64_t until_ms;
};

struct kubelet_auth {
    struct kubelet *kubelet;
    pthread_mutex_t lock;
    struct kp_strmap *verdicts; /* struct verdict by user, groups, verb, subresource */
    struct kp_strmap *tokens;   /* struct cached_identity by hash of the token */
};

struct kubelet_auth *kubelet_auth_new(struct kubelet *kubelet)
{
    struct kubelet_auth *auth = kp_calloc(1, sizeof(*auth));
    auth->kubelet = kubelet;
    pthread_mutex_init(&auth->lock, NULL);
    auth->verdicts = kp_strmap_new();
    auth->tokens = kp_strmap_new();
    return auth;
}

const char *kubelet_auth_subresource(const char *path)
{
    static const char *const names[][2] = {{"/stats", "stats"},     {"/metrics", "metrics"}, {"/logs", "log"},
                                           {"/healthz", "healthz"}, {"/pods", "pods"},       {"/runningpods", "pods"},
                                           {"/configz", "configz"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i][0]);
        if (strncmp(path, names[i][0], len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return names[i][1];
    }
    return "proxy";
}

const char *kubelet_auth_verb(const char *method)
{
    static const char *const names[][2] = {
        {"POST", "create"}, {"PUT", "update"}, {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(method, names[i][0]))
            return names[i][1];
    return "get";
}

static void cached_identity_free(void *p)
{
    struct cached_identity *cached = p;
    kp_arena_free(cached->arena);
    free(cached);
}

static void copy_identity(struct kp_arena *arena, const struct identity *from, struct identity *to)
{
    to->user = kp_arena_strdup(arena, from->user);
    to->n_groups = from->n_groups;
    for (size_t i = 0; i < from->n_groups; i++)
        to->groups[i] = kp_arena_strdup(arena, from->groups[i]);
}

static int review_token(struct kubelet_auth *auth, const char *token, struct kp_arena *arena, struct identity *ret,
                        struct kp_error *error)
{
    struct k8s_token_review *review = KP_OBJECT_NEW(arena, k8s_token_review);
    if (!review->spec)
        review->spec = KP_OBJECT_NEW(arena, k8s_token_review_spec);
    review->spec->token = token;
    void *answer = NULL;
    int rc = client_create(auth->kubelet->client, &k8s_tokenreviews_resource, NULL, review, NULL, arena, &answer, error);
    if (rc < 0)
        return rc;
    const struct k8s_token_review_status *status = ((struct k8s_token_review *)answer)->status;
    if (!status || !status->authenticated || !status->user || kp_empty(status->user->username))
        return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
    ret->user = status->user->username;
    for (size_t i = 0; i < status->user->groups.len && ret->n_groups < GROUPS_MAX; i++)
        ret->groups[ret->n_groups++] = status->user->groups.items[i];
    return 0;
}

static int identity_of_token(struct kubelet_auth *auth, const char *token, struct kp_arena *arena, struct identity *ret,
                             struct kp_error *error)
{
    char key[64];
    snprintf(key, sizeof(key), "%016llx%zu", (unsigned long long)kp_hash64(token, strlen(token)), strlen(token));
    char *full_key = kp_arena_printf(arena, "%s%s", key, strrchr(token, '.') ? strrchr(token, '.') : token);
    pthread_mutex_lock(&auth->lock);
    const struct cached_identity *known = kp_strmap_get(auth->tokens, full_key);
    bool found = known && kp_mono_ms() < known->until_ms;
    if (found)
        copy_identity(arena, &known->who, ret);
    pthread_mutex_unlock(&auth->lock);
    if (found)
        return 0;
    if (!auth->kubelet->client)
        return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
    int rc = review_token(auth, token, arena, ret, error);
    if (rc < 0)
        return rc;
    struct cached_identity *cached = kp_calloc(1, sizeof(*cached));
    cached->arena = kp_arena_new(0);
    copy_identity(cached->arena, ret, &cached->who);
    cached->until_ms = kp_mono_ms() + TOKEN_FOR_MS;
    pthread_mutex_lock(&auth->lock);
    if (kp_strmap_len(auth->tokens) >= CACHE_MAX) {
        kp_strmap_free(auth->tokens, cached_identity_free);
        auth->tokens = kp_strmap_new();
    }
    struct cached_identity *old = kp_strmap_put(auth->tokens, full_key, cached);
    if (old)
        cached_identity_free(old);
    pthread_mutex_unlock(&auth->lock);
    return 0;
}

static int authenticate(struct kubelet_auth *auth, struct http_request *req, struct identity *ret, struct kp_error *error)
{
    const char *header = http_request_header(req, "Authorization");
    if (req->peer && !kp_empty(req->peer->common_name)) {
        ret->user = req->peer->common_name;
        for (size_t i = 0; i < req->peer->organization_count && ret->n_groups < GROUPS_MAX - 1; i++)
            ret->groups[ret->n_groups++] = req->peer->organizations[i];
        ret->groups[ret->n_groups++] = "system:authenticated";
        return 0;
    }
    if (header && kp_starts_with(header, "Bearer "))
        return identity_of_token(auth, header + strlen("Bearer "), req->arena, ret, error);
    if (auth->kubelet->config.anonymous_auth) {
        ret->user = "system:anonymous";
        ret->groups[ret->n_groups++] = "system:unauthenticated";
        return 0;
    }
    return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
}

static int review_access(struct kubelet_auth *auth, const struct identity *who, const char *verb, const char *subresource,
                         struct kp_arena *arena, bool *ret_allowed, struct kp_error *error)
{
    struct k8s_subject_access_review *review = KP_OBJECT_NEW(arena, k8s_subject_access_review);
    if (!review->spec)
        review->spec = KP_OBJECT_NEW(arena, k8s_subject_access_review_spec);
    review->spec->user = who->user;
    for (size_t i = 0; i < who->n_groups; i++)
        kp_string_list_add(arena, &review->spec->groups, who->groups[i]);
    struct k8s_resource_attributes *attributes = KP_OBJECT_NEW(arena, k8s_resource_attributes);
    attributes->verb = verb;
    attributes->version = "v1";
    attributes->resource = "nodes";
    attributes->subresource = subresource;
    attributes->name = auth->kubelet->config.node_name;
    review->spec->resource_attributes = attributes;
    void *answer = NULL;
    int rc = client_create(auth->kubelet->client, &k8s_subjectaccessreviews_resource, NULL, review, NULL, arena, &answer, error);
    if (rc < 0)
        return kp_wrap(error, "SubjectAccessReview");
    const struct k8s_subject_access_review_status *status = ((struct k8s_subject_access_review *)answer)->status;
    *ret_allowed = status && status->allowed;
    return 0;
}

static bool cached_verdict(struct kubelet_auth *auth, const char *key, bool *ret_allowed)
{
    pthread_mutex_lock(&auth->lock);
    const struct verdict *verdict = kp_strmap_get(auth->verdicts, key);
    bool found = verdict && kp_mono_ms() < verdict->until_ms;
    if (found)
        *ret_allowed = verdict->allowed;
    pthread_mutex_unlock(&auth->lock);
    return found;
}

static void cache_verdict(struct kubelet_auth *auth, const char *key, bool allowed)
{
    struct verdict *verdict = kp_calloc(1, sizeof(*verdict));
    *verdict = (struct verdict){.allowed = allowed, .until_ms = kp_mono_ms() + (allowed ? ALLOWED_FOR_MS : DENIED_FOR_MS)};
    pthread_mutex_lock(&auth->lock);
    if (kp_strmap_len(auth->verdicts) >= CACHE_MAX) {
        kp_strmap_free(auth->verdicts, free);
        auth->verdicts = kp_strmap_new();
    }
    free(kp_strmap_put(auth->verdicts, key, verdict));
    pthread_mutex_unlock(&auth->lock);
}

static int authorize(struct kubelet_auth *auth, const struct identity *who, const char *verb, const char *subresource,
                     struct kp_arena *arena, bool *ret_allowed, struct kp_error *error)
{
    *ret_allowed = true;
    for (size_t i = 0; i < who->n_groups; i++)
        if (kp_streq(who->groups[i], "system:masters"))
            return 0; /* the API server would not look further either */
    if (!auth->kubelet->config.authorize_webhook)
        return 0;
    *ret_allowed = false;
    if (!auth->kubelet->client)
        return 0;
    KP_AUTO_BUF struct kp_buf key = {0};
    kp_buf_printf(&key, "%s\n%s\n%s", who->user, verb, subresource);
    for (size_t i = 0; i < who->n_groups; i++)
        kp_buf_printf(&key, "\n%s", who->groups[i]);
    if (cached_verdict(auth, key.data, ret_allowed))
        return 0;
    int rc = review_access(auth, who, verb, subresource, arena, ret_allowed, error);
    /* Whoever may use the whole proxy may use its parts. */
    if (rc == 0 && !*ret_allowed && !kp_streq(subresource, "proxy"))
        rc = review_access(auth, who, verb, "proxy", arena, ret_allowed, error);
    if (rc == 0)
        cache_verdict(auth, key.data, *ret_allowed);
    return rc;
}

bool kubelet_auth_check(struct kubelet_auth *auth, struct http_request *req)
{
    struct identity *who = KP_NEW(req->arena, struct identity);
    struct kp_error error = {0};
    if (authenticate(auth, req, who, &error) < 0) {
        kubelet_respond_text(req, 401, "Unauthorized");
        return false;
    }
    const char *verb = kubelet_auth_verb(req->method), *subresource = kubelet_auth_subresource(req->path);
    bool allowed;
    if (authorize(auth, who, verb, subresource, req->arena, &allowed, &error) < 0) {
        kubelet_respond_text(req, 500, kp_arena_printf(req->arena, "Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)",
                                                       who->user, verb, subresource));
        kp_warn("authorization failed", "user", who->user, "error", error.message, NULL);
        return false;
    }
    if (!allowed)
        kubelet_respond_text(req, 403, kp_arena_printf(req->arena, "Forbidden (user=%s, verb=%s, resource=nodes, subresource=%s)",
                                                       who->user, verb, subresource));
    return allowed;
}
