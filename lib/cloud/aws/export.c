/* The account as a credentials file of one profile, for the cloud-controller-manager. */
#include "cloud/aws/aws_internal.h"

/* The endpoint of all services, when it was not made of the region. */
static const char *own_endpoint(const struct aws *aws, struct kp_arena *arena)
{
    for (size_t i = 1; i < AWS_SERVICES; i++)
        if (!kp_streq(aws->endpoints[0], aws->endpoints[i]))
            return "";
    return kp_arena_strdup(arena, aws->endpoints[0]);
}

int aws_account_export(struct aws *aws, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    struct aws_keys keys;
    int r = aws_keys_get(aws, arena, &keys, error);
    if (r < 0)
        return r;
    *ret = (struct cloud_export){.account = {.region = kp_arena_strdup(arena, aws->region), .endpoint = own_endpoint(aws, arena)}};
    /* Keys that end are of no use to something that runs for months: it asks for the role of its own instance instead. */
    if (*keys.token || keys.expires_s)
        return 0;
    ret->account.profile = "default";
    ret->credentials = kp_arena_printf(arena, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keys.id, keys.secret);
    return 0;
}
