/* The etcd program: flags and environment variables in etcd's spelling, then one member until SIGTERM. */
#include <signal.h>
#include <unistd.h>

#include "controlplane/etcd/auth/auth.h"
#include "controlplane/etcd/server/server.h"
#include "controlplane/etcd/tools/tools.h"
#include "lib/base/cpu.h"
#include "lib/base/version.h"

#define CLIENT_URLS_DEFAULT "http://localhost:2379"

struct options {
    struct etcd_config config;
    const char *log_level, *compaction_mode, *compaction_retention, *logger, *log_outputs;
    const char *feature_gates;
    int64_t heartbeat_ms, election_ms, batch_interval_ns, progress_ns;
    int64_t max_snapshots, max_wals, self_signed_years;
    const char *cipher_suites, *tls_min_version, *tls_max_version;
    bool auto_tls, peer_auto_tls, pre_vote, pprof, initial_corrupt_check, v2, version;
    const char *metrics;
    int64_t corrupt_ns, compact_hash_ns, defrag_mb;
    bool compact_hash;
    /* accepted, without effect here */
    int64_t ignored, ignored_ns;
    bool ignored_bool, ticks, gateway;
    const char *ignored_text;
    /* refused when they are set */
    bool no_fsync, reuse, rotation, mlock, tracing, checkpoint;
    const char *crl, *allowed_hostname, *discovery, *config_file, *anyone, *hosts;
};

/* Accepted for manifests written for etcd, where what they ask for is what happens anyway. */
static int check_fixed(const struct options *o, struct kp_error *error)
{
    if (!kp_streq(o->metrics, "basic") && !kp_streq(o->metrics, "extensive"))
        return kp_fail(error, KP_EUSAGE, "--metrics must be basic or extensive");
    if (o->pprof || o->v2)
        return kp_fail(error, KP_ENOTSUPPORTED, "--enable-pprof and --enable-v2 are not supported");
    if (!o->pre_vote)
        return kp_fail(error, KP_ENOTSUPPORTED, "--pre-vote cannot be turned off");
    const struct {
        const char *flags;
        bool set;
    } refused[] = {{"--unsafe-no-fsync", o->no_fsync},
                   {"--socket-reuse-port and --socket-reuse-address", o->reuse},
                   {"--enable-log-rotation", o->rotation},
                   {"--memory-mlock", o->mlock},
                   {"--enable-distributed-tracing", o->tracing},
                   {"--experimental-enable-lease-checkpoint", o->checkpoint},
                   {"--client-crl-file and --peer-crl-file", !kp_empty(o->crl)},
                   {"--client-cert-allowed-hostname", !kp_empty(o->allowed_hostname)},
                   {"--discovery", !kp_empty(o->discovery)},
                   {"--config-file", !kp_empty(o->config_file)},
                   {"--cors other than *", !kp_empty(o->anyone) && !kp_streq(o->anyone, "*")},
                   {"--host-whitelist other than *", !kp_empty(o->hosts) && !kp_streq(o->hosts, "*")}};
    for (size_t i = 0; i < KP_ARRAY_LEN(refused); i++)
        if (refused[i].set)
            return kp_fail(error, KP_ENOTSUPPORTED, "%s: not supported", refused[i].flags);
    return 0;
}

