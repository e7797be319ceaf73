/* The user data that makes a blank machine a particular node: what nodeimage/init writes, sets and starts. */
#include <arpa/inet.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/remote/remote.h"

#define PKI_DIR "/etc/kubernetes/pki/"
#define SSH_HOST_KEY "/etc/dropbear/dropbear_ed25519_host_key"

struct node_writer {
    const struct bootstrap_cluster *cluster;
    const struct bootstrap_node *node;
    struct kp_arena *arena;
    struct kp_value *files;
    struct kp_error *error;
};

static void add_file(struct node_writer *writer, const char *path, const char *mode, const char *content)
{
    struct kp_value *file = kp_value_object(writer->arena);
    kp_value_set(writer->arena, file, "path", kp_value_string(writer->arena, path));
    kp_value_set(writer->arena, file, "mode", kp_value_string(writer->arena, mode));
    kp_value_set(writer->arena, file, "content", kp_value_string(writer->arena, content));
    kp_value_append(writer->arena, writer->files, file);
}

/* root logs in by the cluster's key, and finds the host key that follows from the machine's name. */
static void add_ssh(struct node_writer *writer)
{
    KP_AUTO_BUF struct kp_buf line = {0}, key = {0}, base64 = {0};
    struct sshc_key host;
    remote_host_key(writer->cluster->ssh, writer->node->name, &host);
    sshc_key_public_line(&writer->cluster->ssh->identity, kp_arena_printf(writer->arena, "kprov-%s", writer->cluster->config->name), &line);
    add_file(writer, "/root/.ssh/authorized_keys", "0600", line.data);
    sshc_key_dropbear(&host, &key);
    kp_base64_encode(&base64, key.data, key.len);
    add_file(writer, SSH_HOST_KEY, "0600", base64.data);
    kp_value_set(writer->arena, writer->files->array.items[writer->files->array.len - 1], "encoding", kp_value_string(writer->arena, "base64"));
}

static void add_trust(struct node_writer *writer, const char *name, const struct pki_ca *ca)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    pki_trust(ca, &pem);
    add_file(writer, kp_arena_printf(writer->arena, PKI_DIR "%s.crt", name), "0644", pem.data);
}

static int add_key(struct node_writer *writer, const char *name, const struct tls_key *key)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int r = tls_key_to_pem(key, &pem, writer->error);
    if (r == 0)
        add_file(writer, kp_arena_printf(writer->arena, PKI_DIR "%s.key", name), "0600", pem.data);
    return r;
}

static int add_leaf(struct node_writer *writer, const char *path, const struct pki_ca *ca, const struct pki_leaf *leaf)
{
    const char *cert = NULL, *key = NULL;
    int r = pki_issue(ca, leaf, writer->arena, &cert, &key, writer->error);
    if (r < 0)
        return r;
    add_file(writer, kp_arena_printf(writer->arena, "%s.crt", path), "0644", cert);
    add_file(writer, kp_arena_printf(writer->arena, "%s.key", path), "0600", key);
    return 0;
}

