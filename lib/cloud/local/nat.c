/* The way out: machines reach what the host reaches, by an nft table of the cluster's own and forwarding on two links. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

#define NFT_MS_MAX 10000

/* "kprov_0a1b2c3d": nft takes no '-' at the start of words it does not quote. */
static void table_name(const char *uid, char out[32])
{
    char short_uid[9];
    snprintf(short_uid, sizeof(short_uid), "%s", uid);
    snprintf(out, 32, "kprov_%s", short_uid);
}

static int run_nft(const char *commands, struct kp_buf *out, int *ret_status, struct kp_error *error)
{
    const char *const argv[] = {"nft", commands, NULL};
    return kp_run(argv, NFT_MS_MAX, out, out, ret_status, error);
}

/* The link of the default route in /proc/net/route's text; false when there is none. */
bool local_default_link(const char *routes, char out[IFNAMSIZ])
{
    for (const char *line = routes; line && *line;) {
        char link[IFNAMSIZ];
        unsigned destination, mask;
        if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", link, &destination, &mask) == 3 && !destination && !mask) {
            memcpy(out, link, IFNAMSIZ);
            return true;
        }
        const char *end = strchr(line, '\n');
        line = end ? end + 1 : NULL;
    }
    return false;
}

static void forwarding_path(const char *link, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "/proc/sys/net/ipv4/conf/%s/forwarding", link);
}

static bool read_forwarding(const char *link)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf text = {0};
    forwarding_path(link, path);
    return kp_read_file(path, 16, &text, NULL) == 0 && text.data && text.data[0] == '1';
}

static int write_forwarding(const char *link, bool on, struct kp_error *error)
{
    char path[PATH_MAX];
    forwarding_path(link, path);
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "open %s", path); /* the link has gone meanwhile */
    return write(fd, on ? "1" : "0", 1) != 1 ? kp_fail_errno(error, "write %s", path) : 0;
}

/* <state dir>/forwarding notes the host's link whose forwarding we turned on: the last cluster turns it off again. */
static void note_path(const struct local *local, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/forwarding", local->state_dir);
}

int local_nat_ensure(const struct local *local, const struct cloud_network *network, struct kp_error *error)
{
    char link[IFNAMSIZ], own[IFNAMSIZ], table[32], note[PATH_MAX], commands[512];
    KP_AUTO_BUF struct kp_buf routes = {0}, complaint = {0};
    int status = 0;
    int r = kp_read_file("/proc/net/route", 1 << 20, &routes, error);
    if (r < 0)
        return r;
    if (!local_default_link(routes.data, link))
        return 0; /* the host itself reaches nothing */
    local_link_name(network->cluster_uid, own);
    table_name(network->cluster_uid, table);
    note_path(local, note);
    if (!read_forwarding(link)) {
        r = kp_write_file(note, link, strlen(link), 0644, error);
        if (r == 0)
            r = write_forwarding(link, true, error);
    }
    if (r == 0)
        r = write_forwarding(own, true, error);
    if (r < 0)
        return r;
    snprintf(commands, sizeof(commands),
             "add table ip %s; flush table ip %s; add chain ip %s out { type nat hook postrouting priority srcnat; };"
             " add rule ip %s out ip saddr %s oifname != %s masquerade",
             table, table, table, table, network->cidr, own);
    r = run_nft(commands, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "nft: %s", complaint.data ? complaint.data : "");
    return r;
}

bool local_nat_exists(const char *uid)
{
    char table[32], commands[64];
    int status = 1;
    KP_AUTO_BUF struct kp_buf out = {0};
    table_name(uid, table);
    snprintf(commands, sizeof(commands), "list table ip %s", table);
    return run_nft(commands, &out, &status, NULL) == 0 && status == 0;
}

int local_nat_delete(const struct local *local, const char *uid, bool last, struct kp_error *error)
{
    char table[32], commands[128], note[PATH_MAX];
    KP_AUTO_BUF struct kp_buf complaint = {0}, link = {0};
    int status = 0;
    table_name(uid, table);
    /* Added first, so that deleting one that is not there is no error. */
    snprintf(commands, sizeof(commands), "add table ip %s; delete table ip %s", table, table);
    int r = run_nft(commands, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "nft: %s", complaint.data ? complaint.data : "");
    note_path(local, note);
    if (r < 0 || !last || !kp_path_exists(note))
        return r;
    r = kp_read_file(note, IFNAMSIZ, &link, error);
    if (r == 0)
        r = write_forwarding(link.data, false, error);
    if (r == 0 && unlink(note) < 0)
        r = kp_fail_errno(error, "remove %s", note);
    return r;
}