/* "A=true,B=false": gates of etcd that say what is done here, and no others. */
static int set_gates(struct options *o, struct kp_error *error)
{
    for (const char *p = o->feature_gates; p && *p;) {
        size_t len = strcspn(p, ",");
        KP_AUTO_FREE char *gate = kp_strndup(p, len);
        char *value = strchr(gate, '=');
        bool on = value && kp_streq(value + 1, "true");
        if (value && !on && !kp_streq(value + 1, "false"))
            return kp_fail(error, KP_EUSAGE, "--feature-gates: \"%s\" is neither true nor false", gate);
        if (value)
            *value = '\0';
        if (kp_streq(gate, "InitialCorruptCheck"))
            o->initial_corrupt_check = on;
        else if (kp_streq(gate, "CompactHashCheck"))
            o->compact_hash = on;
        else if (!value || on)
            return kp_fail(error, KP_ENOTSUPPORTED, "--feature-gates: \"%s\" is not known", gate);
        p += len + (p[len] == ',');
    }
    struct etcd_config *config = &o->config;
    config->initial_corrupt_check = o->initial_corrupt_check;
    config->corrupt_check_ms = o->corrupt_ns / 1000000;
    if (o->compact_hash && !config->corrupt_check_ms)
        config->corrupt_check_ms = KP_MAX(o->compact_hash_ns / 1000000, 1000);
    config->bootstrap_defrag_bytes = o->defrag_mb > 0 ? o->defrag_mb << 20 : 0;
    return 0;
}

static int set_compaction(struct options *o, struct kp_error *error)
{
    struct etcd_config *config = &o->config;
    bool revision = kp_streq(o->compaction_mode, "revision");
    if (!revision && !kp_streq(o->compaction_mode, "periodic"))
        return kp_fail(error, KP_EUSAGE, "--auto-compaction-mode must be periodic or revision, not \"%s\"",
                       o->compaction_mode);
    config->compaction_mode = revision ? ETCD_COMPACT_REVISION : ETCD_COMPACT_PERIODIC;
    int64_t number;
    if (kp_parse_i64(o->compaction_retention, &number) == 0) { /* a bare number means hours */
        config->compaction_retention = revision ? number : number * 3600 * 1000;
    } else if (!revision && kp_parse_duration_ns(o->compaction_retention, &number) == 0) {
        config->compaction_retention = number / 1000000;
    } else {
        return kp_fail(error, KP_EUSAGE, "--auto-compaction-retention: bad value \"%s\"", o->compaction_retention);
    }
    return config->compaction_retention < 0 ? kp_fail(error, KP_EUSAGE, "--auto-compaction-retention is negative") : 0;
}

static bool names_tls(const char *urls)
{
    return strstr(urls, "https://") || strstr(urls, "unixs://");
}

/* Rules for both sides, and certificates where none are given but asked for. */
static int set_tls(struct options *o, struct kp_error *error)
{
    struct etcd_config *config = &o->config;
    struct etcd_tls_files *const both[] = {&config->client_tls, &config->peer_tls};
    for (size_t i = 0; i < KP_ARRAY_LEN(both); i++) {
        both[i]->cipher_suites = o->cipher_suites;
        both[i]->version_min = o->tls_min_version;
        both[i]->version_max = o->tls_max_version;
    }
    int rc = 0;
    if (o->auto_tls && names_tls(config->listen_client_urls))
        rc = etcd_self_signed(config->data_dir, "client", config->listen_client_urls, o->self_signed_years, &config->client_tls,
                              error);
    if (rc == 0 && o->peer_auto_tls && names_tls(config->listen_peer_urls))
        rc = etcd_self_signed(config->data_dir, "peer", config->listen_peer_urls, o->self_signed_years, &config->peer_tls, error);
    return rc;
}

static int parse_log_level(const char *text, enum kp_log_level *ret_level, struct kp_error *error)
{
    static const struct {
        const char *name;
        enum kp_log_level level;
    } levels[] = {{"debug", KP_LOG_DEBUG}, {"info", KP_LOG_INFO},   {"warn", KP_LOG_WARNING},
                  {"error", KP_LOG_ERROR}, {"panic", KP_LOG_ERROR}, {"fatal", KP_LOG_ERROR}};
    for (size_t i = 0; i < KP_ARRAY_LEN(levels); i++)
        if (kp_streq(text, levels[i].name)) {
            *ret_level = levels[i].level;
            return 0;
        }
    return kp_fail(error, KP_EUSAGE, "--log-level must be debug, info, warn, error, panic or fatal, not \"%s\"", text);
}

