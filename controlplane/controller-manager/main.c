/* kube-controller-manager: its flags, and which controllers run on the engine. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/hpa.h"
#include "lib/component/component.h"
#include "lib/tls/tls.h"

static const struct controller *const controllers[] = {
    &namespace_controller,        &serviceaccount_controller,  &root_ca_publisher_controller,
    &deployment_controller,       &replicaset_controller,      &replicationcontroller_controller,
    &statefulset_controller,      &disruption_controller,      &clusterrole_aggregation_controller,
    &daemonset_controller,        &job_controller,             &ttl_after_finished_controller,
    &endpointslice_controller,    &endpoints_controller,       &node_ipam_controller,
    &node_lifecycle_controller,   &taint_eviction_controller,  &pod_gc_controller,
    &garbage_collector_controller, &csr_approving_controller,  &csr_signing_controller,
    &cron_job_controller,         &resourcequota_controller,   &horizontal_pod_autoscaler_controller,
    &persistentvolume_binder_controller, &persistentvolumeclaim_protection_controller, &persistentvolume_protection_controller,
    &persistentvolume_attach_detach_controller, &ephemeral_volume_controller, &local_volume_controller,
};

struct manager {
    const char *cluster_cidr, *service_cidr, *cluster_name, *controllers;
    const char *root_ca_file, *signing_cert_file, *signing_key_file, *service_account_key_file;
    int64_t node_cidr_mask_size, terminated_pod_gc_threshold;
    int64_t monitor_period_ns, monitor_grace_ns, signing_duration_ns;
    const char *hpa_tolerance;
    int64_t hpa_sync_ns, hpa_cpu_initialization_ns, hpa_readiness_delay_ns, hpa_downscale_ns;
    struct hpa_settings hpa;
    bool allocate_node_cidrs, use_service_account_credentials;
    struct kp_arena *arena;
    struct engine *engine;
};

static int read_pem(const char *path, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!path)
        return 0;
    if (kp_read_file(path, TLS_CERT_PEM_MAX, &text, error) < 0)
        return error->code;
    *ret = kp_arena_strndup(arena, text.data ? text.data : "", text.len);
    return 0;
}

/* --controllers=*,-job-controller: a name turned off wins over the star. */
static bool enabled(const char *list, const char *name)
{
    bool on = false, off = false;
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ",");
        if (len == 1 && *p == '*')
            on = true;
        else if (*p == '-' && strlen(name) == len - 1 && strncmp(p + 1, name, len - 1) == 0)
            off = true;
        else if (strlen(name) == len && strncmp(p, name, len) == 0)
            on = true;
        p += len + (p[len] == ',');
    }
    return on && !off;
}

static int read_hpa_settings(struct manager *m, struct kp_error *error)
{
    char *end;
    double tolerance = strtod(m->hpa_tolerance, &end);
    if (end == m->hpa_tolerance || *end || !(tolerance >= 0))
        return kp_fail(error, KP_EUSAGE, "--horizontal-pod-autoscaler-tolerance: %s is not a number of 0 or more", m->hpa_tolerance);
    if (m->hpa_sync_ns < 1000000000)
        return kp_fail(error, KP_EUSAGE, "--horizontal-pod-autoscaler-sync-period must be at least 1s");
    m->hpa = (struct hpa_settings){.sync_period_ms = m->hpa_sync_ns / 1000000,
                                   .tolerance = tolerance,
                                   .cpu_initialization_s = m->hpa_cpu_initialization_ns / 1000000000,
                                   .initial_readiness_delay_s = m->hpa_readiness_delay_ns / 1000000000,
                                   .downscale_stabilization_s = m->hpa_downscale_ns / 1000000000};
    return 0;
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    struct manager *m = arg;
    struct engine_config config = {
        .client = client,
        .cluster_cidr = m->cluster_cidr,
        .service_cluster_ip_range = m->service_cidr,
        .node_cidr_mask_size = m->node_cidr_mask_size,
        .allocate_node_cidrs = m->allocate_node_cidrs,
        .node_monitor_period_ms = m->monitor_period_ns / 1000000,
        .node_monitor_grace_period_ms = m->monitor_grace_ns / 1000000,
        .terminated_pod_gc_threshold = m->terminated_pod_gc_threshold,
        .cluster_signing_duration_s = m->signing_duration_ns / 1000000000,
        .cluster_name = m->cluster_name,
        .hpa = &m->hpa,
    };
    if (read_hpa_settings(m, error) < 0)
        return error->code;
    if (m->allocate_node_cidrs && kp_empty(m->cluster_cidr))
        return kp_fail(error, KP_EUSAGE, "--allocate-node-cidrs needs --cluster-cidr");
    if (read_pem(m->root_ca_file, m->arena, &config.root_ca_pem, error) < 0 ||
        read_pem(m->signing_cert_file, m->arena, &config.signing_cert_pem, error) < 0 ||
        read_pem(m->signing_key_file, m->arena, &config.signing_key_pem, error) < 0)
        return error->code;
    m->engine = engine_new(&config);
    for (size_t i = 0; i < KP_ARRAY_LEN(controllers); i++)
        if (enabled(m->controllers, controllers[i]->name) && engine_add(m->engine, controllers[i], error) < 0)
            return error->code;
    return engine_start(m->engine, error);
}

