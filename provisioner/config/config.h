/* provisioner/config: the cluster file (kprov.dev/v1alpha1 Cluster): read, defaulted, checked, written back. */
#ifndef KPROV_CONFIG_H
#define KPROV_CONFIG_H

#include "base/base.h"
#include "codec/codec.h"

#define CONFIG_API_VERSION "kprov.dev/v1alpha1"
#define CONFIG_FILE_MAX ((size_t)1 << 20)
#define CONFIG_NAME_MAX 32 /* bytes: leaves room for "-<pool>-<number>" in a host name */
#define CONFIG_POOLS_MAX 32
#define CONFIG_REPLICAS_MAX 100 /* of one pool */
#define CONFIG_CONTROL_PLANES_MAX 7 /* as etcd's documentation advises */
#define CONFIG_TAINTS_MAX 16
#define CONFIG_ARGS_MAX 64 /* of one component */
#define CONFIG_EXTERNAL_MAX 500 /* machines */
#define CONFIG_SNAPSHOT_DIR "/var/lib/etcd-snapshots"
#define CONFIG_SNAPSHOT_DIR_MAX 200
#define CONFIG_SNAPSHOT_EVERY_MIN_S 5
#define CONFIG_SNAPSHOT_EVERY_MAX_S (366 * 86400)
#define CONFIG_SNAPSHOT_KEEP_MAX 100 /* as CONFIG_REPLICAS_MAX: the reader of counts has one bound */
#define CONFIG_ZONES_MAX 16
#define CONFIG_TIME_SERVERS_MAX 8
#define CONFIG_AUDIT_POLICY_MAX 65536 /* bytes, as JSON: it is part of a machine's user data */

struct config_taint {
    const char *key, *value, *effect;
};
struct config_pool {
    const char *name, *machine;
    int64_t replicas;
    struct kp_string_map labels;
    struct config_taint taints[CONFIG_TAINTS_MAX];
    size_t n_taints;
};
struct config_external_machine { /* one that exists already */
    const char *address, *user, *key_file, *host_key, *known_hosts, *role, *pool;
    int64_t port;
};
/* Who asks a cloud with an API, where, and for what: spec.openstack, spec.aws or spec.hetzner. "" is the cloud's own choice. */
struct config_cloud {
    const char *section;      /* of the file: "openstack"; "" when it has none */
    const char *profile;      /* openstack.cloud (of clouds.yaml), aws.profile */
    const char *region;       /* openstack.region, aws.region, hetzner.networkZone */
    const char *endpoint;     /* of the API, instead of the cloud's own */
    const char *credentials;  /* credentialsFile */
    const char *network;      /* one that is there; "": one of the cluster's own */
    const char *external;     /* openstack.externalNetwork, that public addresses come from */
    const char *zones;        /* separated by spaces */
    const char *instance_profile; /* aws.instanceProfile */
    const char *api_endpoint; /* CONFIG_LOAD_BALANCER, CONFIG_VIRTUAL_ADDRESS; "": a load balancer where the cloud has them */
};
#define CONFIG_LOAD_BALANCER "loadBalancer"
#define CONFIG_VIRTUAL_ADDRESS "virtualAddress"
struct config_component {
    const char *name;           /* "kube-controller-manager" */
    struct kp_string_map flags; /* without dashes; of the kubelet also fields of its KubeletConfiguration */
};
/* All strings live in the arena given to the function that filled it in; none is NULL. */
struct config {
    const char *name, *provider;
    const char *kubernetes_version; /* "" in a file that does not say: see config_settle_version */
    struct {
        int64_t replicas;
        const char *machine;
    } control_plane;
    struct config_pool *pools;
    size_t n_pools;
    struct {
        const char *pod_cidr, *service_cidr, *dns_domain;
        const char *machine_cidr; /* "": the cloud chooses one that is free */
    } network;
    struct {
        const char *addresses; /* of LoadBalancer Services, as lib/vip reads them; "": bootstrap_balancer_addresses chooses */
    } load_balancer;
    struct { /* of etcd, on each control plane's own disk */
        const char *every; /* a duration; "0s": none are taken */
        int64_t keep;      /* so many are kept, older ones are removed */
        const char *dir;
    } snapshots;
    struct { /* of provider "external" */
        const char *api_address;
        struct config_external_machine *machines;
        size_t n_machines;
    } external;
    struct {
        const char *uri; /* of provider "libvirt"; "": $LIBVIRT_DEFAULT_URI, or qemu:///system */
        const char *bridge; /* "": a network of the cluster's own, behind NAT; the others are "" too then */
        const char *addresses; /* "10.0.0.100-10.0.0.150" */
        const char *gateway;
        const char *nameservers; /* separated by spaces */
    } libvirt;
    struct config_cloud cloud; /* of providers "openstack", "aws" and "hetzner" */
    const char *time_servers; /* of machines with a clock of their own, separated by spaces; "": the cloud's, or Debian's */
    const char *image;        /* id of a node image, "": the one of these programs */
    const char *audit_policy; /* a Policy of audit.k8s.io/v1 as JSON; "": the API servers log nothing */
    bool deletion_protection; /* kprov delete cluster refuses */
    struct config_component *components;
    size_t n_components;
};