static struct options options = {
    .config = {.name = "default",
               .data_dir = NULL,
               .wal_dir = "",
               .listen_client_urls = CLIENT_URLS_DEFAULT,
               .advertise_client_urls = CLIENT_URLS_DEFAULT,
               .listen_peer_urls = "http://localhost:2380",
               .initial_advertise_peer_urls = "http://localhost:2380",
               .listen_metrics_urls = "",
               .initial_cluster_state = "new",
               .strict_reconfig = true,
               .initial_cluster_token = "etcd-cluster",
               .snapshot_count = ETCD_SNAPSHOT_COUNT_DEFAULT,
               .txn_ops_max = ETCD_TXN_OPS_MAX_DEFAULT,
               .auth_token = "simple",
               .auth_token_ttl_s = AUTH_TOKEN_TTL_S_DEFAULT,
               .bcrypt_cost = AUTH_BCRYPT_COST_DEFAULT,
               .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT},
    .log_level = "info",
    .logger = "zap",
    .log_outputs = "default",
    .metrics = "basic",
    .feature_gates = "",
    .compaction_mode = "periodic",
    .compaction_retention = "0",
    .heartbeat_ms = 100,
    .election_ms = 1000,
    .self_signed_years = 1,
    .tls_min_version = "TLS1.2",
    .progress_ns = INT64_C(600) * 1000000000,
    .pre_vote = true,
    .compact_hash_ns = INT64_C(60) * 1000000000,
    .ticks = true,
    .gateway = true,
};

