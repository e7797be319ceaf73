/* Who asks: the client certificate that TLS has verified, else what the API server says of the token. */
#include "lib/delegate/delegate_internal.h"
#include "lib/tls/tls.h"

#include <strings.h>

#define BEARER "Bearer "

static void copy_user(struct kp_arena *arena, const struct delegate_user *from, struct delegate_user *to)
{
    to->name = kp_arena_strdup(arena, from->name);
    to->n_groups = from->n_groups;
    for (size_t i = 0; i < from->n_groups; i++)
        to->groups[i] = kp_arena_strdup(arena, from->groups[i]);
}

static void add_group(struct delegate_user *user, const char *group)
{
    if (user->n_groups < DELEGATE_GROUPS_MAX)
        user->groups[user->n_groups++] = group;
}

static int review_token(struct delegate *delegate, const char *token, struct kp_arena *arena, struct delegate_user *user, struct kp_error *error)
{
    struct k8s_token_review *review = KP_OBJECT_NEW(arena, k8s_token_review);
    if (!review->spec)
        review->spec = KP_OBJECT_NEW(arena, k8s_token_review_spec);
    review->spec->token = token;
    void *answer = NULL;
    client_thread_deadline(kp_mono_ms() + DELEGATE_REVIEW_MS);
    int rc = client_create(delegate->config.tokens, &k8s_tokenreviews_resource, NULL, review, NULL, arena, &answer, error);
    client_thread_deadline(0);
    if (rc < 0)
        return kp_wrap(error, "TokenReview");
    const struct k8s_token_review_status *status = ((struct k8s_token_review *)answer)->status;
    if (!status || !status->authenticated || !status->user || kp_empty(status->user->username))
        return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
    user->name = status->user->username;
    for (size_t i = 0; i < status->user->groups.len; i++)
        add_group(user, status->user->groups.items[i]);
    return 0;
}

/* Tokens are kept as their SHA-256. One that was refused is asked for again: it may become good, and nobody gains by guessing. */
static int user_of_token(struct delegate *delegate, const char *token, struct kp_arena *arena, struct delegate_user *user, struct kp_error *error)
{
    char key[TLS_SHA256_HEX_BYTES];
    tls_sha256_hex(token, strlen(token), key);
    pthread_mutex_lock(&delegate->lock);
    const struct delegate_answer *known = delegate_known(delegate->users, key);
    if (known)
        copy_user(arena, &known->user, user);
    pthread_mutex_unlock(&delegate->lock);
    if (known)
        return 0;
    if (!delegate->config.tokens)
        return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
    int rc = review_token(delegate, token, arena, user, error);
    if (rc < 0)
        return rc;
    struct delegate_answer *answer = kp_calloc(1, sizeof(*answer));
    answer->arena = kp_arena_new(0);
    copy_user(answer->arena, user, &answer->user);
    answer->until_ms = kp_mono_ms() + delegate->config.token_ms;
    delegate_remember(delegate, &delegate->users, key, answer);
    return 0;
}

int delegate_authenticate(struct delegate *delegate, struct http_request *req, struct delegate_user **ret, struct kp_error *error)
{
    struct delegate_user *user = *ret = KP_NEW(req->arena, struct delegate_user);
    const char *header = http_request_header(req, "Authorization");
    if (req->peer && !kp_empty(req->peer->common_name)) {
        user->name = req->peer->common_name;
        for (size_t i = 0; i < req->peer->organization_count && user->n_groups < DELEGATE_GROUPS_MAX - 1; i++)
            add_group(user, req->peer->organizations[i]);
        add_group(user, "system:authenticated");
        return 0;
    }
    if (header && strncasecmp(header, BEARER, strlen(BEARER)) == 0)
        return user_of_token(delegate, header + strlen(BEARER), req->arena, user, error);
    if (!delegate->config.anonymous)
        return kp_fail(error, KP_EUNAUTHORIZED, "Unauthorized");
    user->name = "system:anonymous";
    add_group(user, "system:unauthenticated");
    return 0;
}