static bool is_address(const char *text)
{
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_listed(const char *const *list, const char *text)
{
    for (; *list; list++)
        if (kp_streq(*list, text))
            return true;
    return false;
}

/* As kubeadm: its table of certificates (kubeadm/app/phases/certs). */
static int add_control_plane_certs(struct node_writer *writer)
{
    const struct pki *pki = writer->cluster->pki;
    const struct config *config = writer->cluster->config;
    const char *name = writer->node->name, *address = writer->node->address;
    const char *domain = config->network.dns_domain;
    const unsigned both = TLS_USAGE_SERVER | TLS_USAGE_CLIENT;
    const char *api_names[BOOTSTRAP_SANS_MAX + 1] = {
        "kubernetes", "kubernetes.default", "kubernetes.default.svc",
        kp_arena_printf(writer->arena, "kubernetes.default.svc.%s", domain), name, "localhost",
    };
    const char *api_addresses[BOOTSTRAP_SANS_MAX + 4] = {config_cidr_address(config->network.service_cidr, 1, writer->arena), "127.0.0.1"};
    size_t n = 2, n_names = 6;
    if (!kp_empty(writer->cluster->api_address))
        api_addresses[n++] = writer->cluster->api_address;
    for (const char *const *other = writer->cluster->api_names; other && *other; other++) {
        if (is_address(*other) && !is_listed(api_addresses, *other) && n < BOOTSTRAP_SANS_MAX)
            api_addresses[n++] = *other;
        else if (!is_address(*other) && n_names < BOOTSTRAP_SANS_MAX)
            api_names[n_names++] = *other;
    }
    for (size_t i = 0; i < writer->cluster->n_nodes && n < BOOTSTRAP_SANS_MAX; i++) {
        if (writer->cluster->nodes[i].control_plane)
            api_addresses[n++] = writer->cluster->nodes[i].address;
    }
    const char *etcd_names[] = {"localhost", name, NULL};
    const char *etcd_addresses[] = {address, "127.0.0.1", "::1", NULL};
    const struct {
        const char *path;
        const struct pki_ca *ca;
        struct pki_leaf leaf;
    } leaves[] = {
        {"apiserver", &pki->ca, {"kube-apiserver", NULL, TLS_USAGE_SERVER, api_names, api_addresses}},
        {"apiserver-kubelet-client", &pki->ca,
         {"kube-apiserver-kubelet-client", "kubeadm:cluster-admins", TLS_USAGE_CLIENT, NULL, NULL}},
        {"apiserver-etcd-client", &pki->etcd_ca, {"kube-apiserver-etcd-client", NULL, TLS_USAGE_CLIENT, NULL, NULL}},
        {"front-proxy-client", &pki->front_proxy_ca, {"front-proxy-client", NULL, TLS_USAGE_CLIENT, NULL, NULL}},
        {"etcd/server", &pki->etcd_ca, {name, NULL, both, etcd_names, etcd_addresses}},
        {"etcd/peer", &pki->etcd_ca, {name, NULL, both, etcd_names, etcd_addresses}},
        {"etcd/healthcheck-client", &pki->etcd_ca, {"kube-etcd-healthcheck-client", NULL, TLS_USAGE_CLIENT, NULL, NULL}},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(leaves); i++)
        r = add_leaf(writer, kp_arena_printf(writer->arena, PKI_DIR "%s", leaves[i].path), leaves[i].ca, &leaves[i].leaf);
    return r;
}

static int add_public_key(struct node_writer *writer, const char *file, const struct tls_key *key)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int r = tls_key_public_to_pem(key, &pem, writer->error);
    if (r == 0)
        add_file(writer, kp_arena_printf(writer->arena, PKI_DIR "%s", file), "0600", pem.data);
    return r;
}

static int add_control_plane_keys(struct node_writer *writer)
{
    const struct pki *pki = writer->cluster->pki;
    int r = add_public_key(writer, "sa.pub", pki->service_accounts);
    if (r == 0 && pki->other_service_accounts)
        r = add_public_key(writer, "sa-other.pub", pki->other_service_accounts);
    if (r < 0)
        return r;
    add_trust(writer, "etcd/ca", &pki->etcd_ca);
    add_trust(writer, "front-proxy-ca", &pki->front_proxy_ca);
    r = add_key(writer, "ca", pki->ca.key);
    if (r == 0)
        r = add_key(writer, "etcd/ca", pki->etcd_ca.key);
    if (r == 0)
        r = add_key(writer, "front-proxy-ca", pki->front_proxy_ca.key);
    return r < 0 ? r : add_key(writer, "sa", pki->service_accounts);
}

