/* What a cluster gets through its API before anyone asks: bindings, kube-proxy, the pod network, load balancers, cluster DNS. */
#include "provisioner/bootstrap/bootstrap.h"

/* Asked every second until it is ready for the first time, seldom from then on. It waits for the API as long as that takes: nobody is
   killed for it within an hour. */
#define QUICK_START(http_get) "        startupProbe: {httpGet: " http_get ", periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 3600}\n"

#include "lib/vip/vip.h"

static const char bindings[] =
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n"
    "metadata: {name: 'kubeadm:cluster-admins'}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n"
    "subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'kubeadm:cluster-admins'}\n";

/* An agent on every node: service account, binding, a kubeconfig that does not need Services to work yet, DaemonSet. */
struct agent {
    bool holds_addresses;     /* takes --load-balancer-addresses */
    bool on_control_planes;   /* only there, one of them leads; not an agent of the node */
    const char *name;         /* of all its objects */
    const char *image;        /* the program */
    const char *cluster_role; /* that it is bound to */
    const char *own_role;     /* document of that role, or NULL when the API server makes it */
    const char *mounts;       /* lines below volumeMounts */
    const char *volumes;      /* lines below volumes */
    const char *probe;        /* the check that says ready: its rules, or routes, are in the kernel; NULL: none */
};

/* The nodes' leases by which they know who is alive: a namespace of their own, since every node may write each of them. */
#define BALANCER_NAMESPACE                                                                                                            \
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: " VIP_NAMESPACE "}\n---\n"                                                    \
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'kprov:load-balancer', namespace: " VIP_NAMESPACE "}\n"   \
    "rules:\n- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, watch, create, patch, delete]}\n---\n"      \
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n"                                                                   \
    "metadata: {name: 'kprov:load-balancer', namespace: " VIP_NAMESPACE "}\n"                                                          \
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: 'kprov:load-balancer'}\n"                                        \
    "subjects:\n- {kind: ServiceAccount, name: kprov-network, namespace: kube-system}\n---\n"

static const struct agent agents[] = {
    {
        .name = "kube-proxy",
        .image = "kube-proxy",
        .cluster_role = "system:node-proxier",
        .probe = "{host: 127.0.0.1, path: /readyz, port: 10256}",
        .mounts = "",
        .volumes = "",
    },
    {
        .name = "kprov-network",
        .image = "kprov-network",
        .cluster_role = "kprov:network",
        .probe = "{host: 127.0.0.1, path: /readyz, port: 10246}",
        .holds_addresses = true,
        .own_role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'kprov:network'}\nrules:\n"
                    "- {apiGroups: [''], resources: [nodes, pods, namespaces, services], verbs: [get, list, watch]}\n"
                    "- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}\n"
                    "- {apiGroups: [''], resources: [nodes/status], verbs: [patch]}\n"
                    "- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [get, list, watch]}\n"
                    "- {apiGroups: ['', events.k8s.io], resources: [events], verbs: [create, patch, update]}\n---\n" BALANCER_NAMESPACE,
        .mounts = "        - {name: cni-conf, mountPath: /etc/cni/net.d}\n",
        .volumes = "      - {name: cni-conf, hostPath: {path: /etc/cni/net.d, type: DirectoryOrCreate}}\n",
    },
    {
        .name = "cloud-controller-manager",
        .image = "cloud-controller-manager",
        .cluster_role = "kprov:cloud-controller-manager",
        .holds_addresses = true,
        .on_control_planes = true,
        .own_role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'kprov:cloud-controller-manager'}\nrules:\n"
                    "- {apiGroups: [''], resources: [services], verbs: [get, list, watch, patch, update]}\n"
                    "- {apiGroups: [''], resources: [services/status], verbs: [patch, update]}\n"
                    "- {apiGroups: [''], resources: [nodes], verbs: [get, list, watch, patch, update, delete]}\n"
                    "- {apiGroups: [''], resources: [nodes/status], verbs: [patch]}\n"
                    "- {apiGroups: ['', events.k8s.io], resources: [events], verbs: [create, patch, update]}\n---\n"
                    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n"
                    "metadata: {name: 'kprov:cloud-controller-manager', namespace: kube-system}\nrules:\n"
                    "- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}\n"
                    "- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [cloud-controller-manager], verbs: [get, update]}\n"
                    "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n"
                    "metadata: {name: 'kprov:cloud-controller-manager', namespace: kube-system}\n"
                    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: 'kprov:cloud-controller-manager'}\n"
                    "subjects:\n- {kind: ServiceAccount, name: cloud-controller-manager, namespace: kube-system}\n---\n",
        .mounts = "",
        .volumes = "",
    },
};

