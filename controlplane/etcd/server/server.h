/* controlplane/etcd/server: one member - consensus, storage and the etcd v3 API put together. */
#ifndef ETCD_SERVER_H
#define ETCD_SERVER_H

#include "base/base.h"

#define ETCD_VERSION "3.6.0" /* the API level, as clients ask for it */
#define ETCD_SNAPSHOT_COUNT_DEFAULT 10000
#define ETCD_TXN_OPS_MAX_DEFAULT 128
#define ETCD_REQUEST_BYTES_MAX_DEFAULT (INT64_C(3) << 19) /* 1.5 MiB */
#define ETCD_REQUEST_BYTES_LIMIT (INT64_C(32) << 20)
#define ETCD_URLS_MAX 16

struct etcd_world;
struct etcd_tls_files { /* each may be NULL or "" */
    const char *cert_file, *key_file, *trusted_ca_file;
    bool client_cert_auth;
    const char *client_cert_file, *client_key_file; /* peers: shown when we call */
    const char *allowed_cn, *allowed_hostname;      /* peers */
    bool self_signed;                               /* made by etcd_self_signed: not verified when we call */
    const char *cipher_suites, *version_min, *version_max; /* as the flags have them */
};
/* --auto-tls: makes a certificate for the hosts of urls in data_dir/fixtures/`which` ("client", "peer") unless one is there,
   and puts its paths (never freed) into files. Does nothing when files names a certificate already. */
int etcd_self_signed(const char *data_dir, const char *which, const char *urls, int64_t years, struct etcd_tls_files *files,
                     struct kp_error *error) KP_NODISCARD;

enum etcd_compaction_mode { ETCD_COMPACT_PERIODIC, ETCD_COMPACT_REVISION };

/* All strings are borrowed for the life of the server. URL lists are separated by commas, as etcd's flags have them. */
struct etcd_config {
    const char *name, *data_dir, *wal_dir; /* wal_dir NULL or "": below data_dir */
    const char *listen_client_urls, *advertise_client_urls;
    const char *listen_peer_urls, *initial_advertise_peer_urls;
    const char *listen_metrics_urls; /* "" or NULL: only on the client URLs */
    const char *initial_cluster, *initial_cluster_state, *initial_cluster_token;
    const char *begun_file; /* made with the first start; when it is there, another is refused: the data is lost. NULL: none */
    struct etcd_tls_files client_tls, peer_tls;
    int64_t heartbeat_ms, election_ms;
    int64_t snapshot_count;
    int64_t quota_backend_bytes; /* 0: the default */
    int64_t backend_batch_interval_ms, backend_batch_limit; /* 0: the defaults */
    enum etcd_compaction_mode compaction_mode;
    int64_t compaction_retention; /* periodic: milliseconds; revision: how many to keep; 0: off */
    int64_t txn_ops_max, request_bytes_max;
    int64_t watch_progress_interval_ms;
    const char *auth_token;   /* "simple" (also NULL) or "jwt,..." */
    int64_t auth_token_ttl_s; /* of a simple token; 0: the default */
    int64_t bcrypt_cost;      /* 0: the default */
    int64_t corrupt_check_ms;   /* between comparisons with the other members; 0: never */
    bool initial_corrupt_check; /* compare before serving */
    bool force_new_cluster;     /* with the data that is there, this member becomes the only one */
    int64_t learners_max;       /* 0: the default */
    int64_t catch_up_entries;   /* log entries kept in memory for slow followers; 0: the default */
    int64_t bootstrap_defrag_bytes; /* free space at the start above which the database is rewritten; 0: never */
    bool strict_reconfig; /* refuse changes of members that would endanger the quorum */
    const struct etcd_world *world; /* step.h; NULL: the real one */
};

struct etcd_server;
/* Opens or makes the data, joins or forms the cluster and serves. */
int etcd_server_start(const struct etcd_config *config, struct etcd_server **ret_server, struct kp_error *error) KP_NODISCARD;
/* Ends connections and threads and commits everything; accepts NULL. */
void etcd_server_stop(struct etcd_server *server);
KP_DEFINE_AUTO(struct etcd_server *, etcd_server_stop)
/* Checks what can be wrong with a configuration before anything is touched. */
int etcd_config_check(const struct etcd_config *config, struct kp_error *error) KP_NODISCARD;
/* What must hold of --initial-cluster as well when there is no data yet. */
int etcd_config_check_first(const struct etcd_config *config, struct kp_error *error) KP_NODISCARD;

#endif