/* The names that spec.componentArgs takes; NULL-terminated. */
extern const char *const config_components[];

/* A cluster of one control plane and one pool "worker" of `workers` machines. Copies name. */
void config_default(const char *name, int64_t control_planes, int64_t workers, struct kp_arena *arena,
                    struct config *ret);
/* Reads one YAML or JSON document; source names it in errors ("cluster.yaml"), which tell the line. Checks everything. */
int config_parse(const char *text, size_t len, const char *source, struct kp_arena *arena, struct config *ret,
                 struct kp_error *error) KP_NODISCARD;
int config_load(const char *path, struct kp_arena *arena, struct config *ret, struct kp_error *error) KP_NODISCARD;
/* The rules that need no line: also for what came from the command line. */
int config_validate(const struct config *config, struct kp_error *error) KP_NODISCARD;
/* The document that config_parse reads back as the same. */
struct kp_value *config_to_value(const struct config *config, struct kp_arena *arena);
/* Of spec.etcd.snapshots.every; 0: none. */
int64_t config_snapshot_every_s(const struct config *config);
/* Whether machines of that provider have a kernel of ours, whose clock nobody else keeps. */
bool config_keeps_time(const char *provider);
/* spec.timeServers as a list. */
struct kp_value *config_time_value(const struct config *config, struct kp_arena *arena);
/* The flags of a component, or NULL. */
const struct kp_string_map *config_component_flags(const struct config *config, const char *component);

/* An address range that something has already, as the host's routing table tells. */
struct config_range {
    uint32_t base; /* host order */
    int prefix;
    const char *link; /* "eth0" */
};
/* The ranges of a routing table in the format of /proc/net/route, the default route left out; at most max. */
size_t config_parse_routes(const char *routes, struct config_range *ret, size_t max, struct kp_arena *arena);
/* KP_EINVALID when a network of the cluster overlaps one of these: machines and pods could not reach what is there. */
int config_check_ranges(const struct config *config, const struct config_range *ranges, size_t count, struct kp_error *error) KP_NODISCARD;

struct config_version {
    int64_t major, minor, patch;
};
/* "v1.36.0", "v1.37.0-rc.1"; KP_EINVALID for anything else. */
int config_parse_version(const char *text, struct config_version *ret);
/* -1, 0, 1; 0 also when one is no version. */
int config_compare_versions(const char *a, const char *b);
/* Whether a cluster may be upgraded from one version to the other, by kubeadm's policy: KP_EINVALID says why not. The same is fine. */
int config_check_upgrade(const char *from, const char *to, struct kp_error *error) KP_NODISCARD;
/* A file that names no version means the one that the cluster has (existing; NULL: a new cluster), else the one of this kprov.
   KP_EINVALID when it names another: this kprov cannot install it. */
int config_settle_version(struct config *config, const char *existing, struct kp_error *error) KP_NODISCARD;

/* "10.96.0.0/12" to host order; KP_EINVALID when it is no aligned IPv4 prefix. */
int config_parse_cidr(const char *cidr, uint32_t *ret_base, int *ret_prefix);
/* The nth address of a CIDR in textual form, in the arena. */
const char *config_cidr_address(const char *cidr, uint32_t n, struct kp_arena *arena);

#endif
