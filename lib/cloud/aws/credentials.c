/* Where keys come from, in the order of AWS's SDKs: the environment, the profile's files, the instance's role. */
#include "cloud/aws/aws_internal.h"

#define REFRESH_BEFORE_S 300 /* keys that end within this time are replaced */
#define RETRY_ARENA_MAX ((size_t)1 << 20)

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static bool from_environment(struct kp_arena *arena, struct aws_keys *ret)
{
    if (kp_empty(env("AWS_ACCESS_KEY_ID")) || kp_empty(env("AWS_SECRET_ACCESS_KEY")))
        return false;
    ret->id = kp_arena_strdup(arena, env("AWS_ACCESS_KEY_ID"));
    ret->secret = kp_arena_strdup(arena, env("AWS_SECRET_ACCESS_KEY"));
    ret->token = kp_arena_strdup(arena, env("AWS_SESSION_TOKEN"));
    ret->expires_s = 0;
    ret->source = "AWS_ACCESS_KEY_ID of the environment";
    return true;
}

/* KP_ENOTFOUND: the profile has no keys, and the next place may be asked. */
static int from_profile(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, const char **ret_looked, struct kp_error *error)
{
    struct aws_profile profile;
    int r = aws_profile_read(aws, arena, &profile, ret_looked, error);
    if (r < 0)
        return r;
    if (*profile.id && *profile.secret) {
        *ret = (struct aws_keys){profile.id, profile.secret, profile.token, 0, *ret_looked};
        return 0;
    }
    const char *way = *profile.role_arn ? "role_arn" : *profile.process ? "credential_process" : *profile.sso ? "single sign-on" : NULL;
    if (way)
        return kp_fail(error, KP_EUNAUTHORIZED, "%s gets its keys by %s, which kprov does not do: put the keys of `aws configure export-credentials --format env` "
                       "into the environment", *ret_looked, way);
    return kp_fail(error, KP_ENOTFOUND, "%s", profile.found ? "it has no keys" : "it is not there");
}

static int find(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, struct kp_error *error)
{
    struct kp_error no_profile = {0}, no_role = {0};
    const char *looked = "";
    if (!aws->profile_only && from_environment(arena, ret))
        return 0;
    int r = from_profile(aws, arena, ret, &looked, &no_profile);
    if (r == 0)
        return 0;
    if (r != KP_ENOTFOUND)
        return aws_pass(error, &no_profile);
    if (aws->profile_only)
        return kp_fail(error, KP_EUNAUTHORIZED, "no AWS keys: looked at %s: %s", looked, no_profile.message);
    if (aws_imds_keys(aws, arena, ret, &no_role) == 0)
        return 0;
    return kp_fail(error, KP_EUNAUTHORIZED, "no AWS keys: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set), %s (%s), instance metadata (%s)",
                   looked, no_profile.message, no_role.message);
}

static bool wants_new(const struct aws *aws)
{
    return !aws->have_keys || (aws->keys.expires_s && aws->keys.expires_s - kp_now_s() < REFRESH_BEFORE_S);
}

/* With state_lock held. Keys that still hold are used on when no new ones are to be had. */
static int renew(struct aws *aws, struct kp_error *error)
{
    struct kp_arena *arena = kp_arena_new(RETRY_ARENA_MAX);
    struct aws_keys keys = {0};
    struct kp_error why = {0};
    int r = find(aws, arena, &keys, &why);
    if (r == 0) {
        kp_arena_free(aws->keys_arena);
        aws->keys_arena = arena;
        aws->keys = keys;
        aws->have_keys = true;
        return 0;
    }
    kp_arena_free(arena);
    if (aws->have_keys && aws->keys.expires_s > kp_now_s())
        return 0;
    aws->have_keys = false;
    return aws_pass(error, &why);
}

int aws_keys_get(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, struct kp_error *error)
{
    pthread_mutex_lock(&aws->state_lock);
    int r = wants_new(aws) ? renew(aws, error) : 0;
    if (r == 0) {
        ret->id = kp_arena_strdup(arena, aws->keys.id);
        ret->secret = kp_arena_strdup(arena, aws->keys.secret);
        ret->token = kp_arena_strdup(arena, aws->keys.token);
        ret->source = kp_arena_strdup(arena, aws->keys.source);
        ret->expires_s = aws->keys.expires_s;
    }
    pthread_mutex_unlock(&aws->state_lock);
    return r;
}

void aws_keys_forget(struct aws *aws, const char *id)
{
    pthread_mutex_lock(&aws->state_lock);
    if (aws->have_keys && kp_streq(aws->keys.id, id))
        aws->have_keys = false;
    pthread_mutex_unlock(&aws->state_lock);
}
