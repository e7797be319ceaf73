/* A cluster's network: a bridge in a network namespace of its own, away from the host's firewall, with a leg to the host. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

void local_link_name(const char *uid, char out[IFNAMSIZ])
{
    char short_uid[9];
    snprintf(short_uid, sizeof(short_uid), "%s", uid);
    snprintf(out, IFNAMSIZ, "kp%s", short_uid);
}

static void network_path(const struct local *local, const char *uid, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s/%s", local->state_dir, uid, name);
}

static bool link_exists(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/sys/class/net/%s", name);
    return kp_path_exists(path);
}

/* Runs `ip -batch`, in the namespace bound at netns when not NULL. The file of commands lies in the cluster's folder, so
   that it goes with it should this process be killed now. */
static int run_ip(const struct local *local, const char *uid, const char *netns, const char *batch,
                  struct kp_error *error)
{
    char path[PATH_MAX], flag[PATH_MAX + 8];
    network_path(local, uid, "ip-XXXXXX", path);
    KP_AUTO_CLOSE int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", path);
    if (write(fd, batch, strlen(batch)) != (ssize_t)strlen(batch)) {
        int r = kp_fail_errno(error, "write %s", path);
        unlink(path);
        return r;
    }
    snprintf(flag, sizeof(flag), "--net=%s", netns ? netns : "");
    const char *const inside[] = {"nsenter", flag, "ip", "-batch", path, NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    int r = kp_run(netns ? inside : inside + 2, LOCAL_IP_MS_MAX, NULL, &complaint, &status, error);
    unlink(path);
    if (r < 0)
        return r;
    if (status != 0)
        return kp_fail(error, KP_EIO, "ip ended with %d: %s(commands: %s)", status, complaint.data ? complaint.data : "",
                       batch);
    return 0;
}

/* Deletes a link, in the namespace bound at netns when not NULL. One that is not there, or that the kernel removes in this very moment
   because the namespace of its other end is going, is deleted as well: ip says the first of a name it does not find, the second when
   the link went between its look and its request. */
static int delete_link(const char *netns, const char *link, struct kp_error *error)
{
    char flag[PATH_MAX + 8];
    snprintf(flag, sizeof(flag), "--net=%s", netns ? netns : "");
    const char *const inside[] = {"nsenter", flag, "ip", "link", "del", link, NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    int r = kp_run(netns ? inside : inside + 2, LOCAL_IP_MS_MAX, NULL, &complaint, &status, error);
    if (r < 0 || status == 0)
        return r;
    const char *said = complaint.data ? complaint.data : "";
    if (strstr(said, "Cannot find device") || strstr(said, "No such device"))
        return 0;
    return kp_fail(error, KP_EIO, "delete the link %s: ip ended with %d: %s", link, status, said);
}

static int make_netns(const char *path, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", path);
    /* A child makes the namespace, so that this process stays in its own. */
    pid_t pid = fork();
    if (pid < 0)
        return kp_fail_errno(error, "fork");
    if (pid == 0)
        _exit(unshare(CLONE_NEWNET) < 0 || mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0 ? errno : 0);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
        return kp_fail_errno(error, "bind a new network namespace to %s", path);
    }
    return 0;
}

static bool is_mounted(const char *path)
{
    struct stat self, parent;
    char up[PATH_MAX];
    snprintf(up, sizeof(up), "%s", path);
    char *slash = strrchr(up, '/');
    if (!slash)
        return false;
    *slash = 0;
    return stat(path, &self) == 0 && stat(up, &parent) == 0 && self.st_dev != parent.st_dev;
}

static int choose(const struct local *local, const char *uid, uint32_t *ret_base, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf routes = {0};
    struct kp_strings names = {0};
    uint32_t taken[1024];
    size_t n_taken = 0;
    int r = kp_read_file("/proc/net/route", 1 << 20, &routes, error);
    if (r == 0)
        r = local_list_dir(local->state_dir, &names, error);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; r == 0 && i < names.len && n_taken < KP_ARRAY_LEN(taken); i++) {
        char path[PATH_MAX];
        struct local_meta meta;
        int prefix;
        network_path(local, names.items[i], "network", path);
        if (kp_path_exists(path) && local_meta_read(path, arena, &meta, NULL) == 0 &&
            local_cidr_parse(local_meta_get(&meta, "cidr"), &taken[n_taken], &prefix) == 0)
            n_taken++;
    }
    kp_strings_done(&names);
    if (r < 0)
        return r;
    r = local_choose_subnet(routes.data, taken, n_taken, ret_base);
    if (r < 0)
        return kp_fail(error, r, "no free subnet in 10.89.0.0/16 for cluster %s", uid);
    return 0;
}

