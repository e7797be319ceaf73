/* Manifests of the control plane's static pods, laid out as kubeadm lays them out (kubeadm/app/phases/controlplane and
   etcd): the same file names, flags, mounts and probes. */
#include "provisioner/bootstrap/bootstrap.h"

#define MOUNTS_MAX 6
#define READY_PERIOD_S 5 /* kubeadm has 1: each is a TLS handshake, and nothing waits for it but the pod's status; the startup probe is quick */

struct probe {
    const char *kind;   /* "livenessProbe" */
    const char *scheme; /* "HTTPS" */
    const char *path;
    int port;
    int period_s, timeout_s, failures;
};
struct host_mount {
    const char *name, *path, *type; /* type: "DirectoryOrCreate", "FileOrCreate" */
    bool read_only;
};
struct static_pod {
    const char *component; /* image and label */
    const char *cpu, *memory;
    struct bootstrap_args args;
    struct host_mount mounts[MOUNTS_MAX];
    struct probe probes[3];
    size_t n_probes;
    const char *probe_host;
    const char *env[2];       /* name and value of a variable, or NULL */
    const char *capabilities; /* added ones, "NET_ADMIN, NET_RAW", or NULL */
};

void bootstrap_args_set(struct bootstrap_args *args, const char *name, const char *value)
{
    for (size_t i = 0; i < args->len; i++) {
        if (kp_streq(args->names[i], name)) {
            args->values[i] = value;
            return;
        }
    }
    KP_ASSERT(args->len < BOOTSTRAP_ARGS_MAX);
    args->names[args->len] = name;
    args->values[args->len++] = value;
}

void bootstrap_args_override(struct bootstrap_args *args, const struct config *config, const char *component)
{
    const struct kp_string_map *flags = config_component_flags(config, component);
    for (size_t i = 0; flags && i < flags->len; i++)
        bootstrap_args_set(args, flags->items[i].key, flags->items[i].value);
}

static void print_probe(struct kp_buf *out, const struct static_pod *pod, const struct probe *probe)
{
    kp_buf_printf(out, "    %s:\n      httpGet: {host: %s, path: ", probe->kind, pod->probe_host);
    kp_json_string(out, probe->path);
    kp_buf_printf(out, ", port: %d, scheme: %s}\n", probe->port, probe->scheme);
    kp_buf_printf(out, "      failureThreshold: %d\n      periodSeconds: %d\n      timeoutSeconds: %d\n", probe->failures,
                  probe->period_s, probe->timeout_s);
}

