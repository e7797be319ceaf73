/* Keeps a link's lease: renews it, follows what the server changes, and asks anew when it is lost. One process a link. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "dhcp_internal.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define ANSWER_MAX 4096
#define ASK_AGAIN_MS 10000
#define PORT_CLIENT 68
#define PORT_SERVER 67

static struct {
    char link[IFNAMSIZ], index[12], service[IFNAMSIZ + 8];
    const char *argv[5];
} noted[INIT_DHCP_LINKS_MAX];
static size_t n_noted;

struct follower {
    const char *link;
    int index, fd, set_fd; /* set_fd: readable when somebody sets the clock */
    struct dhcp_client client;
    struct dhcp_lease lease;
    uint32_t address, server, xid;
    struct kp_buf answer; /* what is set now */
};

void init_dhcp_note(const char *link, int index)
{
    if (n_noted == KP_ARRAY_LEN(noted) || strlen(link) >= IFNAMSIZ) {
        kp_warn("the lease of a link is not kept: there are too many", "link", link, NULL);
        return;
    }
    snprintf(noted[n_noted].link, sizeof(noted->link), "%s", link);
    snprintf(noted[n_noted].index, sizeof(noted->index), "%d", index);
    snprintf(noted[n_noted].service, sizeof(noted->service), "dhcp-%s", link);
    n_noted++;
}

void init_dhcp_prepare(struct init_config *config)
{
    for (size_t i = 0; i < n_noted; i++) {
        const char **argv = noted[i].argv;
        argv[0] = "/proc/self/exe"; /* as it runs, init is this program */
        argv[1] = "dhcp";
        argv[2] = noted[i].link;
        argv[3] = noted[i].index;
        config->services[config->n_services++] = (struct init_service){.name = noted[i].service, .argv = argv, .keeps_running = true};
    }
}

static int64_t boot_ms(void)
{
    struct timespec t;
    KP_ASSERT(clock_gettime(CLOCK_BOOTTIME, &t) == 0);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static uint32_t to_address(const char *text)
{
    struct in_addr address = {0};
    return inet_pton(AF_INET, text, &address) == 1 ? ntohl(address.s_addr) : 0;
}

/* The lease as udhcpc's script has left it, which counts from when it wrote. */
static int load(struct follower *f, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *path = dhcp_answer_path(f->link);
    int64_t lease_s = 0, at_s = 0;
    f->answer.len = 0;
    int r = kp_read_file(path, ANSWER_MAX, &f->answer, error);
    if (r < 0)
        return r;
    const char *text = f->answer.data ? f->answer.data : "";
    f->address = to_address(dhcp_value(text, "ip", arena));
    f->server = to_address(dhcp_value(text, "server", arena));
    if (!f->address || kp_parse_i64(dhcp_value(text, "lease", arena), &lease_s) < 0 || lease_s < 1 || lease_s > UINT32_MAX ||
        kp_parse_i64(dhcp_value(text, "at", arena), &at_s) < 0)
        return kp_fail(error, KP_EINVALID, "%s has no lease", path);
    dhcp_lease_begin(&f->lease, at_s * 1000, (uint32_t)lease_s, 0, 0);
    return 0;
}

/* For a process that is started anew, and for who looks. */
static int save(const struct follower *f, const struct dhcp_answer *given, const char *answer, struct kp_error *error)
{
    KP_AUTO_FREE char *path = dhcp_answer_path(f->link);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct in_addr server = {htonl(f->server)};
    char server_text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &server, server_text, sizeof(server_text));
    kp_buf_printf(&text, "%sserver=%s\nlease=%u\nat=%lld\n", answer, server_text, given->lease_s, (long long)boot_ms() / 1000);
    return kp_write_file(path, text.data, text.len, 0644, error);
}