static const struct kp_flag flags[] = {
    {"name", 0, KP_FLAG_STRING, &options.config.name, "human-readable name of this member", "ETCD_NAME"},
    {"data-dir", 0, KP_FLAG_STRING, &options.config.data_dir, "folder of the data", "ETCD_DATA_DIR"},
    {"wal-dir", 0, KP_FLAG_STRING, &options.config.wal_dir, "folder of the log, when not below --data-dir", "ETCD_WAL_DIR"},
    {"snapshot-count", 0, KP_FLAG_I64, &options.config.snapshot_count, "entries after which the log is cut", "ETCD_SNAPSHOT_COUNT"},
    {"heartbeat-interval", 0, KP_FLAG_I64, &options.heartbeat_ms, "milliseconds between heartbeats", "ETCD_HEARTBEAT_INTERVAL"},
    {"election-timeout", 0, KP_FLAG_I64, &options.election_ms, "milliseconds without a leader before an election",
     "ETCD_ELECTION_TIMEOUT"},
    {"listen-peer-urls", 0, KP_FLAG_STRING, &options.config.listen_peer_urls, "where members reach this one", "ETCD_LISTEN_PEER_URLS"},
    {"listen-client-urls", 0, KP_FLAG_STRING, &options.config.listen_client_urls, "where to serve clients", "ETCD_LISTEN_CLIENT_URLS"},
    {"listen-metrics-urls", 0, KP_FLAG_STRING, &options.config.listen_metrics_urls, "further URLs for health and metrics",
     "ETCD_LISTEN_METRICS_URLS"},
    {"quota-backend-bytes", 0, KP_FLAG_I64, &options.config.quota_backend_bytes, "database size that raises the NOSPACE alarm",
     "ETCD_QUOTA_BACKEND_BYTES"},
    {"backend-batch-limit", 0, KP_FLAG_I64, &options.config.backend_batch_limit, "changes that force a database commit",
     "ETCD_BACKEND_BATCH_LIMIT"},
    {"backend-batch-interval", 0, KP_FLAG_DURATION, &options.batch_interval_ns, "longest time between database commits",
     "ETCD_BACKEND_BATCH_INTERVAL"},
    {"max-txn-ops", 0, KP_FLAG_I64, &options.config.txn_ops_max, "operations allowed in a transaction", "ETCD_MAX_TXN_OPS"},
    {"max-request-bytes", 0, KP_FLAG_I64, &options.config.request_bytes_max, "largest request", "ETCD_MAX_REQUEST_BYTES"},
    {"initial-advertise-peer-urls", 0, KP_FLAG_STRING, &options.config.initial_advertise_peer_urls, "this member's peer URLs",
     "ETCD_INITIAL_ADVERTISE_PEER_URLS"},
    {"initial-cluster", 0, KP_FLAG_STRING, &options.config.initial_cluster, "name=url of every first member", "ETCD_INITIAL_CLUSTER"},
    {"initial-cluster-state", 0, KP_FLAG_STRING, &options.config.initial_cluster_state, "new or existing",
     "ETCD_INITIAL_CLUSTER_STATE"},
    {"initial-cluster-token", 0, KP_FLAG_STRING, &options.config.initial_cluster_token, "tells clusters apart",
     "ETCD_INITIAL_CLUSTER_TOKEN"},
    {"advertise-client-urls", 0, KP_FLAG_STRING, &options.config.advertise_client_urls, "client URLs that members tell of",
     "ETCD_ADVERTISE_CLIENT_URLS"},
    {"auto-compaction-mode", 0, KP_FLAG_STRING, &options.compaction_mode, "periodic or revision", "ETCD_AUTO_COMPACTION_MODE"},
    {"auto-compaction-retention", 0, KP_FLAG_STRING, &options.compaction_retention, "hours or duration, or revisions; 0 is off",
     "ETCD_AUTO_COMPACTION_RETENTION"},
    {"cert-file", 0, KP_FLAG_STRING, &options.config.client_tls.cert_file, "certificate shown to clients", "ETCD_CERT_FILE"},
    {"key-file", 0, KP_FLAG_STRING, &options.config.client_tls.key_file, "its key", "ETCD_KEY_FILE"},
    {"trusted-ca-file", 0, KP_FLAG_STRING, &options.config.client_tls.trusted_ca_file, "CA of client certificates",
     "ETCD_TRUSTED_CA_FILE"},
    {"client-cert-auth", 0, KP_FLAG_BOOL, &options.config.client_tls.client_cert_auth, "require client certificates",
     "ETCD_CLIENT_CERT_AUTH"},
    {"peer-cert-file", 0, KP_FLAG_STRING, &options.config.peer_tls.cert_file, "certificate shown to peers", "ETCD_PEER_CERT_FILE"},
    {"peer-key-file", 0, KP_FLAG_STRING, &options.config.peer_tls.key_file, "its key", "ETCD_PEER_KEY_FILE"},
    {"peer-trusted-ca-file", 0, KP_FLAG_STRING, &options.config.peer_tls.trusted_ca_file, "CA of peer certificates",
     "ETCD_PEER_TRUSTED_CA_FILE"},
    {"peer-client-cert-auth", 0, KP_FLAG_BOOL, &options.config.peer_tls.client_cert_auth, "require peer certificates",
     "ETCD_PEER_CLIENT_CERT_AUTH"},
    {"auth-token", 0, KP_FLAG_STRING, &options.config.auth_token,
     "simple, or jwt,sign-method=...,pub-key=...,priv-key=...,ttl=...", "ETCD_AUTH_TOKEN"},
    {"auth-token-ttl", 0, KP_FLAG_I64, &options.config.auth_token_ttl_s, "seconds that a simple token lives after its last use",
     "ETCD_AUTH_TOKEN_TTL"},
    {"bcrypt-cost", 0, KP_FLAG_I64, &options.config.bcrypt_cost, "cost of a password's hash, 4 to 31", "ETCD_BCRYPT_COST"},
    {"peer-client-cert-file", 0, KP_FLAG_STRING, &options.config.peer_tls.client_cert_file, "certificate shown when calling peers",
     "ETCD_PEER_CLIENT_CERT_FILE"},
    {"peer-client-key-file", 0, KP_FLAG_STRING, &options.config.peer_tls.client_key_file, "its key", "ETCD_PEER_CLIENT_KEY_FILE"},
    {"peer-cert-allowed-cn", 0, KP_FLAG_STRING, &options.config.peer_tls.allowed_cn, "common name that peers must have",
     "ETCD_PEER_CERT_ALLOWED_CN"},
    {"peer-cert-allowed-hostname", 0, KP_FLAG_STRING, &options.config.peer_tls.allowed_hostname,
     "host name that the certificates of peers must be for", "ETCD_PEER_CERT_ALLOWED_HOSTNAME"},
    {"auto-tls", 0, KP_FLAG_BOOL, &options.auto_tls, "make a certificate for clients when none is given", "ETCD_AUTO_TLS"},
    {"peer-auto-tls", 0, KP_FLAG_BOOL, &options.peer_auto_tls, "make a certificate for peers when none is given",
     "ETCD_PEER_AUTO_TLS"},
    {"self-signed-cert-validity", 0, KP_FLAG_I64, &options.self_signed_years, "years that such a certificate lasts",
     "ETCD_SELF_SIGNED_CERT_VALIDITY"},
    {"cipher-suites", 0, KP_FLAG_STRING, &options.cipher_suites, "TLS cipher suites by name, commas between",
     "ETCD_CIPHER_SUITES"},
    {"tls-min-version", 0, KP_FLAG_STRING, &options.tls_min_version, "TLS1.2 or TLS1.3", "ETCD_TLS_MIN_VERSION"},
    {"tls-max-version", 0, KP_FLAG_STRING, &options.tls_max_version, "TLS1.2 or TLS1.3", "ETCD_TLS_MAX_VERSION"},
    {"strict-reconfig-check", 0, KP_FLAG_BOOL, &options.config.strict_reconfig, "reject changes that would lose the quorum",
     "ETCD_STRICT_RECONFIG_CHECK"},
    {"pre-vote", 0, KP_FLAG_BOOL, &options.pre_vote, "always on", "ETCD_PRE_VOTE"},
    {"max-snapshots", 0, KP_FLAG_I64, &options.max_snapshots, "the database is the only snapshot: no effect",
     "ETCD_MAX_SNAPSHOTS"},
    {"max-wals", 0, KP_FLAG_I64, &options.max_wals, "the log is cut at each snapshot: no effect", "ETCD_MAX_WALS"},
    {"enable-pprof", 0, KP_FLAG_BOOL, &options.pprof, "refused", "ETCD_ENABLE_PPROF"},
    {"enable-v2", 0, KP_FLAG_BOOL, &options.v2, "refused", "ETCD_ENABLE_V2"},
    {"metrics", 0, KP_FLAG_STRING, &options.metrics, "basic or extensive: the same here", "ETCD_METRICS"},
    {"feature-gates", 0, KP_FLAG_STRING, &options.feature_gates, "InitialCorruptCheck, CompactHashCheck",
     "ETCD_FEATURE_GATES"},
    {"experimental-initial-corrupt-check", 0, KP_FLAG_BOOL, &options.initial_corrupt_check,
     "compare hashes with the other members before serving", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK"},
    {"experimental-watch-progress-notify-interval", 0, KP_FLAG_DURATION, &options.progress_ns,
     "between progress notices of quiet watches", "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL"},
    {"watch-progress-notify-interval", 0, KP_FLAG_DURATION, &options.progress_ns, "between progress notices of quiet watches",
     "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL"},
    {"force-new-cluster", 0, KP_FLAG_BOOL, &options.config.force_new_cluster, "with the data that is there, this member becomes the only one",
     "ETCD_FORCE_NEW_CLUSTER"},
    {"corrupt-check-time", 0, KP_FLAG_DURATION, &options.corrupt_ns, "between comparisons of hashes with the other members; 0 is never",
     "ETCD_CORRUPT_CHECK_TIME"},
    {"experimental-corrupt-check-time", 0, KP_FLAG_DURATION, &options.corrupt_ns, "the same",
     "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"},
    {"compact-hash-check-time", 0, KP_FLAG_DURATION, &options.compact_hash_ns, "between comparisons, when --feature-gates=CompactHashCheck=true or the flag below asks for them",
     "ETCD_COMPACT_HASH_CHECK_TIME"},
    {"experimental-compact-hash-check-time", 0, KP_FLAG_DURATION, &options.compact_hash_ns, "between comparisons, when --feature-gates=CompactHashCheck=true or the flag below asks for them",
     "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_TIME"},
    {"experimental-compact-hash-check-enabled", 0, KP_FLAG_BOOL, &options.compact_hash, "compare hashes with the other members",
     "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED"},
    {"max-learners", 0, KP_FLAG_I64, &options.config.learners_max, "learners allowed at once",
     "ETCD_MAX_LEARNERS"},
    {"experimental-max-learners", 0, KP_FLAG_I64, &options.config.learners_max, "learners allowed at once",
     "ETCD_EXPERIMENTAL_MAX_LEARNERS"},
    {"snapshot-catchup-entries", 0, KP_FLAG_I64, &options.config.catch_up_entries, "log entries kept in memory for slow followers",
     "ETCD_SNAPSHOT_CATCHUP_ENTRIES"},
    {"experimental-snapshot-catchup-entries", 0, KP_FLAG_I64, &options.config.catch_up_entries, "log entries kept in memory for slow followers",
     "ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES"},
    {"bootstrap-defrag-threshold-megabytes", 0, KP_FLAG_I64, &options.defrag_mb, "free megabytes at the start above which the database is rewritten",
     "ETCD_BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES"},
    {"experimental-bootstrap-defrag-threshold-megabytes", 0, KP_FLAG_I64, &options.defrag_mb, "free megabytes at the start above which the database is rewritten",
     "ETCD_EXPERIMENTAL_BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES"},
    {"initial-election-tick-advance", 0, KP_FLAG_BOOL, &options.ticks, "no effect",
     "ETCD_INITIAL_ELECTION_TICK_ADVANCE"},
    {"grpc-keepalive-min-time", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_GRPC_KEEPALIVE_MIN_TIME"},
    {"grpc-keepalive-interval", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_GRPC_KEEPALIVE_INTERVAL"},
    {"grpc-keepalive-timeout", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_GRPC_KEEPALIVE_TIMEOUT"},
    {"experimental-warning-apply-duration", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_EXPERIMENTAL_WARNING_APPLY_DURATION"},
    {"warning-apply-duration", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_WARNING_APPLY_DURATION"},
    {"experimental-warning-unary-request-duration", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_EXPERIMENTAL_WARNING_UNARY_REQUEST_DURATION"},
    {"warning-unary-request-duration", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_WARNING_UNARY_REQUEST_DURATION"},
    {"experimental-wait-cluster-ready-timeout", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_EXPERIMENTAL_WAIT_CLUSTER_READY_TIMEOUT"},
    {"wait-cluster-ready-timeout", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_WAIT_CLUSTER_READY_TIMEOUT"},
    {"experimental-downgrade-check-time", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_EXPERIMENTAL_DOWNGRADE_CHECK_TIME"},
    {"downgrade-check-time", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_DOWNGRADE_CHECK_TIME"},
    {"experimental-compaction-batch-limit", 0, KP_FLAG_I64, &options.ignored, "no effect",
     "ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT"},
    {"compaction-batch-limit", 0, KP_FLAG_I64, &options.ignored, "no effect",
     "ETCD_COMPACTION_BATCH_LIMIT"},
    {"experimental-compaction-sleep-interval", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_EXPERIMENTAL_COMPACTION_SLEEP_INTERVAL"},
    {"compaction-sleep-interval", 0, KP_FLAG_DURATION, &options.ignored_ns, "no effect",
     "ETCD_COMPACTION_SLEEP_INTERVAL"},
    {"max-concurrent-streams", 0, KP_FLAG_I64, &options.ignored, "no effect",
     "ETCD_MAX_CONCURRENT_STREAMS"},
    {"enable-grpc-gateway", 0, KP_FLAG_BOOL, &options.gateway, "no effect",
     "ETCD_ENABLE_GRPC_GATEWAY"},
    {"experimental-txn-mode-write-with-shared-buffer", 0, KP_FLAG_BOOL, &options.ignored_bool, "no effect",
     "ETCD_EXPERIMENTAL_TXN_MODE_WRITE_WITH_SHARED_BUFFER"},
    {"experimental-stop-grpc-service-on-defrag", 0, KP_FLAG_BOOL, &options.ignored_bool, "no effect",
     "ETCD_EXPERIMENTAL_STOP_GRPC_SERVICE_ON_DEFRAG"},
    {"experimental-peer-skip-client-san-verification", 0, KP_FLAG_BOOL, &options.ignored_bool, "no effect",
     "ETCD_EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION"},
    {"backend-bbolt-freelist-type", 0, KP_FLAG_STRING, &options.ignored_text, "no effect",
     "ETCD_BACKEND_BBOLT_FREELIST_TYPE"},
    {"log-format", 0, KP_FLAG_STRING, &options.ignored_text, "no effect",
     "ETCD_LOG_FORMAT"},
    {"v2-deprecation", 0, KP_FLAG_STRING, &options.ignored_text, "no effect",
     "ETCD_V2_DEPRECATION"},
    {"unsafe-no-fsync", 0, KP_FLAG_BOOL, &options.no_fsync, "refused",
     "ETCD_UNSAFE_NO_FSYNC"},
    {"socket-reuse-port", 0, KP_FLAG_BOOL, &options.reuse, "refused",
     "ETCD_SOCKET_REUSE_PORT"},
    {"socket-reuse-address", 0, KP_FLAG_BOOL, &options.reuse, "refused",
     "ETCD_SOCKET_REUSE_ADDRESS"},
    {"enable-log-rotation", 0, KP_FLAG_BOOL, &options.rotation, "refused",
     "ETCD_ENABLE_LOG_ROTATION"},
    {"experimental-memory-mlock", 0, KP_FLAG_BOOL, &options.mlock, "refused",
     "ETCD_EXPERIMENTAL_MEMORY_MLOCK"},
    {"memory-mlock", 0, KP_FLAG_BOOL, &options.mlock, "refused",
     "ETCD_MEMORY_MLOCK"},
    {"experimental-enable-distributed-tracing", 0, KP_FLAG_BOOL, &options.tracing, "refused",
     "ETCD_EXPERIMENTAL_ENABLE_DISTRIBUTED_TRACING"},
    {"enable-distributed-tracing", 0, KP_FLAG_BOOL, &options.tracing, "refused",
     "ETCD_ENABLE_DISTRIBUTED_TRACING"},
    {"experimental-enable-lease-checkpoint", 0, KP_FLAG_BOOL, &options.checkpoint, "refused",
     "ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT"},
    {"experimental-enable-lease-checkpoint-persist", 0, KP_FLAG_BOOL, &options.checkpoint, "refused",
     "ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST"},
    {"client-crl-file", 0, KP_FLAG_STRING, &options.crl, "refused unless empty",
     "ETCD_CLIENT_CRL_FILE"},
    {"peer-crl-file", 0, KP_FLAG_STRING, &options.crl, "refused unless empty",
     "ETCD_PEER_CRL_FILE"},
    {"client-cert-allowed-hostname", 0, KP_FLAG_STRING, &options.allowed_hostname, "refused unless empty",
     "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME"},
    {"discovery", 0, KP_FLAG_STRING, &options.discovery, "refused unless empty",
     "ETCD_DISCOVERY"},
    {"discovery-endpoints", 0, KP_FLAG_STRING, &options.discovery, "refused unless empty",
     "ETCD_DISCOVERY_ENDPOINTS"},
    {"discovery-srv", 0, KP_FLAG_STRING, &options.discovery, "refused unless empty",
     "ETCD_DISCOVERY_SRV"},
    {"config-file", 0, KP_FLAG_STRING, &options.config_file, "refused unless empty",
     "ETCD_CONFIG_FILE"},
    {"cors", 0, KP_FLAG_STRING, &options.anyone, "only * is served",
     "ETCD_CORS"},
    {"host-whitelist", 0, KP_FLAG_STRING, &options.hosts, "only * is served",
     "ETCD_HOST_WHITELIST"},
    {"logger", 0, KP_FLAG_STRING, &options.logger, "no effect: one line an event on standard error", "ETCD_LOGGER"},
    {"log-outputs", 0, KP_FLAG_STRING, &options.log_outputs, "no effect: standard error", "ETCD_LOG_OUTPUTS"},
    {"log-level", 0, KP_FLAG_STRING, &options.log_level, "debug, info, warn, error, panic or fatal", "ETCD_LOG_LEVEL"},
    {"version", 0, KP_FLAG_BOOL, &options.version, "print the version and exit", NULL},
    {0},
};

/* Several emulated machines that share a few processors do not answer each other within a second whenever they have something to do. */
static void be_patient(struct options *o)
{
    o->heartbeat_ms = 300;
    o->election_ms = 1500; /* and up to twice that until the next leader: an API that lost its machine is to answer within five seconds */
}

static int parse(struct options *o, int argc, char **argv, bool *ret_help, struct kp_error *error)
{
    if (kp_cpu_is_emulated())
        be_patient(o);
    int rc = kp_flags_parse(flags, argc, argv, NULL, ret_help, error);
    if (rc < 0 || *ret_help || o->version)
        return rc;
    struct etcd_config *config = &o->config;
    config->heartbeat_ms = o->heartbeat_ms;
    config->election_ms = o->election_ms;
    config->backend_batch_interval_ms = o->batch_interval_ns / 1000000;
    config->watch_progress_interval_ms = KP_MAX(o->progress_ns / 1000000, 100);
    config->begun_file = getenv("KPROV_ETCD_BEGUN"); /* no flag: a stock etcd would refuse it */
    if (!config->data_dir)
        config->data_dir = kp_asprintf("%s.etcd", config->name);
    if (!config->initial_cluster) /* every advertised URL belongs to this name, as etcd's default does */
        config->initial_cluster = kp_asprintf("%s=%s", config->name, config->initial_advertise_peer_urls);
    if ((rc = check_fixed(o, error)) < 0 || (rc = set_gates(o, error)) < 0 || (rc = set_compaction(o, error)) < 0 || (rc = set_tls(o, error)) < 0)
        return rc;
    if ((rc = etcd_config_check(config, error)) < 0)
        return rc;
    if (!kp_streq(config->listen_client_urls, CLIENT_URLS_DEFAULT) && kp_streq(config->advertise_client_urls, CLIENT_URLS_DEFAULT))
        return kp_fail(error, KP_EUSAGE, "--advertise-client-urls is required when --listen-client-urls is set explicitly");
    return 0;
}

static int serve(const struct options *o)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* inherited by every thread: only sigwait below takes them */
    signal(SIGPIPE, SIG_IGN);
    struct kp_error error = {0};
    struct etcd_server *server = NULL;
    if (etcd_server_start(&o->config, &server, &error) < 0) {
        kp_error_log("cannot start", "err", error.message, NULL);
        return kp_code_info(error.code)->exit_status;
    }
    int signum = 0;
    while (sigwait(&signals, &signum) != 0)
        ;
    kp_info("stopping", "signal", signum == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    etcd_server_stop(server);
    return 0;
}

int main(int argc, char **argv)
{
    if (tools_wanted(argc, argv))
        return tools_main(argc, argv);
    bool help = false;
    enum kp_log_level level = KP_LOG_INFO;
    struct kp_error error = {0};
    if (parse(&options, argc, argv, &help, &error) < 0 || parse_log_level(options.log_level, &level, &error) < 0) {
        fprintf(stderr, "etcd: %s\n", error.message);
        return kp_code_info(error.code)->exit_status;
    }
    if (help) {
        kp_flags_print(flags, stdout);
        return 0;
    }
    if (options.version) {
        printf("etcd Version: %s\nBuild: kprov %s\n", ETCD_VERSION, kp_version);
        return 0;
    }
    kp_log_init("etcd", level);
    return serve(&options);
}
