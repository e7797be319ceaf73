/* What the checks of `kprov validate cluster` share. */
#ifndef KPROV_VALIDATE_INTERNAL_H
#define KPROV_VALIDATE_INTERNAL_H

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"
#include "provisioner/plan/plan.h"

#define VALIDATE_ROWS_MAX 32
#define VALIDATE_REQUEST_MS 5000 /* of one request to one API server */

enum validate_result { VALIDATE_OK, VALIDATE_WARNING, VALIDATE_FAILED };
const char *validate_result_name(enum validate_result result); /* "ok" */
struct validate_row {
    const char *name, *detail, *remedy; /* remedy "" when there is nothing to mend */
    enum validate_result result;
    int64_t took_ms;
};
struct validate {
    struct kp_arena *arena; /* of one round of checks */
    struct state_cluster cluster;
    struct cloud *cloud; /* borrowed */
    const char *kubeconfig;
    struct cloud_machine_list machines;
    struct plan plan;
    struct cli_api *api; /* through the cluster's endpoint; NULL: it does not answer */
    struct validate_row rows[VALIDATE_ROWS_MAX];
    size_t n_rows;
    int64_t check_start_ms;
};
/* Adds a row; its seconds count from the start of the check. `remedy` is borrowed. */
void validate_add(struct validate *v, const char *name, enum validate_result result, const char *remedy, const char *format, ...)
    KP_PRINTF(5, 6);

/* ---- validate_cluster.c: each adds a row or more */
void validate_machines(struct validate *v);
void validate_api_servers(struct validate *v);
void validate_nodes(struct validate *v);
void validate_etcd(struct validate *v);
void validate_leases(struct validate *v);
void validate_system_pods(struct validate *v);
void validate_clocks(struct validate *v);
/* ---- validate_certificates.c */
void validate_certificates(struct validate *v);
/* ---- validate_snapshots.c: no row when none are wanted */
void validate_snapshots(struct validate *v);
/* ---- validate_workload.c: a namespace with a Service, a pod behind it and one that asks for it; gone again afterwards */
void validate_workload(struct validate *v);

/* Pure: what the age of the certificate that ends first means. */
#define VALIDATE_CERTIFICATE_WARN_S (30LL * 86400)
#define VALIDATE_CERTIFICATE_FAIL_S (7LL * 86400)
enum validate_result validate_certificate_age(int64_t not_after_s, int64_t now_s);
/* Pure: a control plane's newest snapshot (0: it has none), when the machine was made, and how often one is wanted. */
#define VALIDATE_SNAPSHOT_LATE_S 300 /* or half the interval, when that is longer */
enum validate_result validate_snapshot_age(int64_t newest_s, int64_t machine_s, int64_t every_s, int64_t now_s);
/* Pure: a Lease renewed then, of so many seconds; clocks may differ by a little. */
bool validate_lease_is_fresh(int64_t renewed_s, int64_t duration_s, int64_t now_s);

#endif
