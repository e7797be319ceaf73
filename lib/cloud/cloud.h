/* lib/cloud: the one driver interface to whatever machines come from; used by kprov and by the cloud-controller-manager.
 *
 * Every resource carries its cluster's uid as a tag, and ownership is read from that tag alone, never from a name.
 * KP_ENOTFOUND is the cloud's authoritative answer that something does not exist; a call that could not be made or was
 * refused fails with another code, so that a caller may act on NOT_FOUND. Everything that ensures or deletes is
 * idempotent: making what exists gives what exists, deleting what is gone succeeds.
 *
 * Besides KP_ENOTFOUND, callers act on KP_EAGAIN (the cloud is at work, ask again), KP_ECONFLICT, KP_EINVALID, KP_EUNAUTHORIZED and
 * KP_EFORBIDDEN, KP_EQUOTA, KP_ETOOMANY (kp_error's retry_after_ms tells how long to wait), KP_EUNAVAILABLE and KP_ETIMEOUT (try again later).
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
#define CLOUD_LISTENERS_MAX 64       /* of one load balancer */
#define CLOUD_SOURCE_RANGES_MAX 64

/* What a driver can do beyond machines and networks. */
enum cloud_capability {
    CLOUD_CAN_EXEC = 1 << 0,           /* cloud_machine_exec */
    CLOUD_CAN_CONSOLE = 1 << 1,        /* cloud_machine_console */
    CLOUD_CAN_LOAD_BALANCE = 1 << 2,   /* cloud_balancer_* */
    CLOUD_CAN_ROUTE = 1 << 3,          /* cloud_route_*: the cloud's network knows the way to pods */
    CLOUD_CAN_LOCAL_IMAGES = 1 << 4,   /* machines run straight from a folder of /var/lib/kprov/images */
    CLOUD_CAN_CHANGE_LATER = 1 << 5,   /* cloud_machine_reimage with at_next_boot */
    CLOUD_HAS_METADATA = 1 << 6,       /* machines ask the cloud for their user data: it is handed over gzip-compressed */
    CLOUD_HAS_PUBLIC_ADDRESSES = 1 << 7, /* cloud_address_publish gives another address than the reserved one */
    CLOUD_BOOTS_DISKS = 1 << 9,        /* machines boot from a disk that boots by itself: cloud_image_ensure says KP_ENOTFOUND when neither the cloud nor
                                          image_dir has it (<image>/disk/disk.raw) */
    CLOUD_HAS_NODE_FACTS = 1 << 8,     /* can be asked from inside the cluster: the cloud-controller-manager labels nodes by it */
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
    const char *existing;  /* name or id of a network of the cloud that is there, with a subnet; NULL or "": one of the cluster's own */
    const char *external;  /* name or id of the network that public addresses come from; NULL or "": the only one there is */
    const char *zones;     /* that machines are spread over, separated by spaces; NULL or "": the cloud's choice */
    const char *pod_cidr;  /* machines forward packets of these networks, see cloud_machine_forward; NULL or "": none */
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
    const char *const *machine_types; /* of each of them, "" the driver's default; NULL: all of the default */
    size_t n_machines;
    const char *existing, *external, *zones; /* as in cloud_network_spec */
    size_t n_balancers; /* load balancers that kprov itself will ask for */
};

/* A size of machine that the cloud sells. */
struct cloud_machine_type {
    const char *name;
    int vcpus;
    int64_t memory_mib, disk_gib; /* disk_gib 0: not said */
};
struct cloud_machine_type_list {
    struct cloud_machine_type *items;
    size_t len;
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
    const char *public_address; /* NULL or "": none */
    enum cloud_power power;
    int64_t created_s; /* since 1970 */
};
struct cloud_machine_list {
    struct cloud_machine *items;
    size_t len;
};

