/* A snapshot put into a cluster's etcd: what is remembered while it goes on, what the machines are told, and what of the database no
   longer fits to them. */
#include <fcntl.h>
#include <unistd.h>

#include "api/k8s.h"
#include "client/client.h"
#include "http/http.h"
#include "provisioner/cli/snapshot_internal.h"

#define RESTORE_JSON "restore.json"
#define RESTORE_DB "restore.db"
#define COMPRESS_MAX ((size_t)64 << 20) /* larger ones are not tried to fit into user data */
/* Nobody has seen a revision so far above the newest known one: as etcd's documentation has it for --bump-revision. */
#define REVISION_MARGIN 1000000000LL

struct pending {
    const char *id, *sha256;
    int64_t bump, begun_s;
};

static int restore_path(const struct cli_operation *op, const char *file, const char **ret, struct kp_error *error)
{
    return cli_state_path(op->cluster.name, file, op->arena, ret, error);
}

static int read_pending(const struct cli_operation *op, struct pending *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    int r = state_read_file(op->cluster.name, RESTORE_JSON, &text, error);
    if (r == 0)
        r = kp_value_parse(text.data ? text.data : "", text.len, op->arena, NULL, &root, error);
    if (r < 0)
        return r;
    const struct kp_value *bump = kp_value_get(root, "bumpRevision"), *begun = kp_value_get(root, "begun");
    *ret = (struct pending){.id = kp_value_str(kp_value_get(root, "id")), .sha256 = kp_value_str(kp_value_get(root, "sha256"))};
    if (!ret->id || !ret->sha256 || !bump || bump->kind != KP_VALUE_INT || !begun || begun->kind != KP_VALUE_INT)
        return kp_fail(error, KP_ECORRUPT, RESTORE_JSON " of cluster %s lacks a field", op->cluster.name);
    ret->bump = bump->integer;
    ret->begun_s = begun->integer;
    return 0;
}

bool cli_restore_pending(const struct cli_operation *op)
{
    struct pending pending;
    struct kp_error none = {0};
    return read_pending(op, &pending, &none) != KP_ENOTFOUND;
}

static int copy_file(const char *from, const char *to, struct kp_error *error)
{
    KP_AUTO_FREE char *part = kp_asprintf("%s.part", to);
    KP_AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    KP_AUTO_CLOSE int out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0)
        return kp_fail_errno(error, "open %s", in < 0 ? from : part);
    for (ssize_t n; (n = copy_file_range(in, NULL, out, NULL, (size_t)1 << 30, 0)) != 0;) {
        if (n < 0)
            return kp_fail_errno(error, "copy %s to %s", from, part);
    }
    if (fsync(out) < 0 || rename(part, to) < 0)
        return kp_fail_errno(error, "write %s", to);
    return 0;
}

/* Services keep their addresses and pods their ranges: a cluster of other ones could not use them. */
static int check_fit(const struct cli_operation *op, const struct snapshot_meta *meta, struct kp_error *error)
{
    const struct config *config = &op->cluster.config;
    const char *const pairs[][3] = {
        {"spec.network.podCIDR", meta->pod_cidr, config->network.pod_cidr},
        {"spec.network.serviceCIDR", meta->service_cidr, config->network.service_cidr},
        {"spec.network.dnsDomain", meta->dns_domain, config->network.dns_domain},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(pairs); i++) {
        if (!kp_streq(pairs[i][1], pairs[i][2]))
            return kp_fail(error, KP_ECONFLICT, "the snapshot is of a cluster whose %s is %s, here it is %s: make the cluster with the same",
                           pairs[i][0], pairs[i][1], pairs[i][2]);
    }
    return 0;
}

/* Clouds with metadata take some tens of KB of user data, which the machine's certificates need. */
static size_t room_in_user_data(const struct cli_operation *op)
{
    return cloud_can(op->cloud, CLOUD_HAS_METADATA) ? 0 : BOOTSTRAP_RESTORE_INLINE_MAX;
}

/* What is too large for user data has to be brought by another way. */
static int make_restore(struct cli_operation *op, const struct pending *pending, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf data = {0};
    const char *path = NULL;
    struct bootstrap_restore *restore = KP_NEW(op->arena, struct bootstrap_restore);
    *restore = (struct bootstrap_restore){
        .id = pending->id, .bump_revision = pending->bump,
        .token = kp_arena_printf(op->arena, "%s-%s", op->cluster.uid, pending->id),
    };
    int r = restore_path(op, RESTORE_DB, &path, error);
    if (r == 0)
        r = kp_read_file(path, COMPRESS_MAX, &data, error);
    if (r < 0 && r != KP_ETOOLARGE)
        return r;
    KP_AUTO(kp_blob_unref) struct kp_blob *gz = r == 0 ? http_gzip(data.data, data.len) : NULL;
    if (gz && gz->len <= room_in_user_data(op)) {
        struct kp_blob *kept = kp_arena_alloc(op->arena, sizeof(*kept) + gz->len + 1);
        *kept = (struct kp_blob){.refs = 1, .len = gz->len};
        memcpy(kept->data, gz->data, gz->len);
        restore->gz = kept;
    } else if (!cloud_can(op->cloud, CLOUD_CAN_EXEC)) {
        return kp_fail(error, KP_ENOTSUPPORTED,
                       "the snapshot does not fit into a machine's user data, which has room for %zu bytes of it when compressed, and provider %s "
                       "has no other way to bring it there", room_in_user_data(op), cloud_name(op->cloud));
    }
    op->restore = restore;
    return 0;
}

