/* provisioner/bootstrap: what makes a blank machine a node - certificates, kubeconfigs, static pods, add-ons. */
#ifndef KPROV_BOOTSTRAP_H
#define KPROV_BOOTSTRAP_H

#include "base/base.h"
#include "codec/codec.h"
#include "provisioner/config/config.h"
#include "tls/tls.h"

#define BOOTSTRAP_REGISTRY "registry.kprov.dev"
/* An annotation of the node's own pods: containerd runs those with one value under one shim process instead of one a pod (containerd's
   runtime v2, "shim grouping"; nodeimage/image/config.toml lets it through), which saves a process of some 14 MB, shared pages with it, and its wake-ups for each. */
#define BOOTSTRAP_SHIM_GROUP "io.containerd.runc.v2.group: kprov"
#define BOOTSTRAP_NODE_TAG "node" /* of images that every node image has, of its own version: while a cluster is upgraded there are two */
#define BOOTSTRAP_API_PORT 6443
#define BOOTSTRAP_CA_LIFETIME_S (10LL * 365 * 86400) /* as kubeadm */
#define BOOTSTRAP_LEAF_LIFETIME_S (365LL * 86400)
#define BOOTSTRAP_SANS_MAX 16
/* Where Kubernetes' documentation has them; of a cluster with spec.audit. */
#define BOOTSTRAP_AUDIT_POLICY "/etc/kubernetes/audit-policy.yaml"
#define BOOTSTRAP_AUDIT_DIR "/var/log/kubernetes/audit"
#define BOOTSTRAP_AUDIT_LOG BOOTSTRAP_AUDIT_DIR "/audit.log"

