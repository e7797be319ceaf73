/* New files for a machine that runs: kept for its next boot, written where it reads them, and seen to be in use. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/certs_internal.h"
#include "provisioner/cli/rollout_internal.h"
#include "provisioner/remote/remote.h"

#define POLL_MS 100
#define POLL_MS_MAX 1000 /* where a look takes long */
#define KUBELET_PORT 10250
#define SETTLE_MS_MAX 120000
#define STAMP "kprov.dev/files: \""
#define STAMP_ANNOTATION "kprov.dev/files"
#define MANIFESTS "/etc/kubernetes/manifests/"

/* What tells that the machine works with its new files. */
struct wanted {
    const char *fingerprints[4]; /* as certs_ports has them */
    struct kp_string_map stamps; /* static pod -> annotation */
};

static const char *content_of(const struct kp_value *files, const char *path)
{
    for (size_t i = 0; i < files->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(files->array.items[i], "path")), path))
            return kp_value_str(kp_value_get(files->array.items[i], "content"));
    return NULL;
}

static int read_wanted(const struct kp_buf *user_data, bool control_plane, struct kp_arena *arena, struct wanted *ret, struct kp_error *error)
{
    struct kp_value *root = NULL;
    int r = kp_value_parse(user_data->data, user_data->len, arena, NULL, &root, error);
    const struct kp_value *files = kp_value_get(root, "files");
    const struct certs_port *port = certs_ports(control_plane);
    for (size_t i = 0; r == 0 && port[i].port; i++) {
        KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
        const char *pem = content_of(files, port[i].file);
        KP_ASSERT(pem);
        r = tls_cert_from_pem(pem, strlen(pem), &cert, error);
        if (r == 0)
            ret->fingerprints[i] = kp_arena_strdup(arena, tls_cert_info(cert)->fingerprint_sha256);
    }
    for (size_t i = 0; r == 0 && i < files->array.len; i++) {
        const char *path = kp_value_str(kp_value_get(files->array.items[i], "path"));
        const char *text = kp_value_str(kp_value_get(files->array.items[i], "content"));
        const char *stamp = kp_starts_with(path, MANIFESTS) ? strstr(text, STAMP) : NULL;
        if (!stamp)
            continue;
        path += strlen(MANIFESTS);
        stamp += strlen(STAMP);
        kp_string_map_set(arena, &ret->stamps, kp_arena_strndup(arena, path, strcspn(path, ".")),
                          kp_arena_strndup(arena, stamp, strcspn(stamp, "\"")));
    }
    return r;
}

/* ---- is it so yet? */
static bool serves(const struct cli_operation *op, const struct cloud_machine *machine, const struct wanted *wanted, bool kubelet_too,
                   char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO_BUF struct kp_buf trust = {0};
    const struct certs_port *port = certs_ports(kp_streq(machine->role, "control-plane"));
    certs_all_trust(op->pki, &trust);
    for (size_t i = 0; port[i].port; i++) {
        char fingerprint[65] = "";
        struct kp_error error = {0};
        if (port[i].port == KUBELET_PORT && !kubelet_too)
            continue;
        if (certs_served(machine->address, port[i].port, trust.data, fingerprint, &error) < 0)
            snprintf(problem, CLI_GATE_TEXT_MAX, "%.200s", error.message);
        else if (!kp_streq(fingerprint, wanted->fingerprints[i]))
            snprintf(problem, CLI_GATE_TEXT_MAX, "%s:%d serves another certificate than the new one", machine->name, port[i].port);
        else
            continue;
        return false;
    }
    return true;
}

static bool pods_are_new(struct cli_operation *op, const struct cloud_machine *machine, const struct wanted *wanted, char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < wanted->stamps.len; i++) {
        struct kp_error error = {0};
        void *answer = NULL;
        const char *name = kp_arena_printf(arena, "%s-%s", wanted->stamps.items[i].key, machine->name);
        if (client_get(cli_api_client(op->api), &k8s_pods_resource, "kube-system", name, arena, &answer, &error) < 0) {
            snprintf(problem, CLI_GATE_TEXT_MAX, "pod %s: %.150s", name, error.message);
            return false;
        }
        const struct k8s_pod *pod = answer;
        if (!kp_streq(kp_string_map_get(&pod->metadata->annotations, STAMP_ANNOTATION), wanted->stamps.items[i].value)) {
            snprintf(problem, CLI_GATE_TEXT_MAX, "pod %s was not made anew yet", name);
            return false;
        }
    }
    return true;
}

