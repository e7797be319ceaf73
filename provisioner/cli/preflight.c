/* What can be known to go wrong before a cluster is begun: an image that is not there, networks that the host needs, no space. */
#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

#define ROUTES_MAX 1024
#define ROUTES_BYTES_MAX ((size_t)1 << 20)
#define STATE_BYTES_MIN ((uint64_t)16 << 20)     /* of the cluster's folder: config, keys, journal */
#define MACHINES_BYTES_MIN ((uint64_t)256 << 20) /* of the folder that machines live in, and for each machine */
#define MACHINE_BYTES_MIN ((uint64_t)64 << 20)
#define MACHINES_DIR "/var/lib/kprov"
#define IMAGE_PREFIX "node-"

static int check_routes(const struct config *config, const struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf routes = {0};
    struct config_range ranges[ROUTES_MAX];
    if (kp_streq(config->provider, "external") || cloud_can(cloud, CLOUD_HAS_METADATA)) /* the machines are somewhere else, and so are their routes */
        return 0;
    int r = kp_read_file("/proc/net/route", ROUTES_BYTES_MAX, &routes, error);
    return r < 0 ? r : config_check_ranges(config, ranges, config_parse_routes(routes.data, ranges, ROUTES_MAX, arena), error);
}

static int check_image(const struct config *config, struct kp_arena *arena, struct kp_error *error)
{
    const char *id = config->image, *hex = id + strlen(IMAGE_PREFIX);
    if (kp_empty(id))
        return 0;
    if (!kp_starts_with(id, IMAGE_PREFIX) || !*hex || strspn(hex, "0123456789abcdef") != strlen(hex))
        return kp_fail(error, KP_EINVALID, "spec.image: \"%s\" is no id of a node image, such as node-0123456789abcdef: see kprov image list", id);
    if (!kp_path_exists(kp_arena_printf(arena, "%s/%s/rootfs", cli_image_dir(), id)))
        return kp_fail(error, KP_EINVALID, "spec.image: there is no image \"%s\" in %s: see kprov image list, or leave it out to get the one of this kprov", id,
                       cli_image_dir());
    return 0;
}

/* The nearest folder above that is there. */
static const char *existing(const char *path, struct kp_arena *arena)
{
    char *dir = kp_arena_strdup(arena, path);
    while (!kp_path_exists(dir)) {
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir)
            return slash ? "/" : ".";
        *slash = 0;
    }
    return dir;
}

static int check_space(const char *what, const char *path, uint64_t wanted, struct kp_arena *arena, struct kp_error *error)
{
    struct statvfs fs;
    const char *dir = existing(path, arena);
    if (access(dir, W_OK | X_OK) < 0)
        return kp_fail(error, errno == EACCES ? KP_EFORBIDDEN : KP_EIO, "%s cannot go to %s: %s is not writable (%s): make it so, or choose another folder", what,
                       path, dir, strerror(errno));
    if (statvfs(dir, &fs) < 0)
        return kp_fail_errno(error, "free space of %s", dir);
    uint64_t there = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (there < wanted)
        return kp_fail(error, KP_EQUOTA, "%s needs %llu MiB in %s, and %llu MiB are free: make room (kprov image prune removes unused images)", what,
                       (unsigned long long)(wanted >> 20), path, (unsigned long long)(there >> 20));
    return 0;
}

int cli_preflight(const struct config *config, const struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    const char *root = NULL, *machines = getenv("KPROV_LOCAL_DIR");
    int64_t count = config->control_plane.replicas;
    for (size_t i = 0; i < config->n_pools; i++)
        count += config->pools[i].replicas;
    int r = check_image(config, arena, error);
    if (r == 0)
        r = check_routes(config, cloud, arena, error);
    if (r == 0)
        r = state_root(arena, &root, error);
    if (r == 0)
        r = check_space("kprov's state", root, STATE_BYTES_MIN, arena, error);
    if (r == 0 && kp_streq(config->provider, "local"))
        r = check_space("the cluster's machines", kp_empty(machines) ? MACHINES_DIR : machines,
                        MACHINES_BYTES_MIN + (uint64_t)count * MACHINE_BYTES_MIN, arena, error);
    return r;
}