/* The name servers of this link, and only where /etc/resolv.conf still has what DHCP said: the cluster file may name others. */
static int change_name_servers(const char *before, const char *after, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf now = {0}, next = {0};
    if (kp_streq(before, after))
        return 0;
    int r = kp_path_exists(RESOLV_CONF) ? kp_read_file(RESOLV_CONF, ANSWER_MAX, &now, error) : 0;
    const char *text = now.data ? now.data : "", *at = strstr(text, before);
    if (r < 0 || !at)
        return r;
    kp_buf_append(&next, text, (size_t)(at - text));
    kp_buf_puts(&next, after);
    kp_buf_puts(&next, at + strlen(before));
    return kp_write_file(RESOLV_CONF, next.data, next.len, 0644, error);
}

static int resolv_of(const struct follower *f, const char *answer, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf batch = {0};
    int r = init_dhcp_commands(f->link, f->index, answer, &batch, out, NULL);
    kp_buf_puts(out, "");
    return r;
}

static int apply(struct follower *f, const char *answer, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf batch = {0}, gone = {0}, before = {0}, after = {0};
    const char *old = f->answer.data ? f->answer.data : "";
    if (kp_starts_with(old, answer)) /* what follows there is the lease itself */
        return 0;
    int r = dhcp_change_commands(f->link, f->index, old, answer, &batch, &gone, error);
    if (r == 0)
        r = dhcp_run_ip(batch.data, false, error);
    if (r == 0 && gone.len)
        r = dhcp_run_ip(gone.data, true, error);
    (void)resolv_of(f, old, &before); /* nothing, when there was no answer yet */
    (void)resolv_of(f, answer, &after);
    if (r == 0)
        r = change_name_servers(before.data ? before.data : "", after.data ? after.data : "", error);
    if (r == 0)
        kp_info("the network has changed, and this link with it", "link", f->link, NULL);
    return r;
}

static int open_sockets(struct follower *f, struct kp_error *error)
{
    struct ifreq request = {0};
    const int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT_CLIENT)};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", f->link);
    kp_close_fd(&f->fd);
    f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->fd < 0)
        return kp_fail_errno(error, "open a socket");
    if (setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 || setsockopt(f->fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
        setsockopt(f->fd, SOL_SOCKET, SO_BINDTODEVICE, f->link, (socklen_t)strlen(f->link) + 1) < 0 ||
        bind(f->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return kp_fail_errno(error, "listen on %s", f->link);
    if (ioctl(f->fd, SIOCGIFHWADDR, &request) < 0)
        return kp_fail_errno(error, "ask for the hardware address of %s", f->link);
    memcpy(f->client.hardware, request.ifr_hwaddr.sa_data, sizeof(f->client.hardware));
    return 0;
}

/* A clock that is set tells that the machine stood still: the lease has gone on meanwhile. */
static int watch_clock(struct follower *f, struct kp_error *error)
{
    const struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX * 4LL}};
    f->set_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (f->set_fd < 0 || timerfd_settime(f->set_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0)
        return kp_fail_errno(error, "watch the clock");
    return 0;
}

static void send_request(struct follower *f)
{
    uint8_t message[DHCP_MESSAGE_MAX];
    bool all = f->lease.state == DHCP_REBINDING || !f->server;
    kp_random_bytes(&f->xid, sizeof(f->xid));
    size_t len = dhcp_request(&f->client, f->xid, f->address, message);
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT_SERVER), .sin_addr.s_addr = all ? INADDR_BROADCAST : htonl(f->server)};
    if (sendto(f->fd, message, len, 0, (const struct sockaddr *)&to, sizeof(to)) < 0)
        kp_warn("no request could be sent", "link", f->link, "error", strerror(errno), NULL);
}

