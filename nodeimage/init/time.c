/* Whom the machine asks for the time: chrony's config, from the cluster's servers, the cloud's, DHCP's or Debian's pool, and the host's clock. */
#include <arpa/inet.h>
#include <ctype.h>
#include <unistd.h>

#include "init_internal.h"

#define CHRONYD "/usr/sbin/chronyd"
#define CONFIG_PATH "/etc/chrony/chrony.conf"
#define DRIFT_PATH "/var/lib/chrony/chrony.drift"
#define POOL "2.debian.pool.ntp.org"
#define HOST_MAX 253 /* RFC 1035 2.3.4 */
#define PHC "/dev/ptp0"

bool init_is_time_server(const char *text)
{
    if (!isalnum((unsigned char)*text) && *text != ':')
        return false;
    for (size_t i = 0; text[i]; i++)
        if (i == HOST_MAX || (!isalnum((unsigned char)text[i]) && !strchr(".:-", text[i])))
            return false;
    return true;
}

static void add_server(struct kp_buf *out, const char *server)
{
    kp_buf_printf(out, "server %s iburst\n", server);
}

static size_t add_dhcp_servers(struct kp_buf *out, const char *dhcp)
{
    KP_AUTO_FREE char *copy = kp_strdup(dhcp);
    struct in_addr address;
    size_t n = 0;
    for (char *rest = copy, *word; (word = strsep(&rest, " \n")) != NULL;) {
        if (inet_pton(AF_INET, word, &address) != 1 || address.s_addr == 0 || n == INIT_TIME_SERVERS_MAX)
            continue;
        add_server(out, word);
        n++;
    }
    return n;
}

/* A clock that is a little wrong is made faster or slower, by a twelfth at most; one that is wrong by more than five seconds is set: making up
   for an hour would take half a day. Samples of the host's clock are taken every sixteenth second, of servers every 64th to 1024th. */
void init_time_config(const struct init_time *time, const char *dhcp, const char *phc, struct kp_buf *out)
{
    for (size_t i = 0; i < time->n_servers; i++)
        add_server(out, time->servers[i]);
    if (!time->n_servers) {
        for (size_t i = 0; i < time->n_cloud_servers; i++)
            add_server(out, time->cloud_servers[i]);
        if (!time->n_cloud_servers && !add_dhcp_servers(out, dhcp))
            kp_buf_puts(out, "pool " POOL " iburst maxsources 2\n");
        if (phc) /* nobody is nearer: the others are for when it is gone */
            kp_buf_printf(out, "refclock PHC %s poll 5 dpoll 4 prefer trust\n", phc);
    }
    kp_buf_puts(out, "driftfile " DRIFT_PATH "\nmakestep 5 -1\nrtcsync\nport 0\ncmdport 0\npidfile /run/chrony/chronyd.pid\n");
}

/* The clock of the host, which KVM gives; emulation has none. */
static const char *find_phc(void)
{
    static const char *const argv[] = {"modprobe", "-q", "ptp_kvm", NULL};
    KP_AUTO_BUF struct kp_buf said = {0}, name = {0};
    struct kp_error error = {0};
    int status = 0;
    if (kp_run(argv, 10000, NULL, &said, &status, &error) < 0)
        kp_warn("modprobe ptp_kvm", "error", error.message, NULL);
    if (kp_read_file("/sys/class/ptp/ptp0/clock_name", 256, &name, NULL) < 0 || !kp_starts_with(name.data, "KVM"))
        return NULL;
    return PHC;
}

int init_time_prepare(struct init_config *config, struct kp_error *error)
{
    /* -d: in the foreground, words to stderr; -F 1: with Debian's filter of system calls */
    static const char *const argv[] = {CHRONYD, "-d", "-F", "1", "-f", CONFIG_PATH, NULL};
    KP_AUTO_BUF struct kp_buf text = {0}, dhcp = {0};
    if (!config->time.wanted)
        return 0;
    if (access(CHRONYD, X_OK) < 0) {
        kp_warn("the node image has no chrony: the clock follows the real-time clock alone", NULL);
        return 0;
    }
    if (kp_path_exists(INIT_DHCP_TIME_PATH) && kp_read_file(INIT_DHCP_TIME_PATH, 4096, &dhcp, error) < 0)
        return error->code;
    init_time_config(&config->time, dhcp.data ? dhcp.data : "", find_phc(), &text);
    int r = kp_mkdir_p("/etc/chrony", 0755, error);
    if (r == 0)
        r = kp_write_file(CONFIG_PATH, text.data, text.len, 0644, error);
    if (r == 0)
        config->services[config->n_services++] = (struct init_service){.name = "chrony", .argv = argv, .keeps_running = true};
    return r;
}
