/* Load balancers of a cluster that goes: its LoadBalancer Services first, whose controller would make them again, then by the cluster's tag. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/delete_internal.h"

#define API_WAIT_MS 5000
#define SERVICES_WAIT_MS 120000
#define BALANCER_WAIT_MS 600000
#define POLL_MS 500

static int list_services(struct cli_api *api, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    static const struct client_list_options options;
    void *answer = NULL;
    int r = client_list(cli_api_client(api), &k8s_services_resource, NULL, &options, arena, &answer, error);
    const struct k8s_service_list *list = answer;
    for (size_t i = 0; r == 0 && i < list->items.len; i++) {
        const struct k8s_service *service = &list->items.items[i];
        if (kp_streq(service->spec->type, "LoadBalancer"))
            kp_strings_add(ret, kp_arena_printf(arena, "%s/%s", service->metadata->namespace, service->metadata->name));
    }
    return r;
}

static int delete_service(struct cli_api *api, const char *key, struct kp_arena *arena, struct kp_error *error)
{
    const char *slash = strchr(key, '/');
    int r = client_delete(cli_api_client(api), &k8s_services_resource, kp_arena_strndup(arena, key, (size_t)(slash - key)), slash + 1, CLIENT_DELETE_DEFAULT,
                          error);
    return r == KP_ENOTFOUND ? 0 : r;
}

/* Until their finalizers are gone, and with them their balancers. */
static int wait_for_services(struct deletion *d, struct cli_api *api, struct kp_error *error)
{
    const int64_t deadline_ms = kp_mono_ms() + SERVICES_WAIT_MS;
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_strings left = {0};
        int r = list_services(api, arena, &left, error);
        bool gone = left.len == 0;
        if (r == 0 && !gone)
            cli_progress_tick(&d->progress, left.items[0]);
        if (r == 0 && !gone && kp_mono_ms() > deadline_ms)
            r = kp_fail(error, KP_ETIMEOUT, "Service %s does not go", left.items[0]);
        kp_strings_done(&left);
        if (r == 0)
            r = cli_interrupted(error);
        if (r < 0 || gone)
            return r;
        kp_sleep_ms(POLL_MS);
    }
}

static int delete_services(struct deletion *d, struct cli_api *api, struct kp_error *error)
{
    struct kp_strings services = {0};
    const int64_t start_ms = kp_mono_ms();
    int r = cli_api_wait(api, kp_mono_ms() + API_WAIT_MS, &d->progress, error);
    if (r == 0)
        r = list_services(api, d->arena, &services, error);
    for (size_t i = 0; r == 0 && i < services.len; i++) {
        r = state_journal(d->state, "delete-service", services.items[i], error);
        if (r == 0)
            r = state_journal_end(d->state, "delete-service", services.items[i], delete_service(api, services.items[i], d->arena, error), error);
    }
    if (r == 0 && services.len)
        r = wait_for_services(d, api, error);
    for (size_t i = 0; r == 0 && i < services.len; i++)
        cli_deletion_receipt(d, "service", services.items[i], start_ms);
    kp_strings_done(&services);
    return r;
}

int cli_deletion_services(struct deletion *d, struct kp_error *error)
{
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    struct kp_error why = {0};
    const char *path = NULL;
    if (!cloud_can(d->cloud, CLOUD_CAN_LOAD_BALANCE))
        return 0;
    int r = cli_state_path(d->name, "admin.conf", d->arena, &path, error);
    if (r < 0 || !kp_path_exists(path))
        return r;
    r = cli_api_open(path, &api, &why);
    if (r == 0)
        r = delete_services(d, api, &why);
    if (r < 0 && cli_interrupted(error) < 0)
        return error->code;
    if (r < 0) /* a cluster that does not work goes all the same */
        fprintf(stderr, "kprov: load balancers go by their tag, for Services could not be deleted: %s\n", why.message);
    return 0;
}

static int delete_balancer(struct deletion *d, const char *name, struct kp_error *error)
{
    const int64_t deadline_ms = kp_mono_ms() + BALANCER_WAIT_MS;
    for (;;) {
        struct kp_error failure = {0};
        int r = cloud_balancer_delete(d->cloud, d->cluster.uid, name, &failure);
        if (r != KP_EAGAIN || kp_mono_ms() > deadline_ms) {
            if (r < 0)
                *error = failure;
            return r;
        }
        cli_progress_tick(&d->progress, failure.message);
        if (cli_interrupted(error) < 0)
            return error->code;
        kp_sleep_ms(failure.retry_after_ms ? failure.retry_after_ms : POLL_MS);
    }
}

int cli_deletion_balancers(struct deletion *d, bool api_too, struct kp_error *error)
{
    struct cloud_balancer_list list = {0};
    if (!cloud_can(d->cloud, CLOUD_CAN_LOAD_BALANCE))
        return 0;
    int r = cloud_balancer_list(d->cloud, d->cluster.uid, d->arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *name = list.items[i].name;
        const int64_t start_ms = kp_mono_ms();
        if (kp_streq(name, CLI_API_BALANCER) && !api_too)
            continue;
        r = state_journal(d->state, "delete-balancer", name, error);
        if (r == 0)
            r = state_journal_end(d->state, "delete-balancer", name, delete_balancer(d, name, error), error);
        if (r == 0)
            cli_deletion_receipt(d, "load balancer", name, start_ms);
    }
    return r;
}