const char *bootstrap_balancer_addresses(const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    uint32_t base;
    int prefix;
    if (*cluster->config->load_balancer.addresses)
        return cluster->config->load_balancer.addresses;
    if (cluster->cloud) /* it has load balancers, and numbers its machines as it likes */
        return "";
    if (*cluster->config->libvirt.bridge) /* somebody else's network: nobody can know which of it is free */
        return "";
    if (kp_empty(cluster->machine_cidr) || config_parse_cidr(cluster->machine_cidr, &base, &prefix) < 0 || prefix > 24)
        return "";
    return kp_arena_printf(arena, "%s-%s", config_cidr_address(cluster->machine_cidr, 201, arena),
                           config_cidr_address(cluster->machine_cidr, 250, arena));
}

static void print_args(struct kp_buf *out, const struct bootstrap_args *args, struct kp_arena *arena)
{
    for (size_t i = 0; i < args->len; i++) {
        kp_buf_puts(out, "        - ");
        kp_json_string(out, kp_arena_printf(arena, "--%s=%s", args->names[i], args->values[i]));
        kp_buf_putc(out, '\n');
    }
}

static void print_account(struct kp_buf *out, const struct agent *agent, const char *endpoint)
{
    kp_buf_printf(out, "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: kube-system}\n---\n",
                  agent->name);
    if (agent->own_role)
        kp_buf_puts(out, agent->own_role);
    kp_buf_printf(out,
                  "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: 'kprov:%s'}\n"
                  "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: '%s'}\n"
                  "subjects:\n- {kind: ServiceAccount, name: %s, namespace: kube-system}\n---\n",
                  agent->name, agent->cluster_role, agent->name);
    kp_buf_printf(out,
                  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: kube-system}\ndata:\n"
                  "  kubeconfig.conf: |\n    apiVersion: v1\n    kind: Config\n    clusters:\n    - name: default\n"
                  "      cluster:\n        certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt\n"
                  "        server: %s\n    contexts:\n    - name: default\n      context: {cluster: default, user: default}\n"
                  "    current-context: default\n    users:\n    - name: default\n      user:\n"
                  "        tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token\n",
                  agent->name, endpoint);
}

static bool asks_cloud(const struct bootstrap_cluster *cluster, const struct agent *agent)
{
    return cluster->cloud && agent->on_control_planes;
}

static void cloud_args(const struct bootstrap_cluster *cluster, struct bootstrap_args *args)
{
    bootstrap_args_set(args, "cloud-provider", cluster->cloud->driver);
    bootstrap_args_set(args, "cloud-config", BOOTSTRAP_CLOUD_DIR "/" BOOTSTRAP_CLOUD_CONFIG);
    bootstrap_args_set(args, "cluster-name", cluster->config->name);
    bootstrap_args_set(args, "cluster-uid", cluster->uid);
    bootstrap_args_set(args, "cluster-cidr", cluster->config->network.pod_cidr);
    bootstrap_args_set(args, "configure-cloud-routes", cluster->cloud->routes ? "true" : "false");
}

