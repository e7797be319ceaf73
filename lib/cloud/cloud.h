/* lib/cloud: the one driver interface to whatever machines come from; used by kprov and by the cloud-controller-manager.
 *
 * Every resource carries its cluster's uid as a tag, and ownership is read from that tag alone, never from a name.
 * KP_ENOTFOUND is the cloud's authoritative answer that something does not exist; a call that could not be made or was
 * refused fails with another code, so that a caller may act on NOT_FOUND. Everything that ensures or deletes is
 * idempotent: making what exists gives what exists, deleting what is gone succeeds.
 *
 * No call waits for ever: one that has not come back within its time (30 s to 10 min by kind; $KPROV_CLOUD_TIMEOUT, "90s",
 * for all) fails with KP_ETIMEOUT and is left behind on its thread. It may still do its work: that is what being idempotent
 * is for. cloud_machine_exec alone takes as long as the command does. */
#ifndef KP_CLOUD_H
#define KP_CLOUD_H

#include "base/base.h"

#define CLOUD_NAME_MAX 64            /* bytes of a machine's or pool's name, with the NUL: a DNS label */
#define CLOUD_MACHINES_MAX 1000      /* of one cluster */
#define CLOUD_USER_DATA_MAX ((size_t)4 << 20)
#define CLOUD_CONSOLE_MAX ((size_t)4 << 20) /* bytes of console log handed out, the newest */

/* What a driver can do beyond machines and networks. */
enum cloud_capability {
    CLOUD_CAN_EXEC = 1 << 0,           /* cloud_machine_exec */
    CLOUD_CAN_CONSOLE = 1 << 1,        /* cloud_machine_console */
    CLOUD_CAN_LOAD_BALANCE = 1 << 2,
    CLOUD_CAN_ROUTE = 1 << 3,
    CLOUD_CAN_LOCAL_IMAGES = 1 << 4,   /* machines run straight from a folder of /var/lib/kprov/images */
    CLOUD_CAN_CHANGE_LATER = 1 << 5,   /* cloud_machine_reimage with at_next_boot */
};

enum cloud_power { CLOUD_POWER_OFF, CLOUD_POWER_ON };
enum cloud_power_action { CLOUD_POWER_START, CLOUD_POWER_STOP /* orderly */, CLOUD_POWER_KILL /* pull the plug */ };

/* A network that exists already, for machines to be in: libvirt's alone. */
struct cloud_bridge {
    const char *name;        /* of a bridge on the machine that makes machines; NULL: none */
    const char *addresses;   /* "10.0.0.100-10.0.0.150": nobody else gives these */
    const char *gateway;     /* "10.0.0.1" */
    const char *nameservers; /* separated by spaces; "" when there is none */
};
struct cloud_network_spec {
    const char *cluster_uid;
    const char *cidr; /* wanted, or NULL: the driver chooses a free one */
    struct cloud_bridge bridge; /* cidr is that network's then */
};
struct cloud_network {
    const char *id, *cluster_uid;
    const char *cidr;    /* "10.89.3.0/24" */
    const char *gateway; /* "10.89.3.1" */
    int prefix_len;
    const char *nameservers; /* addresses separated by spaces that machines may ask; "" when there is none */
};

/* What a cluster that does not exist yet is going to ask for. */
struct cloud_wish {
    const char *cidr; /* or NULL */
    struct cloud_bridge bridge;
    const char *const *machines; /* their names */
    size_t n_machines;
};

struct cloud_machine_spec {
    const char *cluster_uid;
    const char *name;         /* the host name; unique in the cluster */
    const char *role;         /* "control-plane" or "worker" */
    const char *pool;         /* node pool, "" for the control plane */
    const char *machine_type; /* "" is the driver's default */
    const char *image;        /* id of a node image */
    const char *address;      /* one reserved with cloud_address_reserve */
    const void *user_data;    /* what the machine's init reads as its bootstrap config */
    size_t user_data_len;     /* at most CLOUD_USER_DATA_MAX */
    bool at_next_boot;        /* of a reimage with the image that the machine has: it goes on, and reads the user data when it boots next */
};
struct cloud_machine {
    const char *id, *provider_id; /* "local://<uid>/<name>" */
    const char *name, *cluster_uid, *role, *pool, *machine_type, *image, *address, *region, *zone;
    enum cloud_power power;
    int64_t created_s; /* since 1970 */
};
struct cloud_machine_list {
    struct cloud_machine *items;
    size_t len;
};

