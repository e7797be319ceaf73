/* How far the clocks of a cluster's machines are off from this host's. */
#ifndef KPROV_CLOCKS_H
#define KPROV_CLOCKS_H

#include "provisioner/cli/cli.h"

#define CLOCKS_SLACK_MS 2000      /* nothing of Kubernetes minds that much */
#define CLOCKS_FAIL_MS 60000      /* kprov's own checks of certificates go by minutes */
#define CLOCKS_LEASE_AGE_MS 40000 /* a kubelet's lease may be as old as it holds (nodeLeaseDurationSeconds) */

struct clocks_row {
    const char *machine;
    bool known;
    int64_t off_ms;      /* > 0: fast */
    const char *problem; /* why it is not known */
};
/* The machines that are on, in their order; `api` may be NULL. Returns how many; rows in the arena. A machine is asked directly where this host
   can be expected to reach it (providers without a network of their own API), else its kubelet's lease tells, and that only roughly. */
size_t clocks_ask(const struct cloud *cloud, const char *kubeconfig, const struct cloud_machine_list *machines, struct cli_api *api,
                  struct kp_arena *arena, struct clocks_row **ret);
/* What to do about a machine whose clock is off. */
const char *clocks_remedy(const struct state_cluster *cluster, struct kp_arena *arena);

/* ---- pure */
/* The Date of an HTTP answer. KP_EINVALID for anything else, NULL too. */
int clocks_parse_date(const char *text, int64_t *ret_s) KP_NODISCARD;
/* A machine said date_s between the two moments of this host's clock: the least that it may be off by. */
int64_t clocks_off_ms(int64_t date_s, int64_t sent_ms, int64_t received_ms);
/* The same by a lease that is renewed again and again. */
int64_t clocks_off_by_lease_ms(int64_t renewed_ms, int64_t now_ms);
/* Whether that many of the clocks are off in the same way that it is rather this host's. */
bool clocks_is_this_host(const struct clocks_row *rows, size_t count);

#endif
