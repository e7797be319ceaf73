/* The way to a cluster's etcd: straight to its members where their port lets this machine in, else through the API server, as on clouds,
   whose groups let only the cluster's own machines reach it. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "provisioner/cli/cli.h"
#include "provisioner/etcd/etcd.h"

#define LOOK_MS 1500     /* a port that drops what comes does not answer in this time */
#define READY_MS_MAX 3000

struct members {
    const char *names[ETCD_CLIENT_ENDPOINTS_MAX];
    const char *addresses[ETCD_CLIENT_ENDPOINTS_MAX];
    size_t len;
};

/* A descriptor that is connecting, or -1. */
static int begin_connect(const char *address)
{
    char port[8];
    struct addrinfo *info = NULL;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof(port), "%d", ETCD_CLIENT_PORT);
    if (getaddrinfo(address, port, &hints, &info) != 0)
        return -1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, info->ai_addr, info->ai_addrlen) < 0 && errno != EINPROGRESS) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(info);
    return fd;
}

/* Those that refused are looked at no more. */
static bool any_connected(struct pollfd *fds, size_t n)
{
    bool connected = false;
    for (size_t i = 0; i < n; i++) {
        int problem = 0;
        socklen_t len = sizeof(problem);
        if (fds[i].fd < 0 || !fds[i].revents)
            continue;
        if (getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &problem, &len) == 0 && problem == 0)
            connected = true;
        close(fds[i].fd);
        fds[i].fd = -1;
    }
    return connected;
}

/* Whether any member's port lets us in. */
static bool let_in(const struct members *members)
{
    struct pollfd fds[ETCD_CLIENT_ENDPOINTS_MAX];
    int64_t deadline_ms = kp_mono_ms() + LOOK_MS, left_ms;
    bool connected = false;
    size_t n_open = 0;
    for (size_t i = 0; i < members->len; i++) {
        fds[i] = (struct pollfd){.fd = begin_connect(members->addresses[i]), .events = POLLOUT};
        n_open += fds[i].fd >= 0;
    }
    while (!connected && n_open && (left_ms = deadline_ms - kp_mono_ms()) > 0) {
        if (poll(fds, members->len, (int)left_ms) > 0)
            connected = any_connected(fds, members->len);
        n_open = 0;
        for (size_t i = 0; i < members->len; i++)
            n_open += fds[i].fd >= 0;
    }
    for (size_t i = 0; i < members->len; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return connected;
}

/* The API server says whether it has its store: its check "etcd". */
static bool api_reaches_etcd(const struct client_config *config)
{
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    struct client_config hurried = *config;
    struct kp_error ignored = {0};
    hurried.timeout_ms = READY_MS_MAX;
    return cli_api_open_config(&hurried, &api, &ignored) == 0 &&
           client_raw(cli_api_client(api), "GET", "/readyz/etcd", NULL, NULL, 0, NULL, NULL, &ignored) == 0;
}

static int read_keys(const char *cluster, struct pki **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = state_read_file(cluster, "pki.json", &text, error);
    return r < 0 ? r : pki_parse(text.data ? text.data : "", text.len, ret, error);
}

static int choose_way(const char *cluster, const struct pki *pki, const struct members *members, bool *hidden, struct etcd_client **ret,
                      struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config api = {0};
    const char *path = NULL;
    struct kp_error ignored = {0};
    /* Before a cluster's kubeconfig is written there is the straight way only. */
    bool has_api = cli_state_path(cluster, "admin.conf", arena, &path, &ignored) == 0 &&
                   client_config_from_kubeconfig(path, NULL, arena, &api, &ignored) == 0;
    bool through = has_api && *hidden && api_reaches_etcd(&api);
    if (!through)
        through = has_api && !let_in(members) && api_reaches_etcd(&api);
    *hidden = through;
    return through ? etcd_client_open_through(pki, &api, members->names, members->addresses, members->len, ret, error)
                   : etcd_client_open(pki, members->addresses, members->len, ret, error);
}

int cli_etcd_open(const char *cluster, const struct pki *pki, const struct cloud_machine_list *machines, unsigned flags, bool *hidden,
                  struct etcd_client **ret, struct kp_error *error)
{
    KP_AUTO(pki_free) struct pki *read = NULL;
    struct members members = {.len = 0};
    bool unknown = false;
    for (size_t i = 0; i < machines->len && members.len < KP_ARRAY_LEN(members.names); i++) {
        const struct cloud_machine *machine = &machines->items[i];
        if (!kp_streq(machine->role, "control-plane") || (!(flags & CLI_ETCD_OFF_TOO) && machine->power != CLOUD_POWER_ON))
            continue;
        members.names[members.len] = machine->name;
        members.addresses[members.len++] = machine->address;
    }
    if (members.len == 0)
        return kp_fail(error, KP_ENOTFOUND,
                       "no control-plane machine of cluster %s runs: start what is off with kprov repair %s; when all are gone, make the "
                       "cluster anew from a snapshot: kprov etcd snapshot restore",
                       cluster, cluster);
    if (!pki && read_keys(cluster, &read, error) < 0)
        return kp_wrap(error, "keys of cluster %s", cluster);
    return choose_way(cluster, pki ? pki : read, &members, hidden ? hidden : &unknown, ret, error);
}
