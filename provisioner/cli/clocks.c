/* How far machines' clocks are off from this host's: by the Date of their kubelets' answers, or, where those cannot be reached, by their leases. */
#include <time.h>

#include "api/k8s.h"
#include "client/client.h"
#include "http/http.h"
#include "provisioner/cli/clocks.h"
#include "tls/tls.h"

#define KUBELET_PORT 10250
#define ASK_MS 4000
#define LEASE_NAMESPACE "kube-node-lease"

/* RFC 9110 5.6.7, the one form that is written today. */
int clocks_parse_date(const char *text, int64_t *ret_s)
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char month[4] = "", zone[4] = "";
    struct tm tm = {0};
    int end = 0;
    if (!text || sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3[A-Z]%n", &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour, &tm.tm_min,
                        &tm.tm_sec, zone, &end) != 7 || text[end] || !kp_streq(zone, "GMT"))
        return KP_EINVALID;
    while (tm.tm_mon < 12 && !kp_streq(months[tm.tm_mon], month))
        tm.tm_mon++;
    if (tm.tm_mon == 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_year < 1970 || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 ||
        tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
        return KP_EINVALID;
    tm.tm_year -= 1900;
    *ret_s = timegm(&tm);
    return 0;
}

int64_t clocks_off_ms(int64_t date_s, int64_t sent_ms, int64_t received_ms)
{
    int64_t least = date_s * 1000 - received_ms, most = date_s * 1000 + 999 - sent_ms;
    return least > 0 ? least : KP_MIN(most, (int64_t)0);
}

int64_t clocks_off_by_lease_ms(int64_t renewed_ms, int64_t now_ms)
{
    int64_t off = renewed_ms - now_ms;
    return off > 0 ? off : KP_MIN(off + CLOCKS_LEASE_AGE_MS, (int64_t)0);
}

bool clocks_is_this_host(const struct clocks_row *rows, size_t count)
{
    size_t fast = 0, slow = 0, known = 0;
    for (size_t i = 0; i < count; i++) {
        known += rows[i].known;
        fast += rows[i].known && rows[i].off_ms > CLOCKS_SLACK_MS;
        slow += rows[i].known && rows[i].off_ms < -CLOCKS_SLACK_MS;
    }
    return known > 1 && (fast == known || slow == known);
}

static int64_t now_ms(void)
{
    return kp_now_ns() / 1000000;
}

static int ask(struct http_client *http, struct kp_arena *arena, int64_t *ret_off_ms, struct kp_error *error)
{
    const struct http_client_request request = {.method = "GET", .path = "/healthz", .timeout_ms = ASK_MS};
    struct http_response response;
    int64_t date_s = 0, sent_ms = now_ms();
    int r = http_client_do(http, &request, arena, &response, error);
    int64_t received_ms = now_ms();
    if (r < 0)
        return r;
    if (clocks_parse_date(http_response_header(&response, "date"), &date_s) < 0)
        return kp_fail(error, KP_EIO, "its answer has no date");
    *ret_off_ms = clocks_off_ms(date_s, sent_ms, received_ms);
    return 0;
}

static void ask_kubelet(struct loop *loop, struct tls_context *tls, const struct cloud_machine *machine, struct kp_arena *arena, struct clocks_row *row)
{
    const char *endpoint = kp_arena_printf(arena, "https://%s:%d", machine->address, KUBELET_PORT);
    const struct http_client_config config = {
        .endpoints = &endpoint, .endpoint_count = 1, .tls = tls, .protocol = HTTP_CLIENT_H1, .connections_max = 1, .body_bytes_max = 1 << 16,
        .connect_timeout_ms = ASK_MS,
    };
    struct http_client *http = NULL;
    struct kp_error error = {0};
    int r = http_client_new(loop, &config, &http, &error);
    if (r == 0)
        r = ask(http, arena, &row->off_ms, &error);
    row->known = r == 0;
    row->problem = r < 0 ? kp_arena_strdup(arena, error.message) : "";
    http_client_free(http);
}