/* With a stamp of its own in the pods: a manager reads its file when it starts. */
static void print_cloud_secret(struct kp_buf *out, const struct bootstrap_cloud *cloud)
{
    kp_buf_puts(out, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: " BOOTSTRAP_CLOUD_SECRET ", namespace: kube-system}\ntype: Opaque\ndata:\n");
    for (size_t i = 0; i < cloud->files.len; i++) {
        kp_buf_printf(out, "  %s: ", cloud->files.items[i].key);
        kp_base64_encode(out, cloud->files.items[i].value, strlen(cloud->files.items[i].value));
        kp_buf_putc(out, '\n');
    }
}

static const char *cloud_stamp(const struct bootstrap_cloud *cloud, struct kp_arena *arena)
{
    char hash[TLS_SHA256_HEX_BYTES];
    KP_AUTO_BUF struct kp_buf all = {0};
    print_cloud_secret(&all, cloud);
    tls_sha256_hex(all.data, all.len, hash);
    return kp_arena_printf(arena, ", kprov.dev/files: \"%.16s\"", hash);
}

static void print_daemon_set(struct kp_buf *out, const struct bootstrap_cluster *cluster, const struct agent *agent,
                             struct kp_arena *arena)
{
    const struct config *config = cluster->config;
    struct bootstrap_args args = {0};
    bootstrap_args_set(&args, "kubeconfig", kp_arena_printf(arena, "/var/lib/%s/kubeconfig.conf", agent->name));
    if (!agent->on_control_planes) {
        bootstrap_args_set(&args, "hostname-override", "$(NODE_NAME)");
        bootstrap_args_set(&args, "cluster-cidr", config->network.pod_cidr);
    }
    if (agent->holds_addresses)
        bootstrap_args_set(&args, "load-balancer-addresses", bootstrap_balancer_addresses(cluster, arena));
    if (asks_cloud(cluster, agent))
        cloud_args(cluster, &args);
    bootstrap_args_override(&args, config, agent->name);
    kp_buf_printf(out,
                  "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: %s, namespace: kube-system, labels: {k8s-app: %s}}\n"
                  "spec:\n  selector: {matchLabels: {k8s-app: %s}}\n"
                  "  updateStrategy: {type: RollingUpdate}\n"
                  "  template:\n    metadata: {annotations: {" BOOTSTRAP_SHIM_GROUP "%s}, labels: {k8s-app: %s}}\n    spec:\n"
                  "      priorityClassName: system-node-critical\n      hostNetwork: true\n%s"
                  "      serviceAccountName: %s\n      tolerations: [{operator: Exists}]\n"
                  "      containers:\n      - name: %s\n        image: " BOOTSTRAP_REGISTRY "/%s:%s\n"
                  "        imagePullPolicy: IfNotPresent\n        securityContext: {privileged: %s}\n"
                  "        env:\n        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n"
                  "        args:\n",
                  agent->name, agent->name, agent->name, asks_cloud(cluster, agent) ? cloud_stamp(cluster->cloud, arena) : "", agent->name,
                  agent->on_control_planes ? "      nodeSelector: {node-role.kubernetes.io/control-plane: ''}\n" : "", agent->name, agent->name,
                  agent->image, BOOTSTRAP_NODE_TAG, agent->on_control_planes ? "false" : "true");
    print_args(out, &args, arena);
    kp_buf_printf(out,
                  "%s"
                  "        volumeMounts:\n        - {name: config, mountPath: /var/lib/%s}\n%s%s"
                  "      volumes:\n      - {name: config, configMap: {name: %s}}\n%s%s",
                  agent->probe ? kp_arena_printf(arena, QUICK_START("%s") "        readinessProbe: {httpGet: %s, periodSeconds: 10}\n", agent->probe, agent->probe) : "",
                  agent->name, agent->mounts,
                  asks_cloud(cluster, agent) ? "        - {name: cloud-config, mountPath: " BOOTSTRAP_CLOUD_DIR ", readOnly: true}\n" : "", agent->name,
                  agent->volumes,
                  asks_cloud(cluster, agent) ? "      - {name: cloud-config, secret: {secretName: " BOOTSTRAP_CLOUD_SECRET ", defaultMode: 256}}\n" : "");
}