static int add_kubeconfig(struct node_writer *writer, const char *file, const char *server, const char *common_name,
                          const char *organization)
{
    const char *text = NULL;
    int r = kubeconfig_make(writer->cluster->pki, writer->cluster->config->name, server, common_name, common_name,
                            organization, writer->arena, &text, writer->error);
    if (r == 0)
        add_file(writer, kp_arena_printf(writer->arena, "/etc/kubernetes/%s", file), "0600", text);
    return r;
}

/* What runs beside an API server talks to that one, as kubeadm has it - the kubelet too (ControlPlaneKubeletLocalMode): it
   starts before the endpoint's address is anywhere. */
static const char *own_endpoint(const struct node_writer *writer)
{
    return kp_arena_printf(writer->arena, "https://%s:%d", writer->node->address, BOOTSTRAP_API_PORT);
}

/* What a program looks at when it starts and never again; certificates of etcd and the API server are not here, they are read anew. */
static const struct {
    const char *pod, *files[7]; /* below /etc/kubernetes */
} read_once[] = {
    {"etcd", {"pki/etcd/ca.crt"}},
    {"kube-apiserver", {"pki/ca.crt", "pki/front-proxy-ca.crt", "pki/etcd/ca.crt", "pki/sa.pub", "pki/sa-other.pub", "pki/sa.key"}},
    {"kube-controller-manager", {"controller-manager.conf", "pki/ca.crt", "pki/ca.key", "pki/sa.key", "pki/front-proxy-ca.crt"}},
    {"kube-scheduler", {"scheduler.conf", "pki/ca.crt"}},
    {"kprov-vip", {"vip.conf"}},
};

static const char *written(const struct node_writer *writer, const char *path)
{
    for (size_t i = 0; i < writer->files->array.len; i++) {
        const struct kp_value *file = writer->files->array.items[i];
        if (kp_streq(kp_value_str(kp_value_get(file, "path")), path))
            return kp_value_str(kp_value_get(file, "content"));
    }
    return "";
}

static void stamp_pods(const struct node_writer *writer, struct kp_string_map *ret)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(read_once); i++) {
        char hash[TLS_SHA256_HEX_BYTES];
        KP_AUTO_BUF struct kp_buf all = {0};
        for (size_t f = 0; f < KP_ARRAY_LEN(read_once[i].files) && read_once[i].files[f]; f++) {
            kp_buf_puts(&all, written(writer, kp_arena_printf(writer->arena, "/etc/kubernetes/%s", read_once[i].files[f])));
            kp_buf_putc(&all, 0);
        }
        tls_sha256_hex(all.data, all.len, hash);
        kp_string_map_set(writer->arena, ret, read_once[i].pod, kp_arena_strndup(writer->arena, hash, 16));
    }
}

const char *bootstrap_snapshots_config(const struct config *config, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "everySeconds", kp_value_int(arena, config_snapshot_every_s(config)));
    kp_value_set(arena, root, "keep", kp_value_int(arena, config->snapshots.keep));
    kp_value_set(arena, root, "dir", kp_value_string(arena, config->snapshots.dir));
    kp_value_print(root, &text);
    return kp_arena_strndup(arena, text.data, text.len);
}