static int begin_anew(struct cli_operation *op, const char *path, const struct snapshot_info *info, int64_t floor_revision,
                      struct pending *ret, struct kp_error *error)
{
    char uuid[37];
    const char *copy = NULL;
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_uuid4(uuid);
    *ret = (struct pending){
        .id = kp_arena_printf(op->arena, "restore-%.8s", uuid), .sha256 = info->sha256, .begun_s = kp_now_s(),
        .bump = KP_MAX(floor_revision - info->revision, 0) + REVISION_MARGIN,
    };
    struct kp_value *root = kp_value_object(op->arena);
    kp_value_set(op->arena, root, "id", kp_value_string(op->arena, ret->id));
    kp_value_set(op->arena, root, "sha256", kp_value_string(op->arena, ret->sha256));
    kp_value_set(op->arena, root, "bumpRevision", kp_value_int(op->arena, ret->bump));
    kp_value_set(op->arena, root, "begun", kp_value_int(op->arena, ret->begun_s));
    kp_value_print_pretty(root, 2, &text);
    int r = restore_path(op, RESTORE_DB, &copy, error);
    if (r == 0)
        r = copy_file(path, copy, error);
    return r < 0 ? r : state_write_file(op->state, RESTORE_JSON, text.data, text.len, error);
}

int cli_restore_begin(struct cli_operation *op, const char *path, int64_t floor_revision, struct kp_error *error)
{
    struct snapshot_info info;
    struct snapshot_meta meta;
    struct pending pending;
    struct kp_error why = {0};
    int r = snapshot_check(path, &info, error);
    if (r < 0)
        return r;
    r = snapshot_meta_load(path, &info, op->arena, &meta, &why);
    if (r == 0)
        r = check_fit(op, &meta, error);
    else if (r != KP_ENOTFOUND) /* without a description it is on its own */
        return kp_fail(error, r, "%s", why.message);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    r = read_pending(op, &pending, error);
    if (r == 0 && !kp_streq(pending.sha256, info.sha256))
        return kp_fail(error, KP_ECONFLICT, "a restore of another snapshot was begun on cluster %s and is not finished: the file of it is %s",
                       op->cluster.name, RESTORE_DB " in its state");
    if (r == KP_ENOTFOUND)
        r = begin_anew(op, path, &info, floor_revision, &pending, error);
    return r < 0 ? r : make_restore(op, &pending, error);
}

int cli_restore_keys(struct cli_operation *op, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0}, there = {0};
    struct snapshot_meta meta;
    struct kp_error why = {0};
    int r = state_read_file(op->cluster.name, "pki.json", &there, error);
    if (r != KP_ENOTFOUND)
        return r;
    r = snapshot_meta_load(path, NULL, op->arena, &meta, &why);
    if (r == KP_ENOTFOUND || (r == 0 && !meta.pki)) {
        fprintf(stderr, "kprov: no keys came with %s: the cluster gets new ones, and tokens and kubeconfigs of the old one are worth nothing\n", path);
        return 0;
    }
    if (r < 0)
        return kp_fail(error, r, "%s", why.message);
    kp_value_print_pretty(meta.pki, 2, &text);
    return state_write_file(op->state, "pki.json", text.data, text.len, error);
}

int cli_restore_plan(struct cli_operation *op, struct kp_error *error)
{
    op->bootstrap.restore = op->restore;
    return 0;
}

/* Beside its name first: init waits for the whole of it. */
static int bring_to(struct cli_operation *op, const char *machine, const char *path, struct kp_error *error)
{
    static const char script[] = "set -eu; mkdir -p " BOOTSTRAP_RESTORE_DIR "; umask 077; f=" BOOTSTRAP_RESTORE_DIR "/$1.db.gz; "
                                 "if [ -e \"/var/lib/kprov/once/$1\" ]; then exit 0; fi; gzip -1 > \"$f.part\"; mv \"$f.part\" \"$f\"";
    const char *const argv[] = {"sh", "-c", script, "bring", op->restore->id, NULL};
    int status = 0;
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    const struct cloud_exec exec = {argv, fd, STDERR_FILENO, STDERR_FILENO};
    int r = cloud_machine_exec(op->cloud, op->cluster.uid, machine, &exec, &status, error);
    return r < 0 || status == 0 ? r : kp_fail(error, KP_EIO, "bring the snapshot to %s: the copy ended with status %d", machine, status);
}

int cli_restore_bring(struct cli_operation *op, struct kp_error *error)
{
    const char *path = NULL;
    int r = restore_path(op, RESTORE_DB, &path, error);
    for (size_t i = 0; r == 0 && !op->restore->gz && i < op->bootstrap.n_nodes; i++) {
        if (op->bootstrap.nodes[i].control_plane)
            r = bring_to(op, op->bootstrap.nodes[i].name, path, error);
    }
    return r;
}

