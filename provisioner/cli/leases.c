/* Leases of a control plane that goes: handed over before, freed after, so that nobody waits them out. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/operation_internal.h"

#define LEASES_NAMESPACE "kube-system"
#define ADDRESS_LEASE "kprov-vip" /* nodeimage/vip */
#define HAND_OVER_MS 10000
#define RETRY_MS 100

static int set_holder(struct cli_api *api, const struct k8s_lease *lease, const char *holder, struct kp_error *error)
{
    static const struct client_write_options options = {.field_manager = "kprov"};
    KP_AUTO_BUF struct kp_buf body = {0};
    /* The version: whoever renewed it meanwhile is not overruled. */
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, lease->metadata->resource_version);
    kp_buf_puts(&body, "},\"spec\":{\"holderIdentity\":");
    kp_json_string(&body, holder);
    kp_buf_puts(&body, "}}");
    return client_patch(cli_api_client(api), &k8s_leases_resource, LEASES_NAMESPACE, lease->metadata->name, CLIENT_PATCH_MERGE, body.data,
                        body.len, &options, NULL, NULL, error);
}

/* The new holder finds its name in the lease and goes on as if it had it all along; the old one finds another's and lets go. */
int cli_api_hand_over(struct cli_api *api, const char *from, const char *to, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + HAND_OVER_MS;
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        void *found = NULL;
        int r = client_get(cli_api_client(api), &k8s_leases_resource, LEASES_NAMESPACE, ADDRESS_LEASE, arena, &found, error);
        const struct k8s_lease *lease = found;
        if (r == KP_ENOTFOUND || (r == 0 && !kp_streq(lease->spec->holder_identity, from)))
            return 0;
        if (r == 0) /* the holder renews five times a second: some tries lose */
            r = set_holder(api, lease, to, error);
        if (r == 0)
            return 0;
        if ((r != KP_ECONFLICT && !cli_api_may_pass(r)) || kp_mono_ms() > deadline_ms)
            return kp_wrap(error, "hand the API's address over from %s to %s", from, to);
        if (r != KP_ECONFLICT) /* the answer may have gone with the address: then the lease has its new holder */
            kp_sleep_ms(RETRY_MS);
    }
}

/* "demo-cp-1" holds as itself, or as "demo-cp-1_<uuid>". */
static bool is_held_by(const struct k8s_lease *lease, const char *node)
{
    const char *holder = lease->spec->holder_identity;
    size_t len = strlen(node);
    return holder && strncmp(holder, node, len) == 0 && (holder[len] == 0 || holder[len] == '_');
}

int cli_api_release_leases(struct cli_api *api, const char *node, struct kp_error *error)
{
    static const struct client_list_options options;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *answer = NULL;
    int r = client_list(cli_api_client(api), &k8s_leases_resource, LEASES_NAMESPACE, &options, arena, &answer, error);
    const struct k8s_lease_list *list = answer;
    for (size_t i = 0; r == 0 && i < list->items.len; i++) {
        if (!is_held_by(&list->items.items[i], node))
            continue;
        r = set_holder(api, &list->items.items[i], "", error);
        if (r == KP_ECONFLICT || r == KP_ENOTFOUND)
            r = 0; /* somebody has it already */
    }
    return r < 0 ? kp_wrap(error, "free the leases of %s", node) : 0;
}