static int add_control_plane(struct node_writer *writer)
{
    const char *own = own_endpoint(writer);
    add_file(writer, BOOTSTRAP_SNAPSHOTS_CONFIG, "0600", bootstrap_snapshots_config(writer->cluster->config, writer->arena));
    if (*writer->cluster->config->audit_policy)
        add_file(writer, BOOTSTRAP_AUDIT_POLICY, "0600", writer->cluster->config->audit_policy);
    int r = add_control_plane_certs(writer);
    if (r == 0)
        r = add_control_plane_keys(writer);
    if (r == 0)
        r = add_kubeconfig(writer, "admin.conf", writer->cluster->endpoint, "kubernetes-admin", "system:masters");
    if (r == 0)
        r = add_kubeconfig(writer, "controller-manager.conf", own, "system:kube-controller-manager", NULL);
    if (r == 0)
        r = add_kubeconfig(writer, "scheduler.conf", own, "system:kube-scheduler", NULL);
    if (r == 0 && !kp_empty(writer->cluster->api_address))
        r = add_kubeconfig(writer, "vip.conf", own, "kprov:vip", NULL);
    if (r < 0)
        return r;
    struct bootstrap_static_pod pods[BOOTSTRAP_STATIC_PODS];
    struct bootstrap_cluster cluster = *writer->cluster;
    struct kp_string_map stamps = {0};
    stamp_pods(writer, &stamps);
    cluster.pod_stamps = &stamps;
    bootstrap_static_pods(&cluster, writer->node, writer->arena, pods);
    for (size_t i = 0; i < KP_ARRAY_LEN(pods) && pods[i].manifest; i++) /* the one that may be missing is the last */
        add_file(writer, kp_arena_printf(writer->arena, "/etc/kubernetes/manifests/%s.yaml", pods[i].name), "0600",
                 pods[i].manifest);
    return 0;
}

/* componentArgs.kubelet takes flags, and fields of the KubeletConfiguration: no flag has a capital letter, and all the
   fields that have no flag do. */
static bool is_config_field(const char *name)
{
    return strpbrk(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL;
}

static const char *extra_kubelet_fields(const struct node_writer *writer)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct kp_string_map *own = config_component_flags(writer->cluster->config, "kubelet");
    for (size_t i = 0; own && i < own->len; i++) {
        if (is_config_field(own->items[i].key))
            kp_buf_printf(&out, "%s: %s\n", own->items[i].key, own->items[i].value);
    }
    return out.len ? kp_arena_strndup(writer->arena, out.data, out.len) : "";
}

/* Machines of this host share its disk, which is not theirs to keep free (kind does the same). */
static const char *shared_disk_fields(const struct node_writer *writer)
{
    const struct kp_string_map *own = config_component_flags(writer->cluster->config, "kubelet");
    KP_AUTO_BUF struct kp_buf out = {0};
    if (!kp_streq(writer->cluster->config->provider, "local"))
        return "";
    if (!own || !kp_string_map_get(own, "evictionHard"))
        kp_buf_puts(&out, "evictionHard: {memory.available: 100Mi}\n");
    if (!own || !kp_string_map_get(own, "imageGCHighThresholdPercent"))
        kp_buf_puts(&out, "imageGCHighThresholdPercent: 100\n");
    return out.len ? kp_arena_strndup(writer->arena, out.data, out.len) : "";
}

static const char *provider_id(const struct node_writer *writer)
{
    return kp_empty(writer->node->provider_id) ? "" : kp_arena_printf(writer->arena, "providerID: %s\n", writer->node->provider_id);
}

static void add_kubelet_config(struct node_writer *writer)
{
    const struct config *config = writer->cluster->config;
    add_file(writer, "/var/lib/kubelet/config.yaml", "0644",
             kp_arena_printf(writer->arena,
                             "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
                             "authentication:\n  anonymous: {enabled: false}\n  webhook: {enabled: true, cacheTTL: 2m0s}\n"
                             "  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}\n"
                             "authorization: {mode: Webhook}\n"
                             "cgroupDriver: cgroupfs\n"
                             "clusterDNS: [%s]\nclusterDomain: %s\n"
                             "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"
                             "healthzBindAddress: 127.0.0.1\nhealthzPort: 10248\n"
                             "%s%s"
                             "resolvConf: /etc/resolv.conf\n"
                             "staticPodPath: /etc/kubernetes/manifests\n"
                             "tlsCertFile: /var/lib/kubelet/pki/kubelet.crt\n"
                             "tlsPrivateKeyFile: /var/lib/kubelet/pki/kubelet.key\n%s",
                             config_cidr_address(config->network.service_cidr, 10, writer->arena),
                             config->network.dns_domain, provider_id(writer), shared_disk_fields(writer), extra_kubelet_fields(writer)));
}