/* How a command runs inside a machine: the caller's descriptors are handed over as they are. */
struct cloud_exec {
    const char *const *argv; /* NULL-terminated */
    int stdin_fd, stdout_fd, stderr_fd;
};

/* Machines that exist already, for the driver "external". */
struct cloud_external_machine {
    const char *address, *user, *key_file; /* user "": root; key_file "": the agent's keys; "~/" is the home folder */
    int port;                              /* 0: 22 */
    const char *host_key;    /* "ssh-ed25519 AAAA...", or "" */
    const char *known_hosts; /* a file to find the host key in otherwise; "": ~/.ssh/known_hosts */
    const char *role, *pool; /* "control-plane" or "worker"; pool "": any */
};
struct cloud_external {
    const char *cluster;     /* its name, which the nodes' names begin with */
    const char *api_address; /* of no machine: held by one control plane at a time */
    const struct cloud_external_machine *machines;
    size_t n_machines;
};

struct cloud_options {
    const char *state_dir; /* of drivers that keep their machines on this host; NULL: /var/lib/kprov/clouds/<name> */
    const char *image_dir; /* NULL: /var/lib/kprov/images */
    int64_t timeout_ms;    /* of every call; 0: $KPROV_CLOUD_TIMEOUT, or what its kind takes */
    const char *uri;       /* libvirt: NULL: $LIBVIRT_DEFAULT_URI, or qemu:///system */
    const struct cloud_external *external; /* of the driver of that name; copied */
};

struct cloud; /* one opened driver; calls may come from several threads */

/* What a driver implements; cloud.c checks arguments, call.c calls on a thread a call. Results live in the arena. */
struct cloud_driver {
    const char *name;
    unsigned capabilities; /* enum cloud_capability bits */
    int (*open)(const struct cloud_options *options, void **ret_state, struct kp_error *error);
    void (*close)(void *state);
    /* NULL: nothing can be said beforehand */
    int (*check)(void *state, const struct cloud_wish *wish, struct kp_error *error);
    int (*network_ensure)(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena,
                          struct cloud_network *ret, struct kp_error *error);
    int (*network_get)(void *state, const char *cluster_uid, struct kp_arena *arena, struct cloud_network *ret,
                       struct kp_error *error);
    int (*network_delete)(void *state, const char *cluster_uid, struct kp_error *error);
    int (*address_reserve)(void *state, const char *cluster_uid, const char *name, struct kp_arena *arena,
                           const char **ret_address, struct kp_error *error);
    int (*address_release)(void *state, const char *cluster_uid, const char *name, struct kp_error *error);
    int (*machine_create)(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                          struct cloud_machine *ret, struct kp_error *error);
    /* NULL: machines of this cloud cannot be given another image */
    int (*machine_reimage)(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                           struct cloud_machine *ret, struct kp_error *error);
    int (*machine_get)(void *state, const char *cluster_uid, const char *name, struct kp_arena *arena,
                       struct cloud_machine *ret, struct kp_error *error);
    int (*machine_list)(void *state, const char *cluster_uid, struct kp_arena *arena, struct cloud_machine_list *ret,
                        struct kp_error *error);
    int (*machine_power)(void *state, const char *cluster_uid, const char *name, enum cloud_power_action action,
                         struct kp_error *error);
    int (*machine_delete)(void *state, const char *cluster_uid, const char *name, struct kp_error *error);
    int (*machine_console)(void *state, const char *cluster_uid, const char *name, struct kp_buf *out,
                           struct kp_error *error);
    int (*machine_exec)(void *state, const char *cluster_uid, const char *name, const struct cloud_exec *exec,
                        int *ret_status, struct kp_error *error);
    int (*owned)(void *state, const char *cluster_uid, struct kp_arena *arena, struct kp_strings *ret,
                 struct kp_error *error);
    int (*clusters)(void *state, struct kp_strings *ret_uids, struct kp_error *error);
    int (*purge)(void *state, const char *cluster_uid, struct kp_error *error);
    /* NULL: the cloud keeps no copies of node images */
    int (*images_prune)(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);
};

/* name: "local", "libvirt" or "external". KP_EINVALID with the list of drivers when there is none of that name. */
int cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
    KP_NODISCARD;