/* ---- what the database remembers of machines and processes that are not there */
static bool is_wanted(const struct cli_operation *op, const char *name, const char *provider_id)
{
    for (size_t i = 0; i < op->bootstrap.n_nodes; i++) {
        const struct bootstrap_node *node = &op->bootstrap.nodes[i];
        if (kp_streq(node->name, name))
            return !provider_id || kp_streq(node->provider_id, provider_id);
    }
    return false;
}

static int remove_nodes(struct cli_operation *op, struct kp_strings *gone, struct kp_error *error)
{
    void *answer = NULL;
    int r = client_list(cli_api_client(op->api), &k8s_nodes_resource, NULL, NULL, op->arena, &answer, error);
    const struct k8s_node_list *nodes = answer;
    for (size_t i = 0; r == 0 && i < nodes->items.len; i++) {
        const struct k8s_node *node = &nodes->items.items[i];
        if (is_wanted(op, node->metadata->name, node->spec->provider_id ? node->spec->provider_id : ""))
            continue;
        kp_strings_add(gone, node->metadata->name);
        r = cli_api_delete_node(op->api, node->metadata->name, error);
    }
    return r;
}

static bool has(const struct kp_strings *strings, const char *word)
{
    for (size_t i = 0; i < strings->len; i++)
        if (kp_streq(strings->items[i], word))
            return true;
    return false;
}

/* Nobody is left who could say that they have ended. */
static int remove_pods(struct cli_operation *op, const struct kp_strings *gone, struct kp_error *error)
{
    static const struct client_delete_options at_once = {.grace_period_s = 0};
    void *answer = NULL;
    int r = client_list(cli_api_client(op->api), &k8s_pods_resource, NULL, NULL, op->arena, &answer, error);
    const struct k8s_pod_list *pods = answer;
    for (size_t i = 0; r == 0 && i < pods->items.len; i++) {
        const struct k8s_pod *pod = &pods->items.items[i];
        const char *node = pod->spec->node_name;
        if (kp_empty(node) || (is_wanted(op, node, NULL) && !has(gone, node)))
            continue;
        r = client_delete(cli_api_client(op->api), &k8s_pods_resource, pod->metadata->namespace, pod->metadata->name, &at_once, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

/* A lease of one who is gone would be waited for to its end. */
static int remove_leases(struct cli_operation *op, int64_t begun_s, struct kp_error *error)
{
    void *answer = NULL;
    int r = client_list(cli_api_client(op->api), &k8s_leases_resource, NULL, NULL, op->arena, &answer, error);
    const struct k8s_lease_list *leases = answer;
    for (size_t i = 0; r == 0 && i < leases->items.len; i++) {
        const struct k8s_lease *lease = &leases->items.items[i];
        const struct client_delete_options as_seen = {.grace_period_s = -1, .resource_version = lease->metadata->resource_version};
        if (!lease->spec->renew_time.set || lease->spec->renew_time.seconds >= begun_s)
            continue;
        r = client_delete(cli_api_client(op->api), &k8s_leases_resource, lease->metadata->namespace, lease->metadata->name, &as_seen, error);
        r = r == KP_ENOTFOUND || r == KP_ECONFLICT ? 0 : r; /* renewed meanwhile: it has a holder */
    }
    return r;
}

int cli_restore_reconcile(struct cli_operation *op, struct kp_error *error)
{
    struct pending pending;
    struct kp_strings gone = {0};
    int r = read_pending(op, &pending, error);
    if (r == 0)
        r = remove_leases(op, pending.begun_s, error);
    if (r == 0)
        r = remove_nodes(op, &gone, error);
    if (r == 0)
        r = remove_pods(op, &gone, error);
    kp_strings_done(&gone);
    return r < 0 ? kp_wrap(error, "remove what the snapshot has of machines that are not there") : 0;
}

/* Or each boot would write the snapshot to the machine's disk again, to no end but that it lies there. */
static int forget_on(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cloud_machine machine;
    int r = cloud_machine_get(op->cloud, op->cluster.uid, node->name, op->arena, &machine, error);
    if (r == 0)
        r = bootstrap_user_data(&op->bootstrap, node, &user_data, error);
    return r < 0 ? r : cli_op_at_next_boot(op, &machine, &user_data, error);
}

/* The note first: without it the copy is only a file. */
int cli_restore_end(struct cli_operation *op, struct kp_error *error)
{
    static const char *const files[] = {RESTORE_JSON, RESTORE_DB};
    int r = 0;
    op->bootstrap.restore = NULL;
    for (size_t i = 0; r == 0 && i < op->bootstrap.n_nodes && cloud_can(op->cloud, CLOUD_CAN_CHANGE_LATER); i++) {
        if (op->bootstrap.nodes[i].control_plane)
            r = forget_on(op, &op->bootstrap.nodes[i], error);
    }
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(files); i++) {
        const char *path = NULL;
        r = restore_path(op, files[i], &path, error);
        if (r == 0)
            r = kp_remove_tree(path, error);
    }
    return r;
}
