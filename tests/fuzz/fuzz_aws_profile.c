/* AWS's credentials and config files: any bytes give a profile or none, and every value lies within the file. */
#include "lib/cloud/aws/aws_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *text = kp_malloc(size ? size : 1); /* of its own size, so that a step beyond the end is seen */
    if (size)
        memcpy(text, data, size);
    for (int config = 0; config < 2; config++) {
        struct aws_profile profile = {0};
        aws_profile_parse(text, size, config, config ? "default" : "a", arena, &profile);
        const char *const values[] = {profile.id, profile.secret, profile.token, profile.region, profile.endpoint, profile.ca_file, profile.max_attempts,
                                      profile.role_arn, profile.process, profile.sso};
        for (size_t i = 0; i < KP_ARRAY_LEN(values); i++)
            KP_ASSERT(!values[i] || (profile.found && strlen(values[i]) < size && !strchr(values[i], '\n')));
    }
    return 0;
}
