/* Events sent to a server that a kubeconfig names, as EventLists; one that is away is asked again, ever less often, and after five times it is given up. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include "lib/client/client.h"

#define TRIES 5
#define BACKOFF_FACTOR 1.5 /* upstream's DefaultRetryBackoffWithInitialDelay, as the jitter */
#define BACKOFF_JITTER 0.2
#define SHOWN_PATH "the audit webhook"

struct hook {
    struct client *client;
    char *path;
    int64_t backoff_ms;
};

static void make_list(struct kp_blob *const *events, size_t count, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            kp_buf_putc(out, ',');
        kp_buf_append(out, events[i]->data, events[i]->len);
    }
    kp_buf_puts(out, "]}");
}

static size_t send_events(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct hook *hook = self;
    KP_AUTO_BUF struct kp_buf list = {0};
    double wait_ms = (double)hook->backoff_ms;
    make_list(events, count, &list);
    for (int i = 0;; i++) {
        if (client_raw(hook->client, "POST", hook->path, "application/json", list.data, list.len, NULL, NULL, error) == 0)
            return 0;
        double jitter = 1 + BACKOFF_JITTER * (double)(kp_random_u64() % 1000) / 1000;
        if (i + 1 == TRIES || audit_sink_pause(sink, (int64_t)(wait_ms * jitter)))
            break;
        wait_ms *= BACKOFF_FACTOR;
    }
    kp_wrap(error, SHOWN_PATH);
    return count;
}

static void close_hook(void *self)
{
    struct hook *hook = self;
    client_free(hook->client);
    free(hook->path);
    free(hook);
}

/* "https://host:port" and "/path" of the server's URL. */
static void split_url(const char *url, struct kp_arena *arena, const char **ret_server, const char **ret_path)
{
    const char *scheme = strstr(url, "://"), *slash = strchr(scheme ? scheme + 3 : url, '/');
    *ret_server = slash ? kp_arena_strndup(arena, url, (size_t)(slash - url)) : url;
    *ret_path = slash ? slash : "/";
}

int audit_webhook_open(const char *path, int64_t backoff_ms, struct loop *loop, struct audit_output *ret_output, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config config;
    const char *server, *server_path;
    if (client_config_from_kubeconfig(path, NULL, arena, &config, error) < 0)
        return kp_wrap(error, "--audit-webhook-config-file");
    split_url(config.servers[0], arena, &server, &server_path);
    config.servers[0] = server;
    config.user_agent = "kube-apiserver-audit";
    struct hook *hook = kp_calloc(1, sizeof(*hook));
    hook->path = kp_strdup(server_path);
    hook->backoff_ms = backoff_ms;
    if (client_new(loop, &config, &hook->client, error) < 0) {
        close_hook(hook);
        return kp_wrap(error, "--audit-webhook-config-file");
    }
    *ret_output = (struct audit_output){.name = "webhook", .write = send_events, .free = close_hook, .self = hook};
    return 0;
}