static const char *print_pod(const struct bootstrap_cluster *cluster, const struct static_pod *pod,
                             struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: kube-system\n", pod->component);
    kp_buf_printf(&out, "  labels: {component: %s, tier: control-plane}\n", pod->component);
    const char *stamp = cluster->pod_stamps ? kp_string_map_get(cluster->pod_stamps, pod->component) : NULL;
    kp_buf_puts(&out, "  annotations: {" BOOTSTRAP_SHIM_GROUP);
    if (stamp)
        kp_buf_printf(&out, ", kprov.dev/files: \"%s\"", stamp);
    kp_buf_puts(&out, "}\n");
    kp_buf_puts(&out, "spec:\n");
    kp_buf_puts(&out, "  hostNetwork: true\n  priorityClassName: system-node-critical\n"
                      "  securityContext: {seccompProfile: {type: RuntimeDefault}}\n  containers:\n");
    kp_buf_printf(&out, "  - name: %s\n    image: " BOOTSTRAP_REGISTRY "/%s:%s\n    imagePullPolicy: IfNotPresent\n",
                  pod->component, pod->component, cluster->config->kubernetes_version);
    kp_buf_printf(&out, "    command:\n    - %s\n", pod->component);
    for (size_t i = 0; i < pod->args.len; i++) {
        kp_buf_puts(&out, "    - ");
        kp_json_string(&out, kp_arena_printf(arena, "--%s=%s", pod->args.names[i], pod->args.values[i]));
        kp_buf_putc(&out, '\n');
    }
    if (pod->env[0])
        kp_buf_printf(&out, "    env: [{name: %s, value: %s}]\n", pod->env[0], pod->env[1]);
    kp_buf_printf(&out, "    resources: {requests: {cpu: %s, memory: %s}}\n", pod->cpu, pod->memory);
    if (pod->capabilities)
        kp_buf_printf(&out, "    securityContext: {capabilities: {add: [%s]}}\n", pod->capabilities);
    for (size_t i = 0; i < pod->n_probes; i++)
        print_probe(&out, pod, &pod->probes[i]);
    kp_buf_puts(&out, "    volumeMounts:\n");
    for (size_t i = 0; i < MOUNTS_MAX && pod->mounts[i].name; i++)
        kp_buf_printf(&out, "    - {name: %s, mountPath: %s, readOnly: %s}\n", pod->mounts[i].name, pod->mounts[i].path,
                      pod->mounts[i].read_only ? "true" : "false");
    kp_buf_puts(&out, "  volumes:\n");
    for (size_t i = 0; i < MOUNTS_MAX && pod->mounts[i].name; i++)
        kp_buf_printf(&out, "  - {name: %s, hostPath: {path: %s, type: %s}}\n", pod->mounts[i].name, pod->mounts[i].path,
                      pod->mounts[i].type);
    return kp_arena_strndup(arena, out.data, out.len);
}

/* "demo-cp-1=https://10.89.0.10:2380,..." of every control plane. */
static const char *etcd_peers(const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (cluster->nodes[i].control_plane)
            kp_buf_printf(&out, "%s%s=https://%s:2380", out.len ? "," : "", cluster->nodes[i].name,
                          cluster->nodes[i].address);
    }
    return kp_arena_strndup(arena, out.data, out.len);
}

static const char *etcd_pod(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                            struct kp_arena *arena)
{
    struct static_pod pod = {
        .component = "etcd", .cpu = "100m", .memory = "100Mi", .probe_host = "127.0.0.1",
        .mounts = {{"etcd-data", "/var/lib/etcd", "DirectoryOrCreate", false},
                   {"etcd-certs", "/etc/kubernetes/pki/etcd", "DirectoryOrCreate", true},
                   {"etcd-begun", "/var/lib/kprov/etcd", "DirectoryOrCreate", false}},
        .env = {"KPROV_ETCD_BEGUN", "/var/lib/kprov/etcd/begun"}, /* elsewhere than the data: it tells that there was some */
        .probes = {{"livenessProbe", "HTTP", "/health?exclude=NOSPACE&serializable=true", 2381, 10, 15, 8},
                   {"startupProbe", "HTTP", "/health?serializable=false", 2381, 1, 15, 120}},
        .n_probes = 2,
    };
    struct bootstrap_args *args = &pod.args;
    const char *client = kp_arena_printf(arena, "https://%s:2379", node->address);
    const char *peer = kp_arena_printf(arena, "https://%s:2380", node->address);
    bootstrap_args_set(args, "name", node->name);
    bootstrap_args_set(args, "data-dir", "/var/lib/etcd");
    bootstrap_args_set(args, "advertise-client-urls", client);
    bootstrap_args_set(args, "listen-client-urls", kp_arena_printf(arena, "https://127.0.0.1:2379,%s", client));
    bootstrap_args_set(args, "initial-advertise-peer-urls", peer);
    bootstrap_args_set(args, "listen-peer-urls", peer);
    bootstrap_args_set(args, "listen-metrics-urls", "http://127.0.0.1:2381");
    bootstrap_args_set(args, "initial-cluster", cluster->etcd_members ? cluster->etcd_members : etcd_peers(cluster, arena));
    bootstrap_args_set(args, "initial-cluster-state", cluster->etcd_members ? "existing" : "new");
    bootstrap_args_set(args, "initial-cluster-token", cluster->uid);
    bootstrap_args_set(args, "client-cert-auth", "true");
    bootstrap_args_set(args, "peer-client-cert-auth", "true");
    bootstrap_args_set(args, "cert-file", "/etc/kubernetes/pki/etcd/server.crt");
    bootstrap_args_set(args, "key-file", "/etc/kubernetes/pki/etcd/server.key");
    bootstrap_args_set(args, "trusted-ca-file", "/etc/kubernetes/pki/etcd/ca.crt");
    bootstrap_args_set(args, "peer-cert-file", "/etc/kubernetes/pki/etcd/peer.crt");
    bootstrap_args_set(args, "peer-key-file", "/etc/kubernetes/pki/etcd/peer.key");
    bootstrap_args_set(args, "peer-trusted-ca-file", "/etc/kubernetes/pki/etcd/ca.crt");
    bootstrap_args_set(args, "snapshot-count", "10000");
    bootstrap_args_override(args, cluster->config, "etcd");
    return print_pod(cluster, &pod, arena);
}

