/* clouds.yaml, and what Keystone answers: an account and endpoints, or an error. */
#include "cloud/openstack/openstack_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *text = kp_strndup((const char *)data, size);
    KP_AUTO(json_decref) json_t *token = NULL;
    struct os_account account;
    struct os_cidr cidr;
    if (os_account_parse("clouds.yaml", text, strlen(text), text, strlen(text), "a", arena, &account, NULL) == 0 && os_account_check(&account, NULL) == 0)
        KP_ASSERT(strstr(account.auth_url, "://"));
    KP_ASSERT(strlen(os_detail(text, strlen(text), arena)) <= strlen(text));
    if (os_cidr_parse(text, &cidr))
        KP_ASSERT(os_cidr_overlap(cidr, cidr));
    if (rest_json_parse(text, strlen(text), &token, NULL) < 0)
        return 0;
    const struct os_account asking = {.source = "a test", .interface = "public", .region = ""};
    char *endpoints[OS_SERVICES] = {0}, *region = NULL;
    if (os_catalog_read(token, &asking, endpoints, &region, NULL) == 0)
        KP_ASSERT(endpoints[OS_COMPUTE] && endpoints[OS_NETWORK] && endpoints[OS_IMAGE]);
    for (enum os_service s = 0; s < OS_SERVICES; s++)
        free(endpoints[s]);
    free(region);
    return 0;
}
