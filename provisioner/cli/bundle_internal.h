/* The support bundle while it is put together. */
#ifndef KPROV_BUNDLE_INTERNAL_H
#define KPROV_BUNDLE_INTERNAL_H

#include "archive/archive.h"
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"

#define BUNDLE_FILE_MAX ((size_t)4 << 20)    /* of one file in it; of longer ones the end */
#define BUNDLE_TOTAL_MAX ((size_t)256 << 20) /* before compression */
#define BUNDLE_LOGS_MAX 64                   /* of one machine */

struct bundle {
    struct kp_arena *arena;
    const char *name; /* the cluster's */
    bool has_cluster; /* its state could be read */
    struct state_cluster cluster;
    struct cloud *cloud; /* NULL: it cannot be opened; likewise api */
    struct cloud_machine_list machines;
    struct cli_api *api;
    struct archive *archive;
    struct kp_buf errors;
    size_t n_files, n_errors, bytes;
    int failed; /* of writing: then nothing more is added */
    struct kp_error failure;
};
/* Without secrets, and of too long a text the end. */
void bundle_add(struct bundle *bundle, const char *path, const char *text, size_t len);
void bundle_add_value(struct bundle *bundle, const char *path, const struct kp_value *value);
/* A line of errors.txt. */
void bundle_error(struct bundle *bundle, const char *what, const char *format, ...) KP_PRINTF(3, 4);

/* ---- bundle_machines.c, bundle_cluster.c */
void bundle_machines(struct bundle *bundle);
void bundle_state(struct bundle *bundle);
void bundle_api(struct bundle *bundle);
void bundle_etcd(struct bundle *bundle);
void bundle_host(struct bundle *bundle);

#endif