static const struct probe api_probes[] = {
    {"livenessProbe", "HTTPS", "/livez", BOOTSTRAP_API_PORT, 10, 15, 8},
    {"readinessProbe", "HTTPS", "/readyz", BOOTSTRAP_API_PORT, READY_PERIOD_S, 15, 3},
    {"startupProbe", "HTTPS", "/livez", BOOTSTRAP_API_PORT, 1, 15, 120},
};

/* Flags of the cluster file say otherwise, if they do. */
static void add_audit(struct static_pod *pod)
{
    struct bootstrap_args *args = &pod->args;
    size_t n = 0;
    while (pod->mounts[n].name)
        n++;
    KP_ASSERT(n + 2 <= MOUNTS_MAX);
    pod->mounts[n] = (struct host_mount){"audit-policy", BOOTSTRAP_AUDIT_POLICY, "File", true};
    pod->mounts[n + 1] = (struct host_mount){"audit-log", BOOTSTRAP_AUDIT_DIR, "DirectoryOrCreate", false};
    bootstrap_args_set(args, "audit-log-maxage", "30");
    bootstrap_args_set(args, "audit-log-maxbackup", "10");
    bootstrap_args_set(args, "audit-log-maxsize", "100");
    bootstrap_args_set(args, "audit-log-path", BOOTSTRAP_AUDIT_LOG);
    bootstrap_args_set(args, "audit-policy-file", BOOTSTRAP_AUDIT_POLICY);
}

