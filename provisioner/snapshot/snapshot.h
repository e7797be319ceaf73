/* provisioner/snapshot: files of etcd snapshots on the laptop - checked, described, listed.
 *
 * FILE is what `etcdctl snapshot save` writes; FILE.json beside it says where it came from and holds the cluster's keys, without which the
 * service-account tokens in it are worth nothing. Both are for their owner alone. */
#ifndef KPROV_SNAPSHOT_H
#define KPROV_SNAPSHOT_H

#include "base/base.h"
#include "codec/codec.h"
#include "provisioner/config/config.h"

#define SNAPSHOT_BYTES_MAX ((size_t)8 << 30) /* etcd's own advice for a database */
#define SNAPSHOT_NAME_MAX 128
#define SNAPSHOT_META_MAX ((size_t)1 << 20)

/* What the file itself tells. */
struct snapshot_info {
    int64_t size_bytes; /* with the checksum at its end */
    int64_t revision;   /* the newest in it */
    char sha256[65];    /* of the whole file, as sha256sum prints it */
};
/* Reads the whole file: its checksum, and the way to its newest revision. KP_ECORRUPT when it was cut or changed. */
int snapshot_check(const char *path, struct snapshot_info *ret, struct kp_error *error) KP_NODISCARD;
/* The newest revision in the bytes of a database without the checksum. KP_ECORRUPT. */
int snapshot_revision(const uint8_t *data, size_t len, int64_t *ret_revision, struct kp_error *error) KP_NODISCARD;

/* What FILE.json tells. Strings are in the arena, none is NULL. */
struct snapshot_meta {
    const char *cluster, *uid, *endpoint; /* endpoint: the member it was taken from */
    int64_t taken_s;
    const char *kubernetes_version, *pod_cidr, *service_cidr, *dns_domain;
    int64_t control_planes;
    struct snapshot_info info;
    struct kp_value *pki; /* the document of pki.json, or NULL */
};
void snapshot_meta_print(const struct snapshot_meta *meta, struct kp_arena *arena, struct kp_buf *out);
int snapshot_meta_parse(const char *text, size_t len, struct kp_arena *arena, struct snapshot_meta *ret, struct kp_error *error) KP_NODISCARD;
/* Of FILE.json, when it is there: KP_ENOTFOUND. KP_ECORRUPT when it describes another file than `info`. */
int snapshot_meta_load(const char *snapshot_path, const struct snapshot_info *info, struct kp_arena *arena, struct snapshot_meta *ret,
                       struct kp_error *error) KP_NODISCARD;

/* "demo-20261121T101855Z.db": sorts by age. */
void snapshot_name(const char *cluster, int64_t taken_s, char out[SNAPSHOT_NAME_MAX]);
/* The time in such a name, whatever stands before it; KP_EINVALID for any other. */
int snapshot_name_time(const char *name, int64_t *ret_taken_s) KP_NODISCARD;

/* ---- scheduled.c: what a control plane takes by itself (provisioner/keeper): "demo-cp-1-r4711-20261121T101855Z.db" */
#define SNAPSHOT_MACHINE_MAX 64 /* bytes of a host name, with its end */
struct snapshot_scheduled {
    char machine[SNAPSHOT_MACHINE_MAX];
    int64_t revision, taken_s;
};
void snapshot_scheduled_name(const char *machine, int64_t revision, int64_t taken_s, char out[SNAPSHOT_NAME_MAX]);
int snapshot_scheduled_parse(const char *name, struct snapshot_scheduled *ret) KP_NODISCARD; /* KP_EINVALID for any other */

#endif
