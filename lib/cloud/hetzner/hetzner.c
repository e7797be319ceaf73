/* The Hetzner Cloud driver: servers, networks and load balancers of one project, which a token stands for. */
#include "cloud/hetzner/hetzner_internal.h"

#include "cloud/drivers.h"

#define IMAGE_DIR "/var/lib/kprov/images"

/* One line of printable characters. */
static int take_token(const char *text, const char *source, char **ret, struct kp_error *error)
{
    size_t skip = strspn(text, " \t\r\n"), len = strlen(text + skip);
    while (len > 0 && strchr(" \t\r\n", text[skip + len - 1]))
        len--;
    bool fine = len > 0 && len <= HZ_TOKEN_MAX;
    for (size_t i = 0; fine && i < len; i++)
        fine = text[skip + i] > ' ' && text[skip + i] < 127;
    if (!fine)
        return kp_fail(error, KP_EUNAUTHORIZED, "%s is not a token of 1 to %d characters", source, HZ_TOKEN_MAX);
    *ret = kp_strndup(text + skip, len);
    return 0;
}

static int read_token(const struct cloud_account *account, char **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *token = getenv("HCLOUD_TOKEN"), *file = getenv("HCLOUD_TOKEN_FILE");
    if (!kp_empty(account->credentials))
        file = account->credentials;
    else if (!kp_empty(token))
        return take_token(token, "HCLOUD_TOKEN", ret, error);
    if (kp_empty(file))
        return kp_fail(error, KP_EUNAUTHORIZED, "no token: set HCLOUD_TOKEN, or HCLOUD_TOKEN_FILE to a file that holds one");
    int r = kp_read_file(file, HZ_TOKEN_MAX + 16, &text, error);
    if (r == 0)
        r = take_token(text.data ? text.data : "", file, ret, error);
    if (text.data)
        explicit_bzero(text.data, text.len);
    return r;
}

static int read_poll(int64_t *ret_ms, struct kp_error *error)
{
    const char *text = getenv("HCLOUD_POLL_INTERVAL");
    int64_t ns = 0;
    *ret_ms = HZ_POLL_MS;
    if (kp_empty(text))
        return 0;
    if (kp_parse_duration_ns(text, &ns) < 0 || ns < 1000000)
        return kp_fail(error, KP_EINVALID, "HCLOUD_POLL_INTERVAL is \"%s\": must be a time such as 500ms, at least 1ms", text);
    *ret_ms = ns / 1000000;
    return 0;
}

static void driver_close(void *state)
{
    struct hz *hz = state;
    rest_free(hz->rest);
    if (hz->token)
        explicit_bzero(hz->token, strlen(hz->token));
    free(hz->token);
    free(hz->endpoint);
    free(hz->image_dir);
    free(hz->zone);
    pthread_mutex_destroy(&hz->shared);
    pthread_mutex_destroy(&hz->rate_lock);
    free(hz);
}

static const char *first_of(const char *one, const char *other, const char *fallback)
{
    return !kp_empty(one) ? one : !kp_empty(other) ? other : fallback;
}

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    const struct cloud_account *account = &options->account;
    const char *endpoint = first_of(account->endpoint, getenv("HCLOUD_ENDPOINT"), HZ_ENDPOINT_DEFAULT);
    const struct rest_options rest = {.cloud = "hetzner"};
    struct hz *hz = kp_calloc(1, sizeof(*hz));
    size_t len = strlen(endpoint);
    pthread_mutex_init(&hz->shared, NULL);
    pthread_mutex_init(&hz->rate_lock, NULL);
    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    hz->endpoint = kp_strndup(endpoint, len);
    hz->image_dir = kp_strdup(kp_empty(options->image_dir) ? IMAGE_DIR : options->image_dir);
    hz->zone = kp_strdup(first_of(account->region, getenv("HCLOUD_NETWORK_ZONE"), HZ_ZONE_DEFAULT));
    int r = kp_starts_with(endpoint, "https://") || kp_starts_with(endpoint, "http://")
                ? 0 : kp_fail(error, KP_EINVALID, "HCLOUD_ENDPOINT is \"%s\": must be a URL such as " HZ_ENDPOINT_DEFAULT, endpoint);
    if (r == 0)
        r = read_poll(&hz->poll_ms, error);
    if (r == 0)
        r = read_token(account, &hz->token, error);
    if (r == 0)
        r = rest_new(&rest, &hz->rest, error);
    if (r < 0) {
        driver_close(hz);
        return r;
    }
    *ret_state = hz;
    return 0;
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    return kp_fail(error, KP_ENOTSUPPORTED, "Hetzner keeps no console log of machine %s: look at its console in Hetzner's own", name);
}

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    return kp_fail(error, KP_ENOTSUPPORTED, "Hetzner runs no commands in machine %s", name);
}

static int account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    const struct hz *hz = state;
    bool own = !kp_streq(hz->endpoint, HZ_ENDPOINT_DEFAULT);
    *ret = (struct cloud_export){
        .account = {.region = kp_arena_strdup(arena, hz->zone), .endpoint = own ? kp_arena_strdup(arena, hz->endpoint) : NULL},
        .credentials = kp_arena_strdup(arena, hz->token),
    };
    return 0;
}

const struct cloud_driver cloud_driver_hetzner = {
    .name = "hetzner",
    .capabilities = CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_METADATA | CLOUD_HAS_PUBLIC_ADDRESSES | CLOUD_HAS_NODE_FACTS |
                    CLOUD_BOOTS_DISKS,
    .open = driver_open,
    .close = driver_close,
    .check = hz_check,
    .network_ensure = hz_network_ensure,
    .network_get = hz_network_get,
    .network_delete = hz_network_delete,
    .address_reserve = hz_address_reserve,
    .address_release = hz_address_release,
    .address_publish = hz_address_publish,
    .machine_create = hz_machine_create,
    .machine_get = hz_machine_get,
    .machine_list = hz_machine_list,
    .machine_power = hz_machine_power,
    .machine_delete = hz_machine_delete,
    .machine_console = machine_console,
    .machine_exec = machine_exec,
    .machine_types = hz_machine_types,
    .image_ensure = hz_image_ensure,
    .images_prune = hz_images_prune,
    .owned = hz_owned,
    .clusters = hz_clusters,
    .purge = hz_purge,
    .balancer_ensure = hz_balancer_ensure,
    .balancer_get = hz_balancer_get,
    .balancer_health = hz_balancer_health,
    .balancer_list = hz_balancer_list,
    .balancer_delete = hz_balancer_delete,
    .route_list = hz_route_list,
    .route_ensure = hz_route_ensure,
    .route_delete = hz_route_delete,
    .account_export = account_export,
};