static const char *resolv_conf(const struct node_writer *writer)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *list = kp_empty(writer->node->nameservers) ? writer->node->gateway : writer->node->nameservers;
    while (list && *list) {
        size_t len = strcspn(list, " ");
        kp_buf_printf(&out, "nameserver %.*s\n", (int)len, list);
        list += len + strspn(list + len, " ");
    }
    return out.len ? kp_arena_strndup(writer->arena, out.data, out.len) : "";
}

static int add_node_files(struct node_writer *writer)
{
    const struct bootstrap_node *node = writer->node;
    const char *names[] = {node->name, NULL}, *addresses[] = {node->address, NULL};
    const char *user = kp_arena_printf(writer->arena, "system:node:%s", node->name);
    KP_AUTO_BUF struct kp_buf hosts = {0};
    kp_buf_puts(&hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for (size_t i = 0; i < writer->cluster->n_nodes; i++)
        kp_buf_printf(&hosts, "%s %s\n", writer->cluster->nodes[i].address, writer->cluster->nodes[i].name);
    add_file(writer, "/etc/hosts", "0644", hosts.data);
    add_file(writer, "/etc/hostname", "0644", kp_arena_printf(writer->arena, "%s\n", node->name));
    if (!node->dhcp || !kp_empty(node->nameservers))
        add_file(writer, "/etc/resolv.conf", "0644", resolv_conf(writer));
    add_trust(writer, "ca", &writer->cluster->pki->ca);
    add_kubelet_config(writer);
    const struct pki_leaf serving = {user, "system:nodes", TLS_USAGE_SERVER, names, addresses};
    int r = add_leaf(writer, "/var/lib/kubelet/pki/kubelet", &writer->cluster->pki->ca, &serving);
    const char *server = node->control_plane ? own_endpoint(writer) : writer->cluster->endpoint;
    return r < 0 ? r : add_kubeconfig(writer, "kubelet.conf", server, user, "system:nodes");
}

static const char *node_labels(const struct node_writer *writer)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct config_pool *pool = writer->node->pool;
    if (pool)
        kp_buf_printf(&out, "kprov.dev/pool=%s", pool->name);
    for (size_t i = 0; pool && i < pool->labels.len; i++)
        kp_buf_printf(&out, ",%s=%s", pool->labels.items[i].key, pool->labels.items[i].value);
    return out.len ? kp_arena_strndup(writer->arena, out.data, out.len) : NULL;
}

static const char *node_taints(const struct node_writer *writer)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct config_pool *pool = writer->node->pool;
    if (writer->node->control_plane)
        kp_buf_puts(&out, "node-role.kubernetes.io/control-plane=:NoSchedule");
    for (size_t i = 0; pool && i < pool->n_taints; i++)
        kp_buf_printf(&out, "%s%s=%s:%s", out.len ? "," : "", pool->taints[i].key, pool->taints[i].value,
                      pool->taints[i].effect);
    return out.len ? kp_arena_strndup(writer->arena, out.data, out.len) : NULL;
}

static void add_word(struct node_writer *writer, struct kp_value *list, const char *word)
{
    kp_value_append(writer->arena, list, kp_value_string(writer->arena, word));
}

/* Waits for nothing: it is what shows why the others do not start. -s: no passwords; -j -k: no forwarding; -K: a client that
   is gone holds nothing. */
static struct kp_value *sshd(struct node_writer *writer)
{
    static const char *const words[] = {"/usr/sbin/dropbear", "-F", "-E", "-s", "-j", "-k", "-K", "30", "-P", "/run/dropbear.pid",
                                        "-r", SSH_HOST_KEY};
    struct kp_value *service = kp_value_object(writer->arena), *command = kp_value_array(writer->arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(words); i++)
        add_word(writer, command, words[i]);
    kp_value_set(writer->arena, service, "name", kp_value_string(writer->arena, "sshd"));
    kp_value_set(writer->arena, service, "command", command);
    return service;
}

