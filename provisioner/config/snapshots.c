/* spec.etcd.snapshots: how often each control plane puts etcd's database on its own disk, and how many of them it keeps. */
#include "provisioner/config/config_internal.h"

int64_t config_snapshot_every_s(const struct config *config)
{
    int64_t ns = 0;
    return kp_parse_duration_ns(config->snapshots.every, &ns) == 0 ? ns / 1000000000 : 0;
}

/* It has to outlive another node image, and a shell on the machine is told it. */
static bool is_kept_folder(const char *path)
{
    static const char *const kept[] = {"/var/", "/home/", "/mnt/", "/opt/", "/root/", "/srv/"};
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-";
    bool below = false;
    for (size_t i = 0; i < KP_ARRAY_LEN(kept); i++)
        below |= kp_starts_with(path, kept[i]) && path[strlen(kept[i])] != 0;
    return below && strlen(path) <= CONFIG_SNAPSHOT_DIR_MAX && strspn(path, plain) == strlen(path) && !strstr(path, "/.") && !strstr(path, "//") &&
           !kp_ends_with(path, "/");
}

int config_check_snapshots(const struct config *config, struct kp_error *error)
{
    int64_t ns = 0;
    const int64_t keep = config->snapshots.keep;
    if (kp_parse_duration_ns(config->snapshots.every, &ns) < 0 || ns < 0 ||
        (ns != 0 && (ns < CONFIG_SNAPSHOT_EVERY_MIN_S * 1000000000LL || ns > CONFIG_SNAPSHOT_EVERY_MAX_S * 1000000000LL)))
        return kp_fail(error, KP_EINVALID, "spec.etcd.snapshots.every: \"%s\" must be a duration from %ds to %dh, such as 12h, or 0s for none",
                       config->snapshots.every, CONFIG_SNAPSHOT_EVERY_MIN_S, CONFIG_SNAPSHOT_EVERY_MAX_S / 3600);
    if (keep < 1 || keep > CONFIG_SNAPSHOT_KEEP_MAX)
        return kp_fail(error, KP_EINVALID, "spec.etcd.snapshots.keep: %lld must be from 1 to %d", (long long)keep, CONFIG_SNAPSHOT_KEEP_MAX);
    if (!is_kept_folder(config->snapshots.dir))
        return kp_fail(error, KP_EINVALID,
                       "spec.etcd.snapshots.dir: \"%s\" must be a folder below /var, /home, /mnt, /opt, /root or /srv, which a machine keeps "
                       "when it gets another node image, such as " CONFIG_SNAPSHOT_DIR, config->snapshots.dir);
    return 0;
}

struct kp_value *config_etcd_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *etcd = kp_value_object(arena), *snapshots = kp_value_object(arena);
    kp_value_set(arena, snapshots, "every", kp_value_string(arena, config->snapshots.every));
    kp_value_set(arena, snapshots, "keep", kp_value_int(arena, config->snapshots.keep));
    kp_value_set(arena, snapshots, "dir", kp_value_string(arena, config->snapshots.dir));
    kp_value_set(arena, etcd, "snapshots", snapshots);
    return etcd;
}
