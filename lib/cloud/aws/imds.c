/* Instance metadata, version 2: what an EC2 instance may ask about itself, and the keys of its role. */
#include "cloud/aws/aws_internal.h"

#include "cloud/rest/json.h"

#define TOKEN_TTL "21600" /* seconds: the longest there is */

static int ask(struct aws *aws, const char *method, const char *path, const char *header, struct kp_arena *arena, const char **ret_text,
               struct kp_error *error)
{
    const char *const headers[] = {header, NULL};
    struct rest_answer answer;
    const struct rest_request request = {.operation = "imds", .method = method, .url = kp_arena_printf(arena, "%s%s", aws->imds_base, path), .headers = headers};
    int r = rest_do(aws->imds, &request, arena, &answer, error);
    if (r == 0 && answer.status != 200)
        r = kp_fail(error, rest_code(answer.status), "%s answers %d", request.url, answer.status);
    if (r == 0)
        *ret_text = answer.body;
    return r;
}

int aws_imds_get(struct aws *aws, const char *path, struct kp_arena *arena, const char **ret_text, struct kp_error *error)
{
    const char *token = NULL;
    if (!aws->imds_base)
        return kp_fail(error, KP_ENOTFOUND, "instance metadata is switched off by AWS_EC2_METADATA_DISABLED");
    int r = ask(aws, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: " TOKEN_TTL, arena, &token, error);
    if (r < 0)
        return r;
    const char *header = kp_arena_printf(arena, "X-aws-ec2-metadata-token: %s", token);
    return ask(aws, "GET", kp_arena_printf(arena, "/latest/meta-data/%s", path), header, arena, ret_text, error);
}

int64_t aws_parse_time(const char *rfc3339)
{
    int64_t seconds = 0;
    int32_t nanos = 0;
    return kp_parse_rfc3339(rfc3339, &seconds, &nanos) < 0 ? 0 : seconds;
}

int aws_imds_keys(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, struct kp_error *error)
{
    static const char path[] = "iam/security-credentials/";
    const char *roles = NULL, *text = NULL;
    KP_AUTO(json_decref) json_t *json = NULL;
    int r = aws_imds_get(aws, path, arena, &roles, error);
    if (r < 0)
        return r;
    const char *role = kp_arena_strndup(arena, roles, strcspn(roles, "\r\n"));
    if (!*role)
        return kp_fail(error, KP_ENOTFOUND, "the instance has no role");
    r = aws_imds_get(aws, kp_arena_printf(arena, "%s%s", path, role), arena, &text, error);
    if (r == 0)
        r = rest_json_parse(text, strlen(text), &json, error);
    if (r < 0)
        return kp_wrap(error, "keys of the instance's role %s", role);
    ret->id = kp_arena_strdup(arena, rest_json_text(json, "AccessKeyId"));
    ret->secret = kp_arena_strdup(arena, rest_json_text(json, "SecretAccessKey"));
    ret->token = kp_arena_strdup(arena, rest_json_text(json, "Token"));
    ret->expires_s = aws_parse_time(rest_json_text(json, "Expiration"));
    ret->source = kp_arena_printf(arena, "the instance's role %s", role);
    if (!*ret->id || !*ret->secret)
        return kp_fail(error, KP_EUNAUTHORIZED, "instance metadata has no keys for role %s: %s", role, rest_json_text(json, "Message"));
    return 0;
}