static int record(const struct local *local, const struct cloud_network_spec *spec, struct kp_error *error)
{
    char path[PATH_MAX], address[16], cidr[24], gateway[16];
    uint32_t base = 0;
    int prefix = 24;
    if (spec->cidr && local_cidr_parse(spec->cidr, &base, &prefix) < 0)
        return kp_fail(error, KP_EINVALID, "network \"%s\" is not an IPv4 prefix of 8 to 28 bits", spec->cidr);
    int r = spec->cidr ? 0 : choose(local, spec->cluster_uid, &base, error);
    if (r < 0)
        return r;
    local_format_address(base, address);
    local_format_address(base + 1, gateway);
    snprintf(cidr, sizeof(cidr), "%s/%d", address, prefix);
    struct local_meta meta = {0};
    local_meta_add(&meta, "cidr", cidr);
    local_meta_add(&meta, "gateway", gateway);
    network_path(local, spec->cluster_uid, "network", path);
    return local_meta_write(path, &meta, error);
}

/* Builds what is missing of namespace, bridge and leg: also after the host was restarted, or after being interrupted. */
static int build(const struct local *local, const struct cloud_network *network, struct kp_error *error)
{
    char netns[PATH_MAX], link[IFNAMSIZ], batch[512];
    network_path(local, network->cluster_uid, "netns", netns);
    local_link_name(network->cluster_uid, link);
    if (is_mounted(netns) && link_exists(link))
        return local_nat_ensure(local, network, error);
    int r = link_exists(link) ? delete_link(NULL, link, error) : 0;
    if (r < 0)
        return r;
    if (is_mounted(netns) && umount2(netns, MNT_DETACH) < 0)
        return kp_fail_errno(error, "unmount %s", netns);
    r = make_netns(netns, error);
    if (r < 0)
        return r;
    snprintf(batch, sizeof(batch), "link set lo up\nlink add br0 type bridge\nlink set br0 up\n"
                                   "link add up0 master br0 up type veth peer name %s netns %d\n", link, (int)getpid());
    r = run_ip(local, network->cluster_uid, netns, batch, error);
    if (r < 0)
        return r;
    snprintf(batch, sizeof(batch), "address add %s/%d dev %s\nlink set %s up\n", network->gateway, network->prefix_len,
             link, link);
    r = run_ip(local, network->cluster_uid, NULL, batch, error);
    return r < 0 ? r : local_nat_ensure(local, network, error);
}

/* Whether no cluster but this one has a network. */
static bool is_last(const struct local *local, const char *uid)
{
    struct kp_strings names = {0};
    bool last = local_list_dir(local->state_dir, &names, NULL) == 0;
    for (size_t i = 0; i < names.len && last; i++) {
        char path[PATH_MAX];
        network_path(local, names.items[i], "network", path);
        last = kp_streq(names.items[i], uid) || !kp_path_exists(path);
    }
    kp_strings_done(&names);
    return last;
}

/* The host's own resolvers that a machine can reach too: one on the host's loopback is out of its reach. */
static const char *host_nameservers(struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0}, out = {0};
    if (kp_read_file("/etc/resolv.conf", 65536, &text, NULL) < 0 || !text.data)
        return "";
    char *save = NULL;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char address[64];
        if (sscanf(line, "nameserver %63[0-9.]", address) == 1 && !kp_starts_with(address, "127."))
            kp_buf_printf(&out, "%s%s", out.len ? " " : "", address);
    }
    return out.len ? kp_arena_strndup(arena, out.data, out.len) : "";
}

int local_network_get(const struct local *local, const char *uid, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error)
{
    char path[PATH_MAX];
    struct local_meta meta;
    uint32_t base;
    network_path(local, uid, "network", path);
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no network", uid);
    int r = local_meta_read(path, arena, &meta, error);
    if (r < 0)
        return r;
    *ret = (struct cloud_network){.id = kp_arena_strdup(arena, uid), .cluster_uid = kp_arena_strdup(arena, uid),
                                  .cidr = local_meta_get(&meta, "cidr"), .gateway = local_meta_get(&meta, "gateway"),
                                  .nameservers = host_nameservers(arena)};
    if (local_cidr_parse(ret->cidr, &base, &ret->prefix_len) < 0)
        return kp_fail(error, KP_ECORRUPT, "%s: cidr \"%s\" is none", path, ret->cidr);
    return 0;
}