static int open_tls(const char *kubeconfig, struct kp_arena *arena, struct tls_context **ret, struct kp_error *error)
{
    struct client_config client = {0};
    int r = client_config_from_kubeconfig(kubeconfig, NULL, arena, &client, error);
    const struct tls_context_config tls = {.cert_pem = client.client_cert_pem, .key_pem = client.client_key_pem, .ca_pem = client.ca_pem};
    return r < 0 ? r : tls_context_new(&tls, ret, error);
}

static void ask_kubelets(const char *kubeconfig, const struct cloud_machine_list *machines, struct kp_arena *arena, struct clocks_row *rows)
{
    KP_AUTO(tls_context_unref) struct tls_context *tls = NULL;
    KP_AUTO(loop_free) struct loop *loop = loop_new();
    struct kp_error error = {0};
    size_t n = 0;
    int r = open_tls(kubeconfig, arena, &tls, &error);
    if (r == 0)
        r = loop_start(loop, "clocks", &error);
    for (size_t i = 0; i < machines->len; i++) {
        if (machines->items[i].power != CLOUD_POWER_ON)
            continue;
        if (r == 0)
            ask_kubelet(loop, tls, &machines->items[i], arena, &rows[n++]);
        else
            rows[n++].problem = kp_arena_strdup(arena, error.message);
    }
}

static void read_leases(struct cli_api *api, struct kp_arena *arena, struct clocks_row *rows, size_t count)
{
    static const struct client_list_options options;
    struct kp_error error = {0};
    void *answer = NULL;
    int r = api ? client_list(cli_api_client(api), &k8s_leases_resource, LEASE_NAMESPACE, &options, arena, &answer, &error)
                : kp_fail(&error, KP_EUNAVAILABLE, "the API does not answer");
    const struct k8s_lease_list *leases = answer;
    for (size_t i = 0; i < count; i++) {
        rows[i].problem = r < 0 ? kp_arena_strdup(arena, error.message) : "its kubelet has no lease";
        for (size_t j = 0; r == 0 && j < leases->items.len; j++) {
            const struct k8s_lease *lease = &leases->items.items[j];
            if (!kp_streq(lease->metadata->name, rows[i].machine) || !lease->spec)
                continue;
            rows[i].off_ms = clocks_off_by_lease_ms(lease->spec->renew_time.seconds * 1000 + lease->spec->renew_time.nanos / 1000000, now_ms());
            rows[i].known = true;
            rows[i].problem = "";
        }
    }
}

size_t clocks_ask(const struct cloud *cloud, const char *kubeconfig, const struct cloud_machine_list *machines, struct cli_api *api,
                  struct kp_arena *arena, struct clocks_row **ret)
{
    struct clocks_row *rows = KP_NEW_ARRAY(arena, struct clocks_row, machines->len + 1);
    size_t n = 0;
    for (size_t i = 0; i < machines->len; i++)
        if (machines->items[i].power == CLOUD_POWER_ON)
            rows[n++] = (struct clocks_row){.machine = machines->items[i].name, .problem = ""};
    if (cloud_can(cloud, CLOUD_CAN_LOAD_BALANCE)) /* such machines have addresses of the cloud's own network */
        read_leases(api, arena, rows, n);
    else
        ask_kubelets(kubeconfig, machines, arena, rows);
    *ret = rows;
    return n;
}

const char *clocks_remedy(const struct state_cluster *cluster, struct kp_arena *arena)
{
    const char *provider = cluster->config.provider, *name = cluster->name;
    if (kp_streq(provider, "local"))
        return "set this host's clock";
    if (kp_streq(provider, "external"))
        return "see to the time service of that machine (chronyc tracking, timedatectl)";
    return kp_arena_printf(arena, "kprov exec %s NODE -- chronyc sources; spec.timeServers; kprov node stop and start sets it from its real-time clock", name);
}