static int wait_until_well(struct cli_operation *op, const struct cloud_machine *machine, const struct wanted *wanted, bool kubelet_too,
                           struct kp_error *error)
{
    static const struct kp_string_map any = {0};
    int64_t began_ms = kp_mono_ms();
    const int64_t deadline_ms = began_ms + SETTLE_MS_MAX;
    char problem[CLI_GATE_TEXT_MAX] = "";
    while (!serves(op, machine, wanted, kubelet_too, problem) || !pods_are_new(op, machine, wanted, problem) || !cli_gate_passes(op, machine, &any, problem)) {
        int r = cli_interrupted(error);
        if (r < 0)
            return r;
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "%s does not work with its new certificates: %s", machine->name, problem);
        cli_progress_tick(&op->progress, problem);
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
    return 0;
}

static int wait_to_touch(struct cli_operation *op, const struct cloud_machine *machine, struct kp_error *error)
{
    int64_t began_ms = kp_mono_ms();
    const int64_t deadline_ms = began_ms + SETTLE_MS_MAX;
    char problem[CLI_GATE_TEXT_MAX] = "";
    struct cloud_machine_list machines;
    int r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &machines, error);
    while (r == 0 && !cli_gate_may_take_down(op, &machines, machine, true, problem)) {
        r = cli_interrupted(error);
        if (r == 0 && kp_mono_ms() > deadline_ms)
            r = kp_fail(error, KP_EUNAVAILABLE, "%s cannot be touched: %s", machine->name, problem);
        cli_progress_tick(&op->progress, problem);
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
    return r;
}

/* ---- doing it */
static int run_there(struct cli_operation *op, const struct cloud_machine *machine, const char *const *argv, const struct kp_buf *input,
                     struct kp_error *error)
{
    KP_AUTO_CLOSE int in = memfd_create("kprov-user-data", MFD_CLOEXEC);
    KP_AUTO_CLOSE int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int status = 0;
    if (in < 0 || out < 0 || (input && write(in, input->data, input->len) != (ssize_t)input->len) || lseek(in, 0, SEEK_SET) < 0)
        return kp_fail_errno(error, "make a file in memory");
    const struct cloud_exec exec = {argv, in, out, STDERR_FILENO};
    int r = remote_exec(op->cloud, &op->cluster, machine, &exec, &status, error);
    return r < 0 || status == 0 ? r : kp_fail(error, KP_EIO, "%s on %s ended with %d", argv[0], machine->name, status);
}

/* The static pods first: a kubelet that starts and finds other manifests takes the pods that run for somebody else's, and would let them
   run on beside the new ones for a while. */
static int change_now(struct cli_operation *op, const struct cloud_machine *machine, const struct kp_buf *user_data, const struct wanted *wanted,
                      struct kp_error *error)
{
    static const char *const apply[] = {"/usr/lib/kprov/bin/kprov-init", "apply", NULL}, *const restart[] = {"sh", "-c", "kill -HUP 1", NULL};
    int r = run_there(op, machine, apply, user_data, error);
    if (r == 0)
        r = wait_until_well(op, machine, wanted, false, error);
    if (r == 0)
        r = run_there(op, machine, restart, NULL, error);
    return r < 0 ? r : wait_until_well(op, machine, wanted, true, error);
}

int certs_check_cloud(const struct cli_operation *op, struct kp_error *error)
{
    return cloud_can(op->cloud, CLOUD_CAN_CHANGE_LATER)
               ? 0
               : kp_fail(error, KP_ENOTSUPPORTED, "provider %s cannot give new certificates to machines that are there: machines made anew have new ones",
                         cloud_name(op->cloud));
}

int certs_change_machine(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cloud_machine machine;
    struct wanted wanted = {0};
    int r = cloud_machine_get(op->cloud, op->cluster.uid, node->name, op->arena, &machine, error);
    if (r == 0)
        r = bootstrap_user_data(&op->bootstrap, node, &user_data, error);
    if (r == 0)
        r = read_wanted(&user_data, node->control_plane, op->arena, &wanted, error);
    if (r == 0 && machine.power == CLOUD_POWER_ON)
        r = wait_to_touch(op, &machine, error);
    if (r == 0)
        r = cli_op_at_next_boot(op, &machine, &user_data, error);
    return r < 0 || machine.power != CLOUD_POWER_ON ? r : change_now(op, &machine, &user_data, &wanted, error);
}

int certs_change_admin(struct cli_operation *op, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    const char *text = NULL, *own = NULL, *context = kp_arena_printf(op->arena, "kprov-%s", op->cluster.name);
    int r = kubeconfig_make(op->pki, context, op->cluster.endpoint, context, "kubernetes-admin", "system:masters", op->arena, &text, error);
    if (r == 0)
        r = state_write_file(op->state, "admin.conf", text, strlen(text), error);
    if (r == 0)
        r = state_read_file(op->cluster.name, "kubeconfig-path", &path, error);
    if (r == 0 && path.data)
        r = kubeconfig_merge(path.data, context, text, error);
    if (r == 0)
        r = cli_state_path(op->cluster.name, "admin.conf", op->arena, &own, error);
    if (r < 0)
        return r;
    cli_api_close(op->api);
    op->api = NULL;
    return cli_api_open(own, &op->api, error);
}
