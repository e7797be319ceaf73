/* The local driver: a machine is a set of namespaces over the node image, on a bridge in a namespace of its own.
 *
 * On disk, below the state folder:
 *   <cluster uid>/network            cidr and gateway
 *   <cluster uid>/netns              the bridge's network namespace, bound here
 *   <cluster uid>/addresses/<name>   one reserved address each
 *   <cluster uid>/machines/<name>/   machine (what was asked for), user-data or user-data.2 (`machine` says which), pid,
 *                                    console.log, upper, work, root, data; upper.old while its image is changed
 * In the kernel: cgroups kprov-<uid>/<name> in every hierarchy; the link kp<8 characters of uid> and the nft table
 * kprov_<8 characters of uid> on the host; in the bridge's namespace br0, up0 and m<host number>. */
#ifndef KP_CLOUD_LOCAL_INTERNAL_H
#define KP_CLOUD_LOCAL_INTERNAL_H

#include <limits.h>
#include <net/if.h>
#include <sys/types.h>

#include "cloud/cloud.h"

#define LOCAL_STATE_DIR "/var/lib/kprov/clouds/local"
#define LOCAL_IMAGE_DIR "/var/lib/kprov/images"
#define LOCAL_FIRST_HOST 10 /* host numbers below are the gateway's and ours */
#define LOCAL_LAST_HOST 200 /* those up to 250 are for load balancers (bootstrap_balancer_addresses) */
#define LOCAL_STOP_MS_MAX 20000
#define LOCAL_KILL_MS_MAX 10000
#define LOCAL_IP_MS_MAX 10000

struct local {
    char state_dir[PATH_MAX / 2];
    char image_dir[PATH_MAX / 2];
};

/* ---- meta.c: small files of key=value lines; values have no line breaks */
struct local_meta {
    const char *keys[16];
    const char *values[16];
    size_t len;
};
void local_meta_add(struct local_meta *meta, const char *key, const char *value); /* borrows */
const char *local_meta_get(const struct local_meta *meta, const char *key);       /* "" when absent */
int local_meta_write(const char *path, const struct local_meta *meta, struct kp_error *error);
int local_meta_read(const char *path, struct kp_arena *arena, struct local_meta *ret, struct kp_error *error);
/* The names in a folder but "." and "..", sorted; a folder that is not there has none. */
int local_list_dir(const char *path, struct kp_strings *ret, struct kp_error *error);
/* An exclusive lock on <state dir>/lock, held until the descriptor is closed. */
int local_lock(const struct local *local, int *ret_fd, struct kp_error *error);

/* ---- cgroup.c */
#define LOCAL_CGROUPS_MAX 32
struct local_cgroups { /* mount points of the hierarchies that machines get a group in */
    char paths[LOCAL_CGROUPS_MAX][128];
    size_t len;
    bool v2;
};
int local_cgroups_find(struct local_cgroups *ret, struct kp_error *error);
/* Parses /proc/self/mounts' text: the v1 hierarchies, else the v2 one. */
void local_cgroups_parse(const char *mounts, struct local_cgroups *ret);
int local_cgroup_make(const struct local_cgroups *cgroups, const char *uid, const char *name, struct kp_error *error);
int local_cgroup_enter(const struct local_cgroups *cgroups, const char *uid, const char *name, pid_t pid,
                       struct kp_error *error);
/* Kills whatever still runs in the group (name NULL: in all groups of the cluster) and removes it. */
int local_cgroup_remove(const struct local_cgroups *cgroups, const char *uid, const char *name, struct kp_error *error);
/* Adds a line for each group of the cluster. */
void local_cgroup_owned(const struct local_cgroups *cgroups, const char *uid, struct kp_strings *ret);
void local_cgroup_clusters(const struct local_cgroups *cgroups, struct kp_strings *ret_uids);

/* ---- network.c */
void local_link_name(const char *uid, char out[IFNAMSIZ]);
int local_network_ensure(const struct local *local, const struct cloud_network_spec *spec, struct kp_arena *arena,
                         struct cloud_network *ret, struct kp_error *error);
int local_network_get(const struct local *local, const char *uid, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error);
int local_network_delete(const struct local *local, const char *uid, struct kp_error *error);
void local_network_owned(const struct local *local, const char *uid, struct kp_strings *ret);
/* Makes eth0 in the network namespace of pid and joins it to the bridge; a link left over from before is replaced. */
int local_network_attach(const struct local *local, const char *uid, const char *address, pid_t pid,
                         struct kp_error *error);
int local_network_detach(const struct local *local, const char *uid, const char *address, struct kp_error *error);
/* "10.89.3.0/24" parsed to host order; KP_EINVALID unless it is an aligned IPv4 prefix of 8 to 28 bits. */
int local_cidr_parse(const char *cidr, uint32_t *ret_base, int *ret_prefix);
void local_format_address(uint32_t address, char out[16]);
/* The first 10.89.N.0/24 (N from 0) that overlaps no route in /proc/net/route's text and none of `taken`; 0 or KP_EQUOTA. */
int local_choose_subnet(const char *routes, const uint32_t *taken, size_t n_taken, uint32_t *ret_base);

/* ---- nat.c */
bool local_default_link(const char *routes, char out[IFNAMSIZ]);
int local_nat_ensure(const struct local *local, const struct cloud_network *network, struct kp_error *error);
bool local_nat_exists(const char *uid);
/* last: no other cluster of this host needs the host's link to forward. */
int local_nat_delete(const struct local *local, const char *uid, bool last, struct kp_error *error);

/* ---- machine.c */
void local_machine_dir(const struct local *local, const char *uid, const char *name, char out[PATH_MAX]);
/* The PID of the machine's init on this host, or 0 when it is off. */
pid_t local_machine_pid(const struct local *local, const char *uid, const char *name);
int local_machine_start(const struct local *local, const char *uid, const char *name, struct kp_error *error);
/* signum SIGPWR asks and kills after LOCAL_STOP_MS_MAX; SIGKILL pulls the plug. */
int local_machine_stop(const struct local *local, const char *uid, const char *name, int signum,
                       struct kp_error *error);
/* Whether a machine could run from an image: KP_ENOTFOUND, KP_EINVALID. */
int local_image_check(const struct local *local, const char *image, struct kp_error *error);

/* ---- reimage.c */
int local_machine_reimage(const struct local *local, const struct cloud_machine_spec *spec, struct kp_error *error);
/* Finishes an interrupted change of the root of the machine in this folder; nothing to do is fine. */
int local_root_settle(const char *dir, struct kp_error *error);

/* ---- spawn.c: the part that runs between clone and exec */
struct local_spawn {
    char overlay_options[4096];
    char root[PATH_MAX], console[PATH_MAX], user_data[PATH_MAX], netns[PATH_MAX];
    struct {
        char source[PATH_MAX];
        char target[PATH_MAX]; /* below root */
    } binds[4];
    size_t n_binds;
    const char *init; /* path inside the root */
};
/* Starts init in new namespaces; it waits until *ret_release is written to before it does anything, and *ret_report
   then gives an error text, or end of file when init runs. */
int local_spawn(const struct local_spawn *spawn, pid_t *ret_pid, int *ret_release, int *ret_report,
                struct kp_error *error);

/* ---- exec.c */
int local_exec(pid_t pid, const struct local_cgroups *cgroups, const char *uid, const char *name,
               const struct cloud_exec *exec, int *ret_status, struct kp_error *error);

#endif