/* ---- pki.c: a cluster's authorities */
struct pki_ca {
    struct tls_key *key; /* signs */
    struct tls_cert *cert;
    /* While the authority is rotated: the one to come until it signs, then the one that was. Trusted beside it. NULL otherwise. */
    struct tls_key *other_key;
    struct tls_cert *other_cert;
};
enum pki_authority { PKI_CLUSTER, PKI_ETCD, PKI_FRONT_PROXY, PKI_SERVICE_ACCOUNTS, PKI_AUTHORITIES };
/* steady -> trust (the new one is trusted beside the old) -> reissue (it signs, the old is trusted still) -> drop (the old is not trusted) -> steady */
enum pki_phase { PKI_STEADY, PKI_TRUST, PKI_REISSUE, PKI_DROP };
struct pki {
    struct pki_ca ca, etcd_ca, front_proxy_ca;
    struct tls_key *service_accounts, *other_service_accounts; /* as with an authority */
    enum pki_authority rotating; /* of one authority at a time */
    enum pki_phase phase;
    struct kp_strings done; /* the machines that have been brought to the phase */
};
const char *pki_authority_name(enum pki_authority authority); /* "cluster", "etcd", "front-proxy", "service-accounts" */
int pki_authority_parse(const char *name, enum pki_authority *ret, struct kp_error *error) KP_NODISCARD;
const char *pki_phase_name(enum pki_phase phase);
/* pki_rotate.c: from steady to trust: makes what comes. KP_ECONFLICT while a rotation is under way. */
int pki_rotate_begin(struct pki *pki, enum pki_authority authority, struct kp_error *error) KP_NODISCARD;
void pki_rotate_next(struct pki *pki); /* to the phase that follows, with no machine done */
bool pki_rotate_is_done(const struct pki *pki, const char *machine);
void pki_rotate_set_done(struct pki *pki, const char *machine);
/* The certificates of an authority that are trusted, as PEM, the one that signs first. Appends. */
void pki_trust(const struct pki_ca *ca, struct kp_buf *out);
/* A self-signed authority of that name. */
int pki_make_authority(enum pki_authority authority, struct tls_key **ret_key, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;
struct pki_ca *pki_authority(const struct pki *pki, enum pki_authority authority); /* not of PKI_SERVICE_ACCOUNTS */
int pki_create(struct pki **ret_pki, struct kp_error *error) KP_NODISCARD;
void pki_free(struct pki *pki); /* accepts NULL */
KP_DEFINE_AUTO(struct pki *, pki_free)
/* To and from the text kept in the cluster's state. */
int pki_print(const struct pki *pki, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
int pki_parse(const char *text, size_t len, struct pki **ret_pki, struct kp_error *error) KP_NODISCARD;

/* One leaf certificate with its key, as PEM texts in the arena. Lists end with NULL; organization and SANs may be NULL. */
struct pki_leaf {
    const char *common_name, *organization;
    unsigned usages; /* TLS_USAGE_SERVER, TLS_USAGE_CLIENT */
    const char *const *dns_names;
    const char *const *ip_addresses;
};
int pki_issue(const struct pki_ca *ca, const struct pki_leaf *leaf, struct kp_arena *arena, const char **ret_cert_pem,
              const char **ret_key_pem, struct kp_error *error) KP_NODISCARD;

/* ---- kubeconfig.c */
/* A kubeconfig of one context, as text in the arena, with a client certificate issued for it. */
int kubeconfig_make(const struct pki *pki, const char *cluster, const char *server, const char *user,
                    const char *common_name, const char *organization, struct kp_arena *arena, const char **ret_text,
                    struct kp_error *error) KP_NODISCARD;
/* Puts the one context of `text` into the kubeconfig at path under the name given, keeps everything else that is there
   and makes it the current context. Follows kubectl's lock file. */
int kubeconfig_merge(const char *path, const char *name, const char *text, struct kp_error *error) KP_NODISCARD;
/* Takes context, cluster and user of that name out again; a file without them stays untouched. */
int kubeconfig_unmerge(const char *path, const char *name, struct kp_error *error) KP_NODISCARD;

/* ---- node.c */
struct bootstrap_node {
    const char *name, *address, *gateway;
    const char *nameservers; /* addresses separated by spaces, "" or NULL: none but perhaps the gateway */
    int prefix_len;
    bool control_plane;
    const struct config_pool *pool; /* NULL for a control plane */
    const char *provider_id;          /* "": the cloud-controller-manager finds out */
    bool dhcp;                        /* the cloud gives address, gateway and name servers, and MTU: the config says none */
};
/* What the cloud-controller-manager asks, and with what. */
struct bootstrap_cloud {
    const char *driver;               /* "openstack" */
    bool routes;                      /* it makes routes to pods */
    struct kp_string_map files;       /* of the Secret that it mounts: BOOTSTRAP_CLOUD_CONFIG, and what that names */
};
#define BOOTSTRAP_CLOUD_DIR "/etc/kubernetes/cloud"
#define BOOTSTRAP_CLOUD_CONFIG "cloud.conf"
#define BOOTSTRAP_CLOUD_SECRET "cloud-config"
/* A snapshot that the control planes begin their etcd with, each at the one boot that finds it not done yet. */
struct bootstrap_restore {
    const char *id;            /* of this restore: a file name; the same id is done once */
    const char *token;         /* of the new logical cluster */
    int64_t bump_revision;     /* added to the newest revision, and everything before it marked compacted; 0: not */
    const struct kp_blob *gz;  /* the snapshot, compressed; NULL: it is brought to BOOTSTRAP_RESTORE_DIR/<id>.db.gz and waited for */
};
#define BOOTSTRAP_SNAPSHOTS_CONFIG "/etc/kubernetes/etcd-snapshots.json" /* of kprov-snapshots (provisioner/keeper) */
/* Its text: how often, how many, where to; in the arena. */
const char *bootstrap_snapshots_config(const struct config *config, struct kp_arena *arena);
#define BOOTSTRAP_RESTORE_DIR "/var/lib/kprov/restore"
#define BOOTSTRAP_RESTORE_INLINE_MAX ((size_t)2500 << 10) /* of gz: base64 and the rest have to fit into CLOUD_USER_DATA_MAX */
struct remote_keys;
struct bootstrap_cluster {
    const struct config *config;
    const struct pki *pki;
    const char *endpoint;    /* "https://10.89.0.10:6443" */
    const char *api_address; /* the endpoint's address: held by one control plane at a time (nodeimage/vip); "" when it is a load balancer's */
    const char *const *api_names; /* other addresses and host names that clients know the API by; ends with NULL, or NULL */
    const struct bootstrap_cloud *cloud; /* NULL: none that nodes could ask */
    const char *machine_cidr; /* of the machines' network; NULL or "": none of our own */
    const char *uid;
    const struct remote_keys *ssh; /* NULL: the machines run no sshd of ours */
    const struct bootstrap_node *nodes; /* all of them */
    size_t n_nodes;
    /* Of an etcd that is at work: "demo-cp-1=https://10.89.0.10:2380,..." of all its members, the new one too. NULL: etcd begins with
       all the control planes of `nodes`. A member that has data looks at neither again, so old machines need no change. */
    const char *etcd_members;
    const struct bootstrap_restore *restore; /* NULL: none */
    /* Static pod -> what changes with the files that it reads only when it starts: with its manifest the kubelet makes it anew. NULL: none.
       bootstrap_user_data sets it. */
    const struct kp_string_map *pod_stamps;
};
/* restore.c: the command that a control plane runs once, as the words of its shell, in the arena; ends with NULL. */
const char *const *bootstrap_restore_command(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                                             struct kp_arena *arena);
/* The machine's user data: the JSON document that nodeimage/init reads. Appends. */
int bootstrap_user_data(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node, struct kp_buf *out,
                        struct kp_error *error) KP_NODISCARD;

/* ---- static_pods.c */
#define BOOTSTRAP_ARGS_MAX 96
/* Flags in order; a later one of the same name replaces the value. */
struct bootstrap_args {
    const char *names[BOOTSTRAP_ARGS_MAX];
    const char *values[BOOTSTRAP_ARGS_MAX];
    size_t len;
};
void bootstrap_args_set(struct bootstrap_args *args, const char *name, const char *value); /* borrows */
/* The cluster file's flags for a component on top. */
void bootstrap_args_override(struct bootstrap_args *args, const struct config *config, const char *component);
#define BOOTSTRAP_STATIC_PODS 5
struct bootstrap_static_pod {
    const char *name; /* "etcd" */
    const char *manifest; /* YAML, in the arena; NULL: the cluster has none */
};
void bootstrap_static_pods(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                           struct kp_arena *arena, struct bootstrap_static_pod ret[BOOTSTRAP_STATIC_PODS]);

/* ---- addons.c: what is applied through the API once it answers */
/* A stream of YAML documents, in the arena. */
/* Of LoadBalancer Services, in the arena: what the cluster file says, else the machine network's hosts from 201 to 250 when a driver of
   ours numbers the machines, which end at 200; "": none. */
const char *bootstrap_balancer_addresses(const struct bootstrap_cluster *cluster, struct kp_arena *arena);
const char *bootstrap_addons(const struct bootstrap_cluster *cluster, struct kp_arena *arena);

#endif