/* ---- load balancers: one answers at one address, with a listener a port */
enum cloud_protocol { CLOUD_TCP, CLOUD_UDP };
enum cloud_algorithm { CLOUD_ROUND_ROBIN, CLOUD_LEAST_CONNECTIONS, CLOUD_SOURCE_IP };
enum cloud_health_kind { CLOUD_HEALTH_CONNECT /* TCP; of a UDP listener the cloud's own way */, CLOUD_HEALTH_HTTP };
struct cloud_listener {
    enum cloud_protocol protocol;
    int port;        /* 1 to 65535, unique for its protocol */
    int target_port; /* on every target: a node port */
};
struct cloud_health_check {
    enum cloud_health_kind kind;
    int port;         /* 0: the listener's target port */
    const char *path; /* of HTTP: "/healthz", 200 is healthy */
    int interval_s, timeout_s, healthy, unhealthy; /* 0: the driver's default; the last two are counts */
};
struct cloud_target {
    const char *machine; /* its name */
    const char *address;
};
struct cloud_balancer_spec {
    const char *cluster_uid;
    const char *name;        /* a DNS label, unique in the cluster: "api", "svc-<uid>" */
    const char *description; /* for people: "default/web" */
    const struct cloud_listener *listeners;
    size_t n_listeners;      /* 1 to CLOUD_LISTENERS_MAX */
    const struct cloud_target *targets;
    size_t n_targets;        /* at most CLOUD_MACHINES_MAX */
    enum cloud_algorithm algorithm;
    struct cloud_health_check health;
    const char *const *source_ranges; /* IPv4 CIDRs that may connect */
    size_t n_source_ranges;  /* 0: everybody may */
    bool internal;           /* not reachable from outside the cluster's network */
    bool proxy_protocol;     /* PROXY protocol towards the targets */
    bool sticky;             /* a client's address goes to the same target */
    const char *address;     /* wanted; NULL or "": any */
};
enum cloud_balancer_state { CLOUD_BALANCER_PENDING, CLOUD_BALANCER_ACTIVE, CLOUD_BALANCER_FAILED };
struct cloud_balancer {
    const char *id, *name, *cluster_uid;
    const char *address;   /* that clients use, or "" while there is none or it is a name */
    const char *host_name; /* "lb-1.eu-west-1.elb.example.com", or "" */
    enum cloud_balancer_state state;
    const char *problem;   /* of CLOUD_BALANCER_FAILED, "" else */
};
struct cloud_balancer_list {
    struct cloud_balancer *items;
    size_t len;
};
struct cloud_target_health {
    const char *machine, *address;
    int port;
    bool known, healthy; /* known false: the cloud has not looked yet or does not tell */
};
struct cloud_target_health_list {
    struct cloud_target_health *items;
    size_t len;
};