static void print_dns_rbac(struct kp_buf *out)
{
    kp_buf_puts(out,
                "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: kprov-dns, namespace: kube-system}\n"
                "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'kprov:dns'}\nrules:\n"
                "- {apiGroups: [''], resources: [services, pods, namespaces, nodes], verbs: [get, list, watch]}\n"
                "- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}\n"
                "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: 'kprov:dns'}\n"
                "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'kprov:dns'}\n"
                "subjects:\n- {kind: ServiceAccount, name: kprov-dns, namespace: kube-system}\n");
}

static void print_dns(struct kp_buf *out, const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    const struct config *config = cluster->config;
    struct bootstrap_args args = {0};
    bootstrap_args_set(&args, "cluster-domain", config->network.dns_domain);
    bootstrap_args_override(&args, config, "kprov-dns");
    print_dns_rbac(out);
    kp_buf_printf(out,
                  "---\napiVersion: v1\nkind: Service\n"
                  "metadata:\n  name: kube-dns\n  namespace: kube-system\n"
                  "  labels: {k8s-app: kube-dns, kubernetes.io/cluster-service: 'true', kubernetes.io/name: CoreDNS}\n"
                  "spec:\n  clusterIP: %s\n  selector: {k8s-app: kube-dns}\n  ports:\n"
                  "  - {name: dns, port: 53, protocol: UDP, targetPort: 53}\n"
                  "  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}\n"
                  "  - {name: metrics, port: 9153, protocol: TCP, targetPort: 9153}\n",
                  config_cidr_address(config->network.service_cidr, 10, arena));
    kp_buf_printf(out,
                  "---\napiVersion: apps/v1\nkind: Deployment\n"
                  "metadata: {name: kprov-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}\n"
                  "spec:\n  replicas: 2\n  selector: {matchLabels: {k8s-app: kube-dns}}\n"
                  "  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}\n"
                  "  template:\n    metadata: {annotations: {" BOOTSTRAP_SHIM_GROUP "}, labels: {k8s-app: kube-dns}}\n    spec:\n"
                  "      priorityClassName: system-cluster-critical\n      serviceAccountName: kprov-dns\n"
                  "      dnsPolicy: Default\n"
                  "      tolerations:\n      - {key: CriticalAddonsOnly, operator: Exists}\n"
                  "      - {key: node-role.kubernetes.io/control-plane, effect: NoSchedule}\n"
                  "      containers:\n      - name: kprov-dns\n        image: " BOOTSTRAP_REGISTRY "/kprov-dns:%s\n"
                  "        imagePullPolicy: IfNotPresent\n        args:\n",
                  BOOTSTRAP_NODE_TAG);
    print_args(out, &args, arena);
    kp_buf_puts(out,
                "        ports:\n        - {name: dns, containerPort: 53, protocol: UDP}\n"
                "        - {name: dns-tcp, containerPort: 53, protocol: TCP}\n"
                "        - {name: metrics, containerPort: 9153, protocol: TCP}\n"
                "        resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {memory: 170Mi}}\n"
                "        livenessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 10, timeoutSeconds: 5}\n"
                QUICK_START("{path: /ready, port: 8181}")
                "        readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 10}\n");
}

const char *bootstrap_addons(const struct bootstrap_cluster *cluster, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, bindings);
    if (cluster->cloud)
        print_cloud_secret(&out, cluster->cloud);
    for (size_t i = 0; i < KP_ARRAY_LEN(agents); i++) {
        print_account(&out, &agents[i], cluster->endpoint);
        print_daemon_set(&out, cluster, &agents[i], arena);
    }
    print_dns(&out, cluster, arena);
    return kp_arena_strndup(arena, out.data, out.len);
}
