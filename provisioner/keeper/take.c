/* One snapshot of this machine's own etcd member, with the certificates that the machine has now. */
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "provisioner/etcd/etcd.h"
#include "provisioner/keeper/keeper.h"

#define PKI "/etc/kubernetes/pki/etcd/"
#define OWN_MEMBER "127.0.0.1"
#define PEM_MAX ((size_t)64 << 10)

static int open_member(struct etcd_client **ret, struct kp_error *error)
{
    static const char *const addresses[] = {OWN_MEMBER};
    KP_AUTO_BUF struct kp_buf ca = {0}, cert = {0}, key = {0};
    int r = kp_read_file(PKI "ca.crt", PEM_MAX, &ca, error);
    if (r == 0)
        r = kp_read_file(PKI "healthcheck-client.crt", PEM_MAX, &cert, error);
    if (r == 0)
        r = kp_read_file(PKI "healthcheck-client.key", PEM_MAX, &key, error);
    if (r < 0)
        return r;
    const struct etcd_client_credentials credentials = {ca.data, cert.data, key.data};
    return etcd_client_open_with(&credentials, addresses, 1, ret, error);
}

static int check_room(struct etcd_client *client, const char *dir, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct etcd_member_status *status = NULL;
    struct statvfs fs;
    etcd_client_status(client, arena, &status);
    if (status->code < 0)
        return kp_fail(error, status->code, "etcd on this machine: %s", status->problem);
    if (statvfs(dir, &fs) < 0)
        return kp_fail_errno(error, "look at the disk of %s", dir);
    const int64_t room = (int64_t)(fs.f_bavail * fs.f_frsize), all = (int64_t)(fs.f_blocks * fs.f_frsize);
    if (!keeper_has_room(room, all, status->db_size))
        return kp_fail(error, KP_EQUOTA, "no room in %s: %lld MiB are free, etcd has %lld MiB, and some have to stay free", dir,
                       (long long)(room >> 20), (long long)(status->db_size >> 20));
    return 0;
}

static int stream(struct etcd_client *client, const char *part, struct kp_error *error)
{
    struct etcd_snapshot taken = {0};
    KP_AUTO_CLOSE int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", part);
    int r = etcd_client_snapshot(client, fd, &taken, error);
    if (r == 0 && fsync(fd) < 0)
        r = kp_fail_errno(error, "write %s", part);
    return r;
}

/* The name stays when the power goes right after. */
static int publish(const char *dir, const char *part, const char *name, struct kp_error *error)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", dir, name);
    if (rename(part, path) < 0)
        return kp_fail_errno(error, "rename %s to %s", part, path);
    KP_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? kp_fail_errno(error, "write %s", dir) : 0;
}

int keeper_take(const struct keeper_config *config, const char *machine, int64_t now_s, char ret_name[SNAPSHOT_NAME_MAX], struct kp_error *error)
{
    KP_AUTO(etcd_client_close) struct etcd_client *client = NULL;
    KP_AUTO_FREE char *part = kp_asprintf("%s/.%s.part", config->dir, machine);
    struct snapshot_info info;
    int r = kp_mkdir_p(config->dir, 0700, error);
    if (r == 0)
        r = open_member(&client, error);
    if (r == 0)
        r = check_room(client, config->dir, error);
    if (r < 0)
        return r;
    r = stream(client, part, error);
    if (r == 0)
        r = snapshot_check(part, &info, error);
    if (r == 0) {
        snapshot_scheduled_name(machine, info.revision, now_s, ret_name);
        r = publish(config->dir, part, ret_name, error);
    }
    if (r < 0)
        unlink(part);
    return r;
}
