/* Of the cluster: kprov's state, what the API and etcd tell, and what this host has. */
#include "base/version.h"
#include "client/client.h"
#include "provisioner/cli/bundle_internal.h"
#include "provisioner/etcd/etcd.h"
#include "provisioner/plan/plan.h"

#define TOOL_MS 5000

static void state_file(struct bundle *bundle, const char *file, bool required)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    const char *path = kp_arena_printf(bundle->arena, "state/%s", file);
    int r = state_read_file(bundle->name, file, &text, &error);
    if (r == 0)
        bundle_add(bundle, path, text.data ? text.data : "", text.len);
    else if (required || r != KP_ENOTFOUND)
        bundle_error(bundle, path, "%s", error.message);
}

static void plan(struct bundle *bundle)
{
    struct kp_value *rows = kp_value_array(bundle->arena);
    struct kp_error error = {0};
    struct plan made;
    if (plan_make(&bundle->cluster.config, &bundle->machines, NULL, bundle->arena, &made, &error) < 0) {
        bundle_error(bundle, "plan.json", "%s", error.message);
        return;
    }
    for (size_t i = 0; i < made.n_actions; i++) {
        struct kp_value *row = kp_value_object(bundle->arena);
        kp_value_set(bundle->arena, row, "action", kp_value_string(bundle->arena, plan_verb_name(made.actions[i].verb)));
        kp_value_set(bundle->arena, row, "machine", kp_value_string(bundle->arena, made.actions[i].name));
        kp_value_append(bundle->arena, rows, row);
    }
    bundle_add_value(bundle, "plan.json", rows);
}

/* Only what is named here: pki.json and admin.conf are secrets as a whole. */
void bundle_state(struct bundle *bundle)
{
    KP_AUTO_BUF struct kp_buf config = {0};
    struct kp_value *value = NULL;
    struct kp_error error = {0};
    state_file(bundle, "cluster.json", true);
    state_file(bundle, "journal", false);
    state_file(bundle, "journal.1", false);
    if (!bundle->has_cluster)
        return;
    kp_yaml_print(config_to_value(&bundle->cluster.config, bundle->arena), &config);
    bundle_add(bundle, "config.yaml", config.data, config.len);
    if (!bundle->cloud)
        return;
    plan(bundle);
    if (cli_validate_value(bundle->name, bundle->arena, &value, &error) < 0)
        bundle_error(bundle, "validate.json", "%s", error.message);
    else
        bundle_add_value(bundle, "validate.json", value);
    if (cli_describe_value(bundle->name, bundle->arena, &value, &error) < 0)
        bundle_error(bundle, "describe.json", "%s", error.message);
    else
        bundle_add_value(bundle, "describe.json", value);
    if (cli_events_value(&bundle->cluster, bundle->cloud, bundle->arena, &value, &error) < 0)
        bundle_error(bundle, "events.json", "%s", error.message);
    else
        bundle_add_value(bundle, "events.json", value);
}