static const char *apiserver_pod(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                                 struct kp_arena *arena)
{
    struct static_pod pod = {
        .component = "kube-apiserver", .cpu = "250m", .memory = "64Mi", .probe_host = node->address,
        .mounts = {{"k8s-certs", "/etc/kubernetes/pki", "DirectoryOrCreate", true},
                   {"ca-certs", "/etc/ssl/certs", "DirectoryOrCreate", true}},
        .n_probes = KP_ARRAY_LEN(api_probes),
    };
    memcpy(pod.probes, api_probes, sizeof(api_probes));
    struct bootstrap_args *args = &pod.args;
    bootstrap_args_set(args, "advertise-address", node->address);
    bootstrap_args_set(args, "allow-privileged", "true");
    if (*cluster->config->audit_policy)
        add_audit(&pod);
    bootstrap_args_set(args, "authorization-mode", "Node,RBAC");
    bootstrap_args_set(args, "client-ca-file", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "enable-admission-plugins", "NodeRestriction");
    bootstrap_args_set(args, "etcd-cafile", "/etc/kubernetes/pki/etcd/ca.crt");
    bootstrap_args_set(args, "etcd-certfile", "/etc/kubernetes/pki/apiserver-etcd-client.crt");
    bootstrap_args_set(args, "etcd-keyfile", "/etc/kubernetes/pki/apiserver-etcd-client.key");
    bootstrap_args_set(args, "etcd-servers", "https://127.0.0.1:2379");
    bootstrap_args_set(args, "kubelet-certificate-authority", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "kubelet-client-certificate", "/etc/kubernetes/pki/apiserver-kubelet-client.crt");
    bootstrap_args_set(args, "kubelet-client-key", "/etc/kubernetes/pki/apiserver-kubelet-client.key");
    bootstrap_args_set(args, "kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname");
    bootstrap_args_set(args, "proxy-client-cert-file", "/etc/kubernetes/pki/front-proxy-client.crt");
    bootstrap_args_set(args, "proxy-client-key-file", "/etc/kubernetes/pki/front-proxy-client.key");
    bootstrap_args_set(args, "requestheader-allowed-names", "front-proxy-client");
    bootstrap_args_set(args, "requestheader-client-ca-file", "/etc/kubernetes/pki/front-proxy-ca.crt");
    bootstrap_args_set(args, "requestheader-extra-headers-prefix", "X-Remote-Extra-");
    bootstrap_args_set(args, "requestheader-group-headers", "X-Remote-Group");
    bootstrap_args_set(args, "requestheader-username-headers", "X-Remote-User");
    bootstrap_args_set(args, "secure-port", "6443");
    bootstrap_args_set(args, "service-account-issuer",
                       kp_arena_printf(arena, "https://kubernetes.default.svc.%s", cluster->config->network.dns_domain));
    bootstrap_args_set(args, "service-account-key-file",
                       cluster->pki->other_service_accounts ? "/etc/kubernetes/pki/sa.pub,/etc/kubernetes/pki/sa-other.pub"
                                                            : "/etc/kubernetes/pki/sa.pub");
    bootstrap_args_set(args, "service-account-signing-key-file", "/etc/kubernetes/pki/sa.key");
    bootstrap_args_set(args, "service-cluster-ip-range", cluster->config->network.service_cidr);
    bootstrap_args_set(args, "tls-cert-file", "/etc/kubernetes/pki/apiserver.crt");
    bootstrap_args_set(args, "tls-private-key-file", "/etc/kubernetes/pki/apiserver.key");
    bootstrap_args_override(args, cluster->config, "kube-apiserver");
    return print_pod(cluster, &pod, arena);
}

static const char *controller_manager_pod(const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    static const char *const conf = "/etc/kubernetes/controller-manager.conf";
    struct static_pod pod = {
        .component = "kube-controller-manager", .cpu = "200m", .memory = "32Mi", .probe_host = "127.0.0.1",
        .mounts = {{"k8s-certs", "/etc/kubernetes/pki", "DirectoryOrCreate", true},
                   {"ca-certs", "/etc/ssl/certs", "DirectoryOrCreate", true},
                   {"kubeconfig", "/etc/kubernetes/controller-manager.conf", "FileOrCreate", true}},
        .probes = {{"livenessProbe", "HTTPS", "/healthz", 10257, 10, 15, 8},
                   {"startupProbe", "HTTPS", "/healthz", 10257, 1, 15, 120}},
        .n_probes = 2,
    };
    struct bootstrap_args *args = &pod.args;
    bootstrap_args_set(args, "allocate-node-cidrs", "true");
    bootstrap_args_set(args, "authentication-kubeconfig", conf);
    bootstrap_args_set(args, "authorization-kubeconfig", conf);
    bootstrap_args_set(args, "bind-address", "127.0.0.1");
    bootstrap_args_set(args, "client-ca-file", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "cluster-cidr", cluster->config->network.pod_cidr);
    bootstrap_args_set(args, "cluster-name", cluster->config->name);
    bootstrap_args_set(args, "cluster-signing-cert-file", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "cluster-signing-key-file", "/etc/kubernetes/pki/ca.key");
    bootstrap_args_set(args, "controllers", "*,bootstrapsigner,tokencleaner");
    bootstrap_args_set(args, "kubeconfig", conf);
    bootstrap_args_set(args, "leader-elect", "true");
    bootstrap_args_set(args, "requestheader-client-ca-file", "/etc/kubernetes/pki/front-proxy-ca.crt");
    bootstrap_args_set(args, "root-ca-file", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "service-account-private-key-file", "/etc/kubernetes/pki/sa.key");
    bootstrap_args_set(args, "service-cluster-ip-range", cluster->config->network.service_cidr);
    bootstrap_args_set(args, "use-service-account-credentials", "true");
    bootstrap_args_override(args, cluster->config, "kube-controller-manager");
    return print_pod(cluster, &pod, arena);
}