int local_network_ensure(const struct local *local, const struct cloud_network_spec *spec, struct kp_arena *arena,
                         struct cloud_network *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_CLOSE int lock = -1;
    int r = local_lock(local, &lock, error);
    if (r < 0)
        return r;
    network_path(local, spec->cluster_uid, "", path);
    r = kp_mkdir_p(path, 0755, error);
    network_path(local, spec->cluster_uid, "network", path);
    if (r == 0 && !kp_path_exists(path))
        r = record(local, spec, error);
    if (r == 0)
        r = local_network_get(local, spec->cluster_uid, arena, ret, error);
    if (r == 0)
        r = build(local, ret, error);
    return r < 0 ? kp_wrap(error, "network of cluster %s", spec->cluster_uid) : 0;
}

int local_network_delete(const struct local *local, const char *uid, struct kp_error *error)
{
    char netns[PATH_MAX], path[PATH_MAX], link[IFNAMSIZ];
    KP_AUTO_CLOSE int lock = -1;
    int r = local_lock(local, &lock, error);
    if (r < 0)
        return r;
    r = local_nat_delete(local, uid, is_last(local, uid), error);
    if (r < 0)
        return r;
    local_link_name(uid, link);
    if (link_exists(link) && (r = delete_link(NULL, link, error)) < 0)
        return r;
    network_path(local, uid, "netns", netns);
    if (is_mounted(netns) && umount2(netns, MNT_DETACH) < 0)
        return kp_fail_errno(error, "unmount %s", netns);
    network_path(local, uid, "network", path);
    if ((unlink(netns) < 0 && errno != ENOENT) || (unlink(path) < 0 && errno != ENOENT))
        return kp_fail_errno(error, "remove %s", path);
    return 0;
}

void local_network_owned(const struct local *local, const char *uid, struct kp_strings *ret)
{
    char path[PATH_MAX], link[IFNAMSIZ], line[PATH_MAX + 16];
    local_link_name(uid, link);
    if (link_exists(link)) {
        snprintf(line, sizeof(line), "link %s", link);
        kp_strings_add(ret, line);
    }
    if (local_nat_exists(uid)) {
        snprintf(line, sizeof(line), "nft table kprov_%.8s", uid);
        kp_strings_add(ret, line);
    }
    network_path(local, uid, "netns", path);
    if (is_mounted(path)) {
        snprintf(line, sizeof(line), "mount %s", path);
        kp_strings_add(ret, line);
    }
}

/* The host number names the link in the bridge's namespace, and the whole address makes the MAC: it stays the same over
   power cycles, so that nobody's ARP cache is wrong. */
static void port_names(const char *address, char port[IFNAMSIZ], char mac[24])
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    sscanf(address, "%u.%u.%u.%u", &a, &b, &c, &d);
    snprintf(port, IFNAMSIZ, "m%u", ((c & 255) << 8) | (d & 255));
    snprintf(mac, 24, "02:6b:%02x:%02x:%02x:%02x", a & 255, b & 255, c & 255, d & 255);
}

int local_network_detach(const struct local *local, const char *uid, const char *address, struct kp_error *error)
{
    char netns[PATH_MAX], port[IFNAMSIZ], mac[24];
    network_path(local, uid, "netns", netns);
    if (!is_mounted(netns) || kp_empty(address))
        return 0;
    port_names(address, port, mac);
    return delete_link(netns, port, error);
}

int local_network_attach(const struct local *local, const char *uid, const char *address, pid_t pid,
                         struct kp_error *error)
{
    char netns[PATH_MAX], port[IFNAMSIZ], mac[24], batch[256];
    network_path(local, uid, "netns", netns);
    port_names(address, port, mac);
    snprintf(batch, sizeof(batch), "link add %s master br0 up type veth peer name eth0 address %s netns %d\n", port, mac,
             (int)pid);
    struct kp_error first = {0};
    if (run_ip(local, uid, netns, batch, &first) == 0)
        return 0;
    int r = local_network_detach(local, uid, address, error);
    return r < 0 ? r : run_ip(local, uid, netns, batch, error);
}