void bundle_api(struct bundle *bundle)
{
    static const struct {
        const char *file, *path;
    } objects[] = {
        {"readyz.txt", "/readyz?verbose"},
        {"version.json", "/version"},
        {"nodes.json", "/api/v1/nodes"},
        {"events.json", "/api/v1/events"},
        {"pods.json", "/api/v1/namespaces/kube-system/pods"},
        {"services.json", "/api/v1/namespaces/kube-system/services"},
        {"endpoints.json", "/api/v1/endpoints"},
        {"configmaps.json", "/api/v1/namespaces/kube-system/configmaps"},
        {"daemonsets.json", "/apis/apps/v1/namespaces/kube-system/daemonsets"},
        {"deployments.json", "/apis/apps/v1/namespaces/kube-system/deployments"},
        {"replicasets.json", "/apis/apps/v1/namespaces/kube-system/replicasets"},
        {"leases.json", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"},
        {"certificatesigningrequests.json", "/apis/certificates.k8s.io/v1/certificatesigningrequests"},
    };
    for (size_t i = 0; bundle->api && i < KP_ARRAY_LEN(objects) && !cli_was_interrupted(); i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        struct kp_error error = {0};
        const char *path = kp_arena_printf(bundle->arena, "api/%s", objects[i].file);
        int r = client_raw(cli_api_client(bundle->api), "GET", objects[i].path, NULL, NULL, 0, &text, NULL, &error);
        if (r == 0)
            bundle_add(bundle, path, text.data ? text.data : "", text.len);
        else
            bundle_error(bundle, path, "%s", error.message);
        if (r == KP_EUNAVAILABLE || r == KP_ETIMEOUT) { /* each of the others would wait as long */
            bundle_error(bundle, "api", "the other objects were not asked for: the API does not answer");
            return;
        }
    }
}

void bundle_etcd(struct bundle *bundle)
{
    KP_AUTO(etcd_client_close) struct etcd_client *client = NULL;
    struct etcd_member_status *status = NULL;
    struct kp_error error = {0};
    struct kp_value *rows = kp_value_array(bundle->arena);
    int r = cli_etcd_open(bundle->name, NULL, &bundle->machines, CLI_ETCD_OFF_TOO, NULL, &client, &error);
    if (r < 0) {
        if (r != KP_ENOTFOUND)
            bundle_error(bundle, "etcd.json", "%s", error.message);
        return;
    }
    etcd_client_status(client, bundle->arena, &status);
    for (size_t i = 0; i < etcd_client_endpoints(client); i++) {
        struct kp_value *row = kp_value_object(bundle->arena);
        kp_value_set(bundle->arena, row, "endpoint", kp_value_string(bundle->arena, status[i].endpoint));
        kp_value_set(bundle->arena, row, "healthy", kp_value_bool(bundle->arena, etcd_member_is_healthy(&status[i])));
        kp_value_set(bundle->arena, row, "problem", kp_value_string(bundle->arena, status[i].problem));
        kp_value_set(bundle->arena, row, "id", kp_value_string(bundle->arena, kp_arena_printf(bundle->arena, "%llx", (unsigned long long)status[i].id)));
        kp_value_set(bundle->arena, row, "leader", kp_value_string(bundle->arena, kp_arena_printf(bundle->arena, "%llx", (unsigned long long)status[i].leader)));
        kp_value_set(bundle->arena, row, "raftTerm", kp_value_int(bundle->arena, (int64_t)status[i].raft_term));
        kp_value_set(bundle->arena, row, "raftIndex", kp_value_int(bundle->arena, (int64_t)status[i].raft_index));
        kp_value_set(bundle->arena, row, "raftAppliedIndex", kp_value_int(bundle->arena, (int64_t)status[i].raft_applied_index));
        kp_value_set(bundle->arena, row, "dbSizeBytes", kp_value_int(bundle->arena, status[i].db_size));
        kp_value_set(bundle->arena, row, "dbSizeInUseBytes", kp_value_int(bundle->arena, status[i].db_size_in_use));
        kp_value_append(bundle->arena, rows, row);
    }
    bundle_add_value(bundle, "etcd.json", rows);
}

void bundle_host(struct bundle *bundle)
{
    static const char *const script =
        "for c in 'uname -a' 'cat /etc/os-release' 'nproc' 'cat /proc/meminfo' 'df -h' 'ip -V' 'ip addr' 'ip route' 'nft --version'"
        " 'kubectl version --client' 'libvirtd --version' 'qemu-system-x86_64 --version' 'mkfs.erofs -V' 'ls -l /dev/kvm' 'ssh -V' 'openssl version'; do"
        " echo \"\\$ $c\"; if command -v \"${c%% *}\" >/dev/null; then timeout 4 $c 2>&1 | head -c 65536; else echo 'not installed'; fi; echo; done; exit 0";
    const char *const argv[] = {"sh", "-c", script, NULL};
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    char now[KP_RFC3339_MAX];
    int status = 0;
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    kp_buf_printf(&text, "kprov %s, %s\n\n", kp_version, now);
    if (kp_run(argv, 12 * TOOL_MS, &out, NULL, &status, &error) < 0)
        bundle_error(bundle, "host.txt", "%s", error.message);
    if (out.data)
        kp_buf_append(&text, out.data, out.len);
    bundle_add(bundle, "host.txt", text.data, text.len);
}