static const char *scheduler_pod(const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    static const char *const conf = "/etc/kubernetes/scheduler.conf";
    struct static_pod pod = {
        .component = "kube-scheduler", .cpu = "100m", .memory = "16Mi", .probe_host = "127.0.0.1",
        .mounts = {{"client-ca", "/etc/kubernetes/pki/ca.crt", "FileOrCreate", true},
                   {"kubeconfig", "/etc/kubernetes/scheduler.conf", "FileOrCreate", true}},
        .probes = {{"livenessProbe", "HTTPS", "/livez", 10259, 10, 15, 8},
                   {"readinessProbe", "HTTPS", "/readyz", 10259, READY_PERIOD_S, 15, 3},
                   {"startupProbe", "HTTPS", "/livez", 10259, 1, 15, 120}},
        .n_probes = 3,
    };
    struct bootstrap_args *args = &pod.args;
    bootstrap_args_set(args, "authentication-kubeconfig", conf);
    bootstrap_args_set(args, "authorization-kubeconfig", conf);
    bootstrap_args_set(args, "bind-address", "127.0.0.1");
    bootstrap_args_set(args, "client-ca-file", "/etc/kubernetes/pki/ca.crt");
    bootstrap_args_set(args, "kubeconfig", conf);
    bootstrap_args_set(args, "leader-elect", "true");
    bootstrap_args_override(args, cluster->config, "kube-scheduler");
    return print_pod(cluster, &pod, arena);
}

/* Holds the endpoint's address. A single one asks for the lease too: it may get company, which asks. */
static const char *vip_pod(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                           struct kp_arena *arena)
{
    struct static_pod pod = {
        .component = "kprov-vip", .cpu = "10m", .memory = "8Mi", .capabilities = "NET_ADMIN, NET_RAW",
        .mounts = {{"kubeconfig", "/etc/kubernetes/vip.conf", "FileOrCreate", true}},
    };
    struct bootstrap_args *args = &pod.args;
    bootstrap_args_set(args, "address", cluster->api_address);
    bootstrap_args_set(args, "node-ip", node->address);
    bootstrap_args_set(args, "identity", node->name);
    bootstrap_args_set(args, "kubeconfig", "/etc/kubernetes/vip.conf");
    bootstrap_args_set(args, "leader-elect", "true");
    return print_pod(cluster, &pod, arena);
}

void bootstrap_static_pods(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                           struct kp_arena *arena, struct bootstrap_static_pod ret[BOOTSTRAP_STATIC_PODS])
{
    ret[0] = (struct bootstrap_static_pod){"etcd", etcd_pod(cluster, node, arena)};
    ret[1] = (struct bootstrap_static_pod){"kube-apiserver", apiserver_pod(cluster, node, arena)};
    ret[2] = (struct bootstrap_static_pod){"kube-controller-manager", controller_manager_pod(cluster, arena)};
    ret[3] = (struct bootstrap_static_pod){"kube-scheduler", scheduler_pod(cluster, arena)};
    ret[4] = (struct bootstrap_static_pod){"kprov-vip", kp_empty(cluster->api_address) ? NULL : vip_pod(cluster, node, arena)};
}
