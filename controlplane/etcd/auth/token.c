/* Simple tokens: random text that the log gave to a user, good for some time after its last use. */
#include "controlplane/etcd/auth/auth_internal.h"

#define BUCKETS 4096

/* Known by its hash only: looking one up takes no longer for a guess that begins well. */
struct token {
    uint8_t hash[TLS_SHA256_BYTES];
    char *user;
    int64_t expiry_ms;
    struct token *next;
};
struct tokens {
    pthread_mutex_t mutex;
    int64_t ttl_ms, next_sweep_ms;
    size_t len;
    struct token *buckets[BUCKETS];
};

struct tokens *tokens_new(int64_t ttl_s)
{
    struct tokens *tokens = kp_calloc(1, sizeof *tokens);
    pthread_mutex_init(&tokens->mutex, NULL);
    tokens->ttl_ms = (ttl_s > 0 ? ttl_s : AUTH_TOKEN_TTL_S_DEFAULT) * 1000;
    return tokens;
}

static struct token **bucket_of(struct tokens *tokens, const uint8_t hash[TLS_SHA256_BYTES])
{
    uint32_t at;
    memcpy(&at, hash, sizeof at);
    return &tokens->buckets[at % BUCKETS];
}

static void unlink_token(struct tokens *tokens, struct token **at)
{
    struct token *token = *at;
    *at = token->next;
    tokens->len--;
    free(token->user);
    free(token);
}

/* Drops what is over, and of a user what is not (NULL: nobody's). */
static void sweep(struct tokens *tokens, int64_t now_ms, const char *user)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct token **at = &tokens->buckets[i]; *at;) {
            if ((*at)->expiry_ms <= now_ms || kp_streq((*at)->user, user))
                unlink_token(tokens, at);
            else
                at = &(*at)->next;
        }
}

static void drop_oldest(struct tokens *tokens)
{
    struct token **oldest = NULL;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct token **at = &tokens->buckets[i]; *at; at = &(*at)->next)
            if (!oldest || (*at)->expiry_ms < (*oldest)->expiry_ms)
                oldest = at;
    if (oldest)
        unlink_token(tokens, oldest);
}

void tokens_add(struct tokens *tokens, const char *token, const char *user, int64_t now_ms)
{
    struct token *added = kp_calloc(1, sizeof *added);
    tls_sha256(token, strlen(token), added->hash);
    added->user = kp_strdup(user);
    added->expiry_ms = now_ms + tokens->ttl_ms;
    pthread_mutex_lock(&tokens->mutex);
    if (now_ms >= tokens->next_sweep_ms) {
        sweep(tokens, now_ms, NULL);
        tokens->next_sweep_ms = now_ms + 1000;
    }
    if (tokens->len >= AUTH_TOKENS_MAX)
        drop_oldest(tokens);
    struct token **slot = bucket_of(tokens, added->hash);
    added->next = *slot;
    *slot = added;
    tokens->len++;
    pthread_mutex_unlock(&tokens->mutex);
}

bool tokens_find(struct tokens *tokens, const char *token, int64_t now_ms, char user[AUTH_NAME_MAX + 1])
{
    uint8_t hash[TLS_SHA256_BYTES];
    tls_sha256(token, strlen(token), hash);
    pthread_mutex_lock(&tokens->mutex);
    struct token *found = *bucket_of(tokens, hash);
    while (found && !kp_equal_constant_time(found->hash, hash, sizeof hash))
        found = found->next;
    bool good = found && found->expiry_ms > now_ms;
    if (good) {
        found->expiry_ms = now_ms + tokens->ttl_ms;
        snprintf(user, AUTH_NAME_MAX + 1, "%s", found->user);
    }
    pthread_mutex_unlock(&tokens->mutex);
    return good;
}

void tokens_drop_user(struct tokens *tokens, const char *user)
{
    pthread_mutex_lock(&tokens->mutex);
    sweep(tokens, INT64_MIN, user);
    pthread_mutex_unlock(&tokens->mutex);
}

void tokens_clear(struct tokens *tokens)
{
    pthread_mutex_lock(&tokens->mutex);
    sweep(tokens, INT64_MAX, NULL);
    pthread_mutex_unlock(&tokens->mutex);
}

size_t tokens_len(struct tokens *tokens)
{
    pthread_mutex_lock(&tokens->mutex);
    size_t len = tokens->len;
    pthread_mutex_unlock(&tokens->mutex);
    return len;
}

void tokens_free(struct tokens *tokens)
{
    if (!tokens)
        return;
    tokens_clear(tokens);
    pthread_mutex_destroy(&tokens->mutex);
    free(tokens);
}

bool token_index(const char *token, uint64_t *ret_index)
{
    const char *dot = strchr(token, '.');
    return dot && !strchr(dot + 1, '.') && dot[1] >= '0' && dot[1] <= '9' && kp_parse_u64(dot + 1, ret_index) == 0;
}