static void stop(void *arg)
{
    struct manager *m = arg;
    engine_stop(m->engine);
    kp_arena_free(m->arena);
}

int main(int argc, char **argv)
{
    struct manager m = {
        .cluster_name = "kubernetes",
        .controllers = "*",
        .node_cidr_mask_size = 24,
        .terminated_pod_gc_threshold = 12500,
        .monitor_period_ns = 5000000000,
        .monitor_grace_ns = 50000000000,
        .signing_duration_ns = 365LL * 24 * 3600 * 1000000000,
        .hpa_tolerance = "0.1",
        .hpa_sync_ns = 15000000000,
        .hpa_cpu_initialization_ns = 300000000000,
        .hpa_readiness_delay_ns = 30000000000,
        .hpa_downscale_ns = 300000000000,
        .arena = kp_arena_new(0),
    };
    struct component_options options = {
        .name = "kube-controller-manager", .bind_address = "0.0.0.0", .secure_port = 10257, .leader_elect = true,
    };
    struct kp_flag flags[24 + COMPONENT_FLAGS_MAX] = {
        {"allocate-node-cidrs", 0, KP_FLAG_BOOL, &m.allocate_node_cidrs, "give every node a pod CIDR", NULL},
        {"cluster-cidr", 0, KP_FLAG_STRING, &m.cluster_cidr, "range of all pods", NULL},
        {"service-cluster-ip-range", 0, KP_FLAG_STRING, &m.service_cidr, "range of Services", NULL},
        {"node-cidr-mask-size", 0, KP_FLAG_I64, &m.node_cidr_mask_size, "bits of a node's pod CIDR", NULL},
        {"cluster-name", 0, KP_FLAG_STRING, &m.cluster_name, "the cluster's name", NULL},
        {"root-ca-file", 0, KP_FLAG_STRING, &m.root_ca_file, "published to every namespace", NULL},
        {"service-account-private-key-file", 0, KP_FLAG_STRING, &m.service_account_key_file, "key of legacy service-account tokens", NULL},
        {"cluster-signing-cert-file", 0, KP_FLAG_STRING, &m.signing_cert_file, "CA that signs certificate requests", NULL},
        {"cluster-signing-key-file", 0, KP_FLAG_STRING, &m.signing_key_file, "its key", NULL},
        {"cluster-signing-duration", 0, KP_FLAG_DURATION, &m.signing_duration_ns, "life of signed certificates", NULL},
        {"controllers", 0, KP_FLAG_STRING, &m.controllers, "which run: *, name, -name", NULL},
        {"use-service-account-credentials", 0, KP_FLAG_BOOL, &m.use_service_account_credentials, "accepted; controllers share one identity", NULL},
        {"node-monitor-period", 0, KP_FLAG_DURATION, &m.monitor_period_ns, "how often a node's heartbeat is looked at", NULL},
        {"node-monitor-grace-period", 0, KP_FLAG_DURATION, &m.monitor_grace_ns, "silence after which a node counts as unreachable", NULL},
        {"terminated-pod-gc-threshold", 0, KP_FLAG_I64, &m.terminated_pod_gc_threshold, "finished pods that are kept", NULL},
        {"horizontal-pod-autoscaler-sync-period", 0, KP_FLAG_DURATION, &m.hpa_sync_ns, "how often each autoscaler is looked at", NULL},
        {"horizontal-pod-autoscaler-tolerance", 0, KP_FLAG_STRING, &m.hpa_tolerance, "share a metric may be off before anything changes", NULL},
        {"horizontal-pod-autoscaler-cpu-initialization-period", 0, KP_FLAG_DURATION, &m.hpa_cpu_initialization_ns,
         "time after a pod's start in which its CPU counts only while it is ready", NULL},
        {"horizontal-pod-autoscaler-initial-readiness-delay", 0, KP_FLAG_DURATION, &m.hpa_readiness_delay_ns,
         "time after a pod's start in which becoming unready means it was never ready", NULL},
        {"horizontal-pod-autoscaler-downscale-stabilization", 0, KP_FLAG_DURATION, &m.hpa_downscale_ns,
         "how far back the highest recommendation counts before pods are removed", NULL},
    };
    component_flags(&options, flags, 20);
    const struct component_program program = {
        .description = "kube-controller-manager runs the controllers of a Kubernetes cluster.", .start = start, .stop = stop, .arg = &m,
    };
    return component_main(&options, flags, &program, argc, argv);
}