/* True: the lease is lost. */
static bool receive(struct follower *f)
{
    uint8_t data[DHCP_ANSWER_MAX];
    for (ssize_t n; (n = recv(f->fd, data, sizeof(data), 0)) >= 0;) {
        KP_AUTO_BUF struct kp_buf answer = {0};
        struct dhcp_answer given;
        struct kp_error error = {0};
        if (f->lease.state == DHCP_BOUND || dhcp_parse(&f->client, f->xid, data, (size_t)n, &given, &answer) < 0)
            continue;
        if (given.refused)
            return true;
        f->server = given.server ? given.server : f->server;
        if (apply(f, answer.data, &error) < 0 || save(f, &given, answer.data, &error) < 0) {
            kp_warn("what DHCP says cannot be set", "link", f->link, "error", error.message, NULL);
            continue;
        }
        f->address = given.address;
        kp_buf_done(&f->answer);
        f->answer = answer;
        answer = (struct kp_buf){0};
        dhcp_lease_begin(&f->lease, boot_ms(), given.lease_s, given.t1_s, given.t2_s);
    }
    return false;
}

/* Until the lease is lost. */
static void keep(struct follower *f)
{
    while (f->lease.state != DHCP_EXPIRED) {
        struct pollfd polls[] = {{.fd = f->fd, .events = POLLIN}, {.fd = f->set_fd, .events = POLLIN}};
        uint64_t times;
        int64_t wait_ms = KP_MAX(f->lease.next_ms - boot_ms(), (int64_t)0);
        (void)poll(polls, KP_ARRAY_LEN(polls), (int)KP_MIN(wait_ms, (int64_t)INT32_MAX)); /* woken for nothing, it waits again */
        if (polls[1].revents && read(f->set_fd, &times, sizeof(times)) < 0 && errno == ECANCELED)
            dhcp_lease_hurry(&f->lease, boot_ms());
        if (polls[0].revents && receive(f))
            return;
        if (dhcp_lease_due(&f->lease, boot_ms()))
            send_request(f);
    }
}

/* The address is somebody else's from now on. */
static void give_up_address(struct follower *f)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    const char *text = f->answer.data ? f->answer.data : "";
    const char *commands = kp_arena_printf(arena, "address del %s/%s dev %s\n", dhcp_value(text, "ip", arena), dhcp_value(text, "mask", arena), f->link);
    kp_warn("the lease is lost", "link", f->link, NULL);
    if (dhcp_run_ip(commands, true, &error) < 0)
        kp_warn("the address stays", "link", f->link, "error", error.message, NULL);
}

static void ask_anew(struct follower *f)
{
    for (;; kp_sleep_ms(ASK_AGAIN_MS)) {
        KP_AUTO_BUF struct kp_buf resolv_conf = {0}, before = {0}, time_servers = {0};
        struct kp_error error = {0};
        (void)resolv_of(f, f->answer.data ? f->answer.data : "", &before); /* nothing, when there was no answer yet */
        int r = dhcp_ask(f->link, f->index, &resolv_conf, &time_servers, &error);
        if (r == 0)
            r = change_name_servers(before.data ? before.data : "", resolv_conf.data ? resolv_conf.data : "", &error);
        if (r == 0)
            r = load(f, &error);
        if (r == 0)
            return;
        kp_warn("no lease", "link", f->link, "error", error.message, NULL);
    }
}

int init_dhcp_follow(const char *link, const char *index, struct kp_error *error)
{
    struct follower f = {.link = link, .fd = -1, .set_fd = -1};
    int64_t number = 0;
    if (kp_parse_i64(index, &number) < 0 || number < 0 || number > 99 || !if_nametoindex(link))
        return kp_fail(error, KP_EINVALID, "%s %s: must be a network link and its number, from 0 to 99", link, index);
    f.index = (int)number;
    int r = watch_clock(&f, error);
    for (struct kp_error none = {0}; r == 0; none = (struct kp_error){0}) {
        if (f.lease.state == DHCP_EXPIRED || load(&f, &none) < 0)
            ask_anew(&f);
        r = open_sockets(&f, error);
        if (r == 0)
            keep(&f);
        if (r == 0)
            give_up_address(&f);
        f.lease.state = DHCP_EXPIRED;
    }
    return r;
}