/* As cloud_open, of a driver that is not built in: tests bring theirs. Borrows driver for good. */
int cloud_open_driver(const struct cloud_driver *driver, const struct cloud_options *options, struct cloud **ret_cloud,
                      struct kp_error *error) KP_NODISCARD;
void cloud_close(struct cloud *cloud); /* accepts NULL */
KP_DEFINE_AUTO(struct cloud *, cloud_close)
const char *cloud_name(const struct cloud *cloud);
bool cloud_can(const struct cloud *cloud, enum cloud_capability capability);
/* NULL-terminated names of every driver built in. */
const char *const *cloud_driver_names(void);

/* Whether a new cluster could be made: makes nothing. The error tells what stands in its way and what to do. */
int cloud_check(struct cloud *cloud, const struct cloud_wish *wish, struct kp_error *error) KP_NODISCARD;
int cloud_network_ensure(struct cloud *cloud, const struct cloud_network_spec *spec, struct kp_arena *arena,
                         struct cloud_network *ret, struct kp_error *error) KP_NODISCARD;
int cloud_network_get(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error) KP_NODISCARD;
/* KP_ECONFLICT while machines are in it. */
int cloud_network_delete(struct cloud *cloud, const char *cluster_uid, struct kp_error *error) KP_NODISCARD;
/* An address of the cluster's network, kept for the machine of that name over power cycles. */
int cloud_address_reserve(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                          const char **ret_address, struct kp_error *error) KP_NODISCARD;
int cloud_address_release(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
    KP_NODISCARD;
/* Makes and starts a machine. One of that name that exists already is given back as it is (power unchanged). */
int cloud_machine_create(struct cloud *cloud, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                         struct cloud_machine *ret, struct kp_error *error) KP_NODISCARD;
/* Turns a machine off in an orderly way, gives it the image and the user data of spec, whose other fields but the names do not
   count, and turns it on. Its name, address, type and data stay: what pods and services wrote below /var (etcd's and the
   kubelet's folders), /home, /mnt, /opt, /root, /srv. An interrupted one leaves either the old image with the old user data or
   the new with the new, and the same call again finishes it. KP_ENOTFOUND: no such machine; KP_ENOTSUPPORTED. */
int cloud_machine_reimage(struct cloud *cloud, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                          struct cloud_machine *ret, struct kp_error *error) KP_NODISCARD;
int cloud_machine_get(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                      struct cloud_machine *ret, struct kp_error *error) KP_NODISCARD;
/* In order of name. A cluster that the cloud has never heard of has no machines. */
int cloud_machine_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena,
                       struct cloud_machine_list *ret, struct kp_error *error) KP_NODISCARD;
/* Returns when the machine has reached the power state; one that is there already is fine. STOP falls back to KILL
   after the driver's bound (local: 20 s). */
int cloud_machine_power(struct cloud *cloud, const char *cluster_uid, const char *name, enum cloud_power_action action,
                        struct kp_error *error) KP_NODISCARD;
int cloud_machine_delete(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
    KP_NODISCARD;
int cloud_machine_console(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_buf *out,
                          struct kp_error *error) KP_NODISCARD;
/* Blocks until the command ends; *ret_status as kp_run's. KP_EUNAVAILABLE when the machine is off. */
int cloud_machine_exec(struct cloud *cloud, const char *cluster_uid, const char *name, const struct cloud_exec *exec,
                       int *ret_status, struct kp_error *error) KP_NODISCARD;
/* One line for everything that carries the tag ("machine w1", "link kp0a1b2c3d", "cgroup ..."), also what half-made
   machines left: empty when nothing is left. */
int cloud_owned(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct kp_strings *ret,
                struct kp_error *error) KP_NODISCARD;
/* The uids of all clusters that own anything here. */
int cloud_clusters(struct cloud *cloud, struct kp_strings *ret_uids, struct kp_error *error) KP_NODISCARD;
/* Deletes everything that carries the tag, machines first, and fails naming what would not go. */
int cloud_purge(struct cloud *cloud, const char *cluster_uid, struct kp_error *error) KP_NODISCARD;
/* Removes the cloud's own copies of node images that no machine of anybody's has and that are not in `keep` (ids, NULL-terminated);
   adds what went to *ret_removed. They come again by themselves when a machine is made of them. */
int cloud_images_prune(struct cloud *cloud, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
    KP_NODISCARD;

#endif