/* ---- routes: packets to destination go to the machine */
struct cloud_route {
    const char *destination; /* "10.244.1.0/24" */
    const char *machine;     /* its name; "" when the cloud's entry leads to no machine of the cluster (any more) */
};
struct cloud_route_list {
    struct cloud_route *items;
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

/* Who asks a cloud with an API, and where. Secrets are never part of it: they come from the environment and the files that the cloud's
   own tools read, or from the file given here. */
struct cloud_account {
    const char *profile;     /* clouds.yaml's cloud, AWS's profile; NULL or "": what the environment says */
    const char *region;      /* NULL or "": what the environment or the profile says */
    const char *endpoint;    /* of the API, instead of the cloud's own: for tests and private clouds; NULL or "": none */
    const char *credentials; /* a file in the form of the cloud's own tools (clouds.yaml, AWS credentials, a token); NULL or "": its usual places */
    const char *role;        /* AWS's instance profile: control planes get their keys by it; NULL or "": by the account's own keys */
};

/* The same account for somebody who has neither this environment nor these files. */
struct cloud_export {
    struct cloud_account account; /* what profile, region and endpoint turned out to be; credentials is NULL */
    const char *credentials;      /* the text of a file for account.credentials, of this account alone: a secret */
    const char *authorities;      /* the text of a file CLOUD_EXPORT_AUTHORITIES beside that one, which names it: who signed the endpoints'
                                     certificates, in PEM; NULL: whom the system trusts */
};
#define CLOUD_EXPORT_AUTHORITIES "ca.crt"

struct cloud_options {
    struct cloud_account account;
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
    /* ---- from here on NULL means that the cloud has no such thing, and what cloud.h says then */
    int (*machine_types)(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error);
    int (*image_ensure)(void *state, const char *image, struct kp_error *error);
    int (*address_publish)(void *state, const char *cluster_uid, const char *name, struct kp_arena *arena, const char **ret_address,
                           struct kp_error *error);
    int (*machine_forward)(void *state, const char *cluster_uid, const char *name, const char *const *cidrs, struct kp_error *error);
    int (*balancer_ensure)(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret,
                           struct kp_error *error);
    int (*balancer_get)(void *state, const char *cluster_uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret,
                        struct kp_error *error);
    int (*balancer_health)(void *state, const char *cluster_uid, const char *name, struct kp_arena *arena,
                           struct cloud_target_health_list *ret, struct kp_error *error);
    int (*balancer_list)(void *state, const char *cluster_uid, struct kp_arena *arena, struct cloud_balancer_list *ret,
                         struct kp_error *error);
    int (*balancer_delete)(void *state, const char *cluster_uid, const char *name, struct kp_error *error);
    int (*route_list)(void *state, const char *cluster_uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error);
    int (*route_ensure)(void *state, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error);
    int (*route_delete)(void *state, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error);
    /* the cloud keeps no copies of node images */
    int (*images_prune)(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);
    int (*account_export)(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error);
};

/* name: one of cloud_driver_names(). KP_EINVALID with the list of drivers when there is none of that name. */
int cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
    KP_NODISCARD;
/* As cloud_open, of the n drivers alone: a program that is linked with few of them. */
int cloud_open_of(const struct cloud_driver *const *drivers, size_t n, const char *name, const struct cloud_options *options, struct cloud **ret_cloud,
                  struct kp_error *error) KP_NODISCARD;
/* As cloud_open, of a driver that is not built in: tests bring theirs. Borrows driver for good. */
int cloud_open_driver(const struct cloud_driver *driver, const struct cloud_options *options, struct cloud **ret_cloud,
                      struct kp_error *error) KP_NODISCARD;
void cloud_close(struct cloud *cloud); /* accepts NULL */
KP_DEFINE_AUTO(struct cloud *, cloud_close)
const char *cloud_name(const struct cloud *cloud);
bool cloud_can(const struct cloud *cloud, enum cloud_capability capability);
/* NULL-terminated names of every driver built in. */
const char *const *cloud_driver_names(void);

/* What the cloud-controller-manager is given. In the arena. KP_ENOTSUPPORTED: the driver can be asked from here alone. */
int cloud_account_export(struct cloud *cloud, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error) KP_NODISCARD;

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

/* Which of n zones, in the order given, the machine of that name is made in: by the number at the name's end, so that "w-1", "w-2" and "w-3" are in
   three of three, whatever else exists; by a hash when it has none. 0 when there are no zones. For drivers. */
size_t cloud_zone_of(const char *name, size_t n_zones);

/* In order of vCPUs, memory, name. KP_ENOTSUPPORTED where machines have any size. */
int cloud_machine_types(struct cloud *cloud, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
    KP_NODISCARD;
/* Makes sure that the cloud has the node image (an id of cloud_options' image_dir), uploading it when it has not: found by its digest, shared by
   all clusters of the account. Nothing where machines run straight from the image. */
int cloud_image_ensure(struct cloud *cloud, const char *image, struct kp_error *error) KP_NODISCARD;
/* The address at which the machine or balancer behind the reserved address of that name is reached from outside the cluster's network: made
   (a floating or elastic address) when there is none. Without CLOUD_HAS_PUBLIC_ADDRESSES the reserved one itself. Released with it. Machines may
   tell it some seconds later (OpenStack's do). */
int cloud_address_publish(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena, const char **ret_address,
                          struct kp_error *error) KP_NODISCARD;
/* Lets the machine send and receive packets whose address is not its own but of one of these networks (IPv4 CIDRs, NULL-terminated): no check of
   source and destination, allowed address pairs. The whole list replaces what was allowed. Nothing where the cloud does not look. */
int cloud_machine_forward(struct cloud *cloud, const char *cluster_uid, const char *name, const char *const *cidrs, struct kp_error *error)
    KP_NODISCARD;

/* Makes the balancer, or what is different about it, as spec says: listeners, targets, health check, ranges and all else are compared with what
   the cloud has, in full and each time, so that damage done by others is mended too. KP_EAGAIN: the cloud is still at work and *ret tells how far
   it is; call again. KP_EINVALID: the cloud cannot do it so (UDP, PROXY protocol, a wanted address that is taken). KP_ENOTSUPPORTED without
   CLOUD_CAN_LOAD_BALANCE, as all below. */
int cloud_balancer_ensure(struct cloud *cloud, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret,
                          struct kp_error *error) KP_NODISCARD;
int cloud_balancer_get(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret,
                       struct kp_error *error) KP_NODISCARD;
/* What the cloud's health checks say of each target and listener. */
int cloud_balancer_health(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                          struct cloud_target_health_list *ret, struct kp_error *error) KP_NODISCARD;
/* In order of name. */
int cloud_balancer_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_balancer_list *ret,
                        struct kp_error *error) KP_NODISCARD;
/* With everything that hangs on it (listeners, pools, groups, public address). KP_EAGAIN: it is going; call again until 0. */
int cloud_balancer_delete(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error) KP_NODISCARD;

/* All routes of the cluster's network that kprov made. KP_ENOTSUPPORTED without CLOUD_CAN_ROUTE, as the next two. */
int cloud_route_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_route_list *ret,
                     struct kp_error *error) KP_NODISCARD;
/* One to the same destination that leads elsewhere is replaced. KP_ENOTFOUND: no such machine. */
int cloud_route_ensure(struct cloud *cloud, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error) KP_NODISCARD;
/* By destination. */
int cloud_route_delete(struct cloud *cloud, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error) KP_NODISCARD;

#endif
