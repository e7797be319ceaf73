/* provisioner/keeper: kprov-snapshots, which runs on every control plane beside the kubelet and puts etcd's database on the machine's own disk,
 * as often as the cluster file says. It goes on when nobody is at the laptop, and when no API server answers. */
#ifndef KPROV_KEEPER_H
#define KPROV_KEEPER_H

#include "base/base.h"
#include "provisioner/snapshot/snapshot.h"

#define KEEPER_FILES_MAX 1024
#define KEEPER_CONFIG_MAX ((size_t)64 << 10)
#define KEEPER_FIRST_S 600     /* a machine without a snapshot takes its first one then, or when one is due */
#define KEEPER_RETRY_S 60      /* after a failure, or when one is due */
#define KEEPER_LOOK_S 5        /* how often the config is looked at */
#define KEEPER_RESERVE_MAX ((int64_t)1 << 30) /* bytes of the disk that stay free: a twentieth of it, at most this */

/* ---- config.c: what bootstrap writes (bootstrap_snapshots_config) */
struct keeper_config {
    int64_t every_s; /* 0: none are taken */
    int64_t keep;
    const char *dir; /* in the arena */
};
int keeper_config_parse(const char *text, size_t len, struct kp_arena *arena, struct keeper_config *ret, struct kp_error *error) KP_NODISCARD;

/* ---- decide.c: pure */
struct keeper_file {
    char name[SNAPSHOT_NAME_MAX];
    int64_t taken_s;
};
struct keeper_clock {
    int64_t now_s, started_s;
    int64_t failed_s; /* when the last attempt failed; 0: it did not */
};
/* When the next one is due: at once when it is not later than now. Files from the future are those of a clock that was wrong. */
int64_t keeper_due_s(const struct keeper_config *config, const struct keeper_file *files, size_t n, const struct keeper_clock *clock);
/* Sorts the newest first, and gives how many stay. */
size_t keeper_kept(const struct keeper_config *config, struct keeper_file *files, size_t n);
/* Whether a database of that size may be put on a disk of which so much is free. */
bool keeper_has_room(int64_t free_bytes, int64_t disk_bytes, int64_t database_bytes);

/* ---- files.c */
/* The machine's own snapshots in the folder, which need not be there. */
int keeper_list(const char *dir, const char *machine, struct keeper_file files[KEEPER_FILES_MAX], size_t *ret_n, struct kp_error *error) KP_NODISCARD;
/* Removes what is more than is kept, and what an interrupted attempt left. */
int keeper_clean(const struct keeper_config *config, const char *machine, struct kp_error *error) KP_NODISCARD;

/* ---- take.c */
/* One snapshot of this machine's member, read again and found whole before it has its name. ret_name: the file's. */
int keeper_take(const struct keeper_config *config, const char *machine, int64_t now_s, char ret_name[SNAPSHOT_NAME_MAX],
                struct kp_error *error) KP_NODISCARD;

#endif