/* The kubelet is not asked: etcd's database is saved also while no pod can be started. */
static struct kp_value *snapshots(struct node_writer *writer)
{
    struct kp_value *service = kp_value_object(writer->arena), *command = kp_value_array(writer->arena);
    add_word(writer, command, "/usr/lib/kprov/bin/kprov-snapshots");
    kp_value_set(writer->arena, service, "name", kp_value_string(writer->arena, "etcd-snapshots"));
    kp_value_set(writer->arena, service, "command", command);
    return service;
}

static struct kp_value *services(struct node_writer *writer)
{
    struct kp_value *list = kp_value_array(writer->arena), *containerd = kp_value_object(writer->arena);
    struct kp_value *kubelet = kp_value_object(writer->arena), *command = kp_value_array(writer->arena);
    struct bootstrap_args args = {0};
    kp_value_set(writer->arena, containerd, "name", kp_value_string(writer->arena, "containerd"));
    add_word(writer, command, "/usr/bin/containerd");
    kp_value_set(writer->arena, containerd, "command", command);
    kp_value_append(writer->arena, list, containerd);

    bootstrap_args_set(&args, "config", "/var/lib/kubelet/config.yaml");
    bootstrap_args_set(&args, "kubeconfig", "/etc/kubernetes/kubelet.conf");
    bootstrap_args_set(&args, "hostname-override", writer->node->name);
    bootstrap_args_set(&args, "node-ip", writer->node->address);
    if (writer->cluster->cloud)
        bootstrap_args_set(&args, "cloud-provider", "external");
    if (node_labels(writer))
        bootstrap_args_set(&args, "node-labels", node_labels(writer));
    if (node_taints(writer))
        bootstrap_args_set(&args, "register-with-taints", node_taints(writer));
    const struct kp_string_map *own = config_component_flags(writer->cluster->config, "kubelet");
    for (size_t i = 0; own && i < own->len; i++) {
        if (!is_config_field(own->items[i].key))
            bootstrap_args_set(&args, own->items[i].key, own->items[i].value);
    }
    command = kp_value_array(writer->arena);
    add_word(writer, command, "/usr/lib/kprov/bin/kubelet");
    for (size_t i = 0; i < args.len; i++)
        add_word(writer, command, kp_arena_printf(writer->arena, "--%s=%s", args.names[i], args.values[i]));
    kp_value_set(writer->arena, kubelet, "name", kp_value_string(writer->arena, "kubelet"));
    kp_value_set(writer->arena, kubelet, "command", command);
    kp_value_set(writer->arena, kubelet, "waitFor", kp_value_string(writer->arena, "/run/containerd/containerd.sock"));
    kp_value_append(writer->arena, list, kubelet);
    if (writer->node->control_plane)
        kp_value_append(writer->arena, list, snapshots(writer));
    if (writer->cluster->ssh)
        kp_value_append(writer->arena, list, sshd(writer));
    return list;
}

static struct kp_value *once(struct node_writer *writer)
{
    const struct bootstrap_restore *restore = writer->cluster->restore;
    struct kp_value *list = kp_value_array(writer->arena), *entry = kp_value_object(writer->arena), *command = kp_value_array(writer->arena);
    if (restore->gz) {
        KP_AUTO_BUF struct kp_buf text = {0};
        kp_base64_encode(&text, restore->gz->data, restore->gz->len);
        add_file(writer, kp_arena_printf(writer->arena, BOOTSTRAP_RESTORE_DIR "/%s.db.gz", restore->id), "0600", text.data);
        struct kp_value *file = writer->files->array.items[writer->files->array.len - 1];
        kp_value_set(writer->arena, file, "encoding", kp_value_string(writer->arena, "base64"));
    }
    const char *const *words = bootstrap_restore_command(writer->cluster, writer->node, writer->arena);
    for (size_t i = 0; words[i]; i++)
        add_word(writer, command, words[i]);
    kp_value_set(writer->arena, entry, "id", kp_value_string(writer->arena, restore->id));
    kp_value_set(writer->arena, entry, "command", command);
    kp_value_append(writer->arena, list, entry);
    return list;
}

