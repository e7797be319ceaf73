/* The account as a credentials file of one profile, for the cloud-controller-manager. */
#include "cloud/aws/aws_internal.h"

#define PROFILE "default"

/* "" when all services are asked at AWS's own endpoints. */
static int one_endpoint(const struct aws *aws, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    bool same = true, own = true;
    for (int i = 0; i < AWS_SERVICES; i++) {
        if (i == AWS_EBS) /* asked here alone */
            continue;
        same = same && kp_streq(aws->endpoints[i], aws->endpoints[0]);
        own = own && kp_streq(aws->endpoints[i], aws_own_endpoint(aws, i, arena));
    }
    if (!same && !own)
        return kp_fail(error, KP_EINVALID, "endpoints that differ by service cannot be handed to the nodes: set AWS_ENDPOINT_URL, or spec.aws.endpoint, for all");
    *ret = own ? "" : kp_arena_strdup(arena, aws->endpoints[0]);
    return 0;
}

int aws_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_keys keys;
    const char *endpoint = "";
    int r = aws_keys_get(aws, arena, &keys, error);
    if (r == 0)
        r = one_endpoint(aws, arena, &endpoint, error);
    if (r < 0)
        return r;
    if (aws->own_authorities && kp_starts_with(endpoint, "https://")) /* a file of this machine: no node has it */
        return kp_fail(error, KP_EINVALID, "the certificates of AWS_CA_BUNDLE cannot be handed to the nodes: use an endpoint whose certificate a public authority "
                       "signed, or one by http");
    *ret = (struct cloud_export){.account = {.region = kp_arena_strdup(arena, aws->region), .endpoint = endpoint}};
    if (aws->instance_profile)
        return 0; /* it asks for the role of its own instance */
    if (*keys.token || keys.expires_s)
        return kp_fail(error, KP_EINVALID, "the keys of %s end, and nodes would be left without: name an instance profile in spec.aws.instanceProfile, whose role the "
                       "control planes get, or a file with the keys of a user of its own in spec.aws.credentialsFile", keys.source);
    ret->account.profile = PROFILE;
    ret->credentials = kp_arena_printf(arena, "[" PROFILE "]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keys.id, keys.secret);
    return 0;
}
