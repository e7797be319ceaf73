/* provisioner/etcd: kprov as a client of a cluster's etcd, over mutual TLS with a certificate issued for the purpose.
 *
 * A call for the cluster as a whole tries its endpoints in order until one answers; a call for one member goes to that
 * endpoint alone. Every call has a deadline, and every error names the endpoints it speaks of. The calls that change
 * members are idempotent: what is so already is a success, also when an answer was lost on the way. */
#ifndef KPROV_ETCD_H
#define KPROV_ETCD_H

#include "base/base.h"
#include "provisioner/bootstrap/bootstrap.h"

#define ETCD_CLIENT_PORT 2379
#define ETCD_PEER_PORT 2380
#define ETCD_CLIENT_ENDPOINTS_MAX 16
#define ETCD_CLIENT_MEMBERS_MAX 32
#define ETCD_CLIENT_CONNECT_MS 2000
#define ETCD_CLIENT_CONNECT_THROUGH_MS 8000 /* through the API server: it, a kubelet and containerd have a part in it */
#define ETCD_CLIENT_CALL_MS 10000       /* of calls that change something: etcd's own bound is 7 s and less */
#define ETCD_CLIENT_STATUS_MS 3000      /* of calls that ask one member how it is */
#define ETCD_CLIENT_SNAPSHOT_IDLE_MS 30000 /* a snapshot that sends nothing for so long has failed */

struct etcd_client; /* thread-safe */
/* addresses: of control-plane machines ("10.89.0.10"), or whole URLs, at most ETCD_CLIENT_ENDPOINTS_MAX; copied. Connects
   with the first call. */
int etcd_client_open(const struct pki *pki, const char *const *addresses, size_t count, struct etcd_client **ret_client,
                     struct kp_error *error) KP_NODISCARD;
struct etcd_client_credentials {
    const char *ca_pem, *cert_pem, *key_pem;
};
/* The same, with a certificate that exists. */
int etcd_client_open_with(const struct etcd_client_credentials *credentials, const char *const *addresses, size_t count,
                          struct etcd_client **ret_client, struct kp_error *error) KP_NODISCARD;
struct client_config;
/* The same for whom etcd's port is closed to, as a cloud's groups have it: the cluster's API server carries each connection, as it does for
   kubectl port-forward. nodes: the names of the nodes at the addresses, copied. Who answers proves itself by its own certificate all the same. */
int etcd_client_open_through(const struct pki *pki, const struct client_config *api, const char *const *nodes, const char *const *addresses,
                             size_t count, struct etcd_client **ret_client, struct kp_error *error) KP_NODISCARD;
void etcd_client_close(struct etcd_client *client); /* accepts NULL */
KP_DEFINE_AUTO(struct etcd_client *, etcd_client_close)
size_t etcd_client_endpoints(const struct etcd_client *client);
const char *etcd_client_endpoint(const struct etcd_client *client, size_t i); /* "https://10.89.0.10:2379", borrowed */

/* ---- members. Everything returned lives in the arena. */
struct etcd_member {
    uint64_t id;
    const char *name;       /* "" until it has been started for the first time */
    const char *peer_url;   /* the first one */
    const char *client_url; /* the first one, "" until it has been started */
    bool learner;
};
struct etcd_member_list {
    struct etcd_member *items;
    size_t len;
};
/* Confirmed by a quorum. */
int etcd_client_members(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_list *ret,
                        struct kp_error *error) KP_NODISCARD;
/* As one member knows them, of those that agree if any do: also without a quorum, and then perhaps not the newest. */
int etcd_client_members_seen(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_list *ret, struct kp_error *error)
    KP_NODISCARD;
/* Adds a learner that will be at the peer URL, unless a member with it is there already: *ret_member is either. */
int etcd_client_member_add(struct etcd_client *client, const char *peer_url, struct kp_arena *arena,
                           struct etcd_member *ret_member, struct kp_error *error) KP_NODISCARD;
/* KP_ECONFLICT while the learner is behind the leader or a voter is not there: to be tried again. */
int etcd_client_member_promote(struct etcd_client *client, uint64_t id, struct kp_error *error) KP_NODISCARD;
int etcd_client_member_remove(struct etcd_client *client, uint64_t id, struct kp_error *error) KP_NODISCARD;
/* Makes `id` the leader. One that leads already is fine. */
int etcd_client_move_leader(struct etcd_client *client, uint64_t id, struct kp_error *error) KP_NODISCARD;
/* Takes one key away; one that is not there is fine. */
int etcd_client_delete(struct etcd_client *client, const char *key, struct kp_error *error) KP_NODISCARD;

/* ---- how they are */
struct etcd_member_status {
    const char *endpoint;
    int code;              /* 0: it answered; otherwise why not (enum kp_code), told by `problem` */
    const char *problem;   /* "" when all is well; also what a member that answers complains of (no leader, alarms) */
    uint64_t id, leader;   /* leader 0: it knows of none */
    uint64_t raft_term, raft_index, raft_applied_index;
    int64_t db_size, db_size_in_use, db_size_quota; /* bytes */
    const char *version;
    bool learner;
    bool apart; /* it follows another leader than most: it has begun a cluster of its own, or is cut off */
};
/* A member is healthy when it answers, follows the leader that most follow, and has no alarm. */
bool etcd_member_is_healthy(const struct etcd_member_status *status);
/* One for each endpoint, in their order, asked all at once; never fails as a whole. *ret has etcd_client_endpoints items. */
void etcd_client_status(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_status **ret);

/* ---- snapshot */
struct etcd_snapshot {
    const char *endpoint; /* it came from here; borrowed from the client */
    int64_t bytes;        /* written, with the 32 bytes of SHA-256 at the end, as `etcdctl snapshot save` has it */
};
/* Streams the whole database of one member, a voter that is healthy, to the descriptor, and compares it with the checksum
   that ends it (KP_ECORRUPT). What was written before a failure is for the caller to throw away. */
int etcd_client_snapshot(struct etcd_client *client, int fd, struct etcd_snapshot *ret, struct kp_error *error) KP_NODISCARD;

#endif