static struct kp_value *sysctls(struct node_writer *writer)
{
    static const char *const settings[][2] = {
        {"net.ipv4.ip_forward", "1"},
        /* Or a pod does not reach a Service whose endpoint is on its own bridge. */
        {"net.bridge.bridge-nf-call-iptables", "1"},
        {"net.bridge.bridge-nf-call-ip6tables", "1"},
    };
    struct kp_value *map = kp_value_object(writer->arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(settings); i++)
        kp_value_set(writer->arena, map, settings[i][0], kp_value_string(writer->arena, settings[i][1]));
    return map;
}

/* What clouds document for their own machines. */
static const struct {
    const char *provider, *servers[4];
} cloud_time[] = {
    {"aws", {"169.254.169.123"}},
    {"hetzner", {"ntp1.hetzner.de", "ntp2.hetzner.de", "ntp3.hetzner.de"}},
};

/* Whom kprov-init asks for the time: what the cluster file says, else the cloud's own; with neither it knows others itself. */
static struct kp_value *time_value(const struct node_writer *writer)
{
    const struct config *config = writer->cluster->config;
    struct kp_value *object = kp_value_object(writer->arena), *own = kp_value_array(writer->arena);
    kp_value_set(writer->arena, object, "servers", config_time_value(config, writer->arena));
    for (size_t i = 0; i < KP_ARRAY_LEN(cloud_time); i++)
        for (size_t j = 0; kp_streq(cloud_time[i].provider, config->provider) && cloud_time[i].servers[j]; j++)
            kp_value_append(writer->arena, own, kp_value_string(writer->arena, cloud_time[i].servers[j]));
    kp_value_set(writer->arena, object, "cloudServers", own);
    return object;
}

int bootstrap_user_data(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node, struct kp_buf *out,
                        struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct node_writer writer = {cluster, node, arena, kp_value_array(arena), error};
    struct kp_value *root = kp_value_object(arena), *network = kp_value_object(arena);
    int r = add_node_files(&writer);
    if (cluster->ssh)
        add_ssh(&writer);
    if (r == 0 && node->control_plane)
        r = add_control_plane(&writer);
    if (r < 0)
        return kp_wrap(error, "bootstrap config of %s", node->name);
    kp_value_set(arena, root, "apiVersion", kp_value_string(arena, CONFIG_API_VERSION));
    kp_value_set(arena, root, "kind", kp_value_string(arena, "MachineConfig"));
    kp_value_set(arena, root, "hostname", kp_value_string(arena, node->name));
    /* A machine that shares its network with others has an address already. */
    if (!kp_empty(node->gateway) && !node->dhcp) {
        kp_value_set(arena, network, "interface", kp_value_string(arena, "eth0"));
        kp_value_set(arena, network, "address",
                     kp_value_string(arena, kp_arena_printf(arena, "%s/%d", node->address, node->prefix_len)));
        kp_value_set(arena, network, "gateway", kp_value_string(arena, node->gateway));
        kp_value_set(arena, root, "network", network);
    }
    if (config_keeps_time(cluster->config->provider))
        kp_value_set(arena, root, "time", time_value(&writer));
    kp_value_set(arena, root, "sysctls", sysctls(&writer));
    if (cluster->restore && node->control_plane)
        kp_value_set(arena, root, "once", once(&writer));
    kp_value_set(arena, root, "files", writer.files);
    kp_value_set(arena, root, "services", services(&writer));
    kp_value_print(root, out);
    return 0;
}
