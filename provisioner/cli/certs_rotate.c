/* kprov certs rotate-ca: an authority replaced while the cluster goes on - first trusted everywhere, then signing, then alone. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/certs_internal.h"

#define INTENT "rotate-authority"
#define POLL_MS 100
#define POLL_MS_MAX 1000 /* where a look takes long */
#define PUBLISH_MS_MAX 60000

struct rotating {
    struct cli_operation op; /* first: the steps get its address */
    const char *cluster;
    enum pki_authority authority;
    enum pki_phase until; /* the last phase of this run */
    bool all_workloads;
};

static int write_pki(struct cli_operation *op, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = pki_print(op->pki, &text, error);
    return r < 0 ? r : state_write_file(op->state, "pki.json", text.data, text.len, error);
}

/* Only the cluster's own authority is known to workers. */
static bool concerns(const struct rotating *rotating, const struct bootstrap_node *node)
{
    return node->control_plane || rotating->authority == PKI_CLUSTER;
}

static int change_machines(struct cli_operation *op, struct kp_error *error)
{
    const struct rotating *rotating = KP_CONTAINER_OF(op, const struct rotating, op);
    int r = 0;
    for (int workers = 0; workers < 2; workers++) {
        for (size_t i = 0; r == 0 && i < op->bootstrap.n_nodes; i++) {
            const struct bootstrap_node *node = &op->bootstrap.nodes[i];
            if (node->control_plane != (workers == 0) || !concerns(rotating, node) || pki_rotate_is_done(op->pki, node->name))
                continue;
            r = cli_interrupted(error);
            cli_progress_tick(&op->progress, node->name);
            if (r == 0)
                r = certs_change_machine(op, node, error);
            if (r < 0)
                return r;
            pki_rotate_set_done(op->pki, node->name);
            r = write_pki(op, error);
        }
    }
    return r;
}

/* Pods get their authority from a ConfigMap that the controller manager publishes. */
static int wait_published(struct cli_operation *op, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int64_t began_ms = kp_mono_ms();
    const int64_t deadline_ms = began_ms + PUBLISH_MS_MAX;
    tls_cert_to_pem(op->pki->ca.other_cert, &pem);
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error why = {0};
        void *answer = NULL;
        int r = client_get(cli_api_client(op->api), &k8s_configmaps_resource, "kube-system", "kube-root-ca.crt", arena, &answer, &why);
        const char *text = r == 0 ? kp_string_map_get(&((const struct k8s_config_map *)answer)->data, "ca.crt") : NULL;
        if (text && strstr(text, pem.data))
            return 0;
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "the new authority is not published to pods in time%s%s", r < 0 ? ": " : "", why.message);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
}

/* A program in a pod reads its authority, and many their token, only when it starts. */
static int restart_workloads(struct cli_operation *op, struct kp_error *error)
{
    const struct rotating *rotating = KP_CONTAINER_OF(op, const struct rotating, op);
    const bool trust = op->pki->phase == PKI_TRUST && rotating->authority == PKI_CLUSTER;
    const bool tokens = op->pki->phase == PKI_REISSUE && rotating->authority == PKI_SERVICE_ACCOUNTS;
    int r = trust ? wait_published(op, error) : 0;
    return r < 0 || (!trust && !tokens) ? r : certs_restart_workloads(op, rotating->all_workloads ? NULL : "kube-system", error);
}

static int next_phase(struct cli_operation *op, struct kp_error *error)
{
    pki_rotate_next(op->pki);
    return write_pki(op, error);
}

static const struct cli_step open_steps[] = {
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"API server answers", cli_op_wait_api, false},
    {0},
};
/* Of each phase; the names end in what is done. */
static const struct cli_step phase_steps[PKI_DROP + 1][6] = {
    [PKI_TRUST] = {{"Administrator trusts both", certs_change_admin, false}, {"API server answers", cli_op_wait_api, false},
                   {"Machines trust both", change_machines, false}, {"Pods trust both", restart_workloads, false},
                   {"Phase trust", next_phase, false}},
    [PKI_REISSUE] = {{"Administrator by the new one", certs_change_admin, false}, {"API server answers", cli_op_wait_api, false},
                     {"Machines by the new one", change_machines, false}, {"Pods by the new one", restart_workloads, false},
                     {"Phase reissue", next_phase, false}},
    [PKI_DROP] = {{"Administrator trusts the new one", certs_change_admin, false}, {"API server answers", cli_op_wait_api, false},
                  {"Machines trust the new one", change_machines, false}, {"Phase drop", next_phase, false}},
};

/* Nothing is being replaced: what the journal has unfinished has seen its last phase, and could not say so. */
static int settle(const struct rotating *rotating, bool *ret_done, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = cli_unfinished(rotating->cluster, INTENT, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        *ret_done |= kp_streq(names.items[i], pki_authority_name(rotating->authority));
        r = state_journal_end(rotating->op.state, INTENT, names.items[i], 0, error);
    }
    kp_strings_done(&names);
    return r;
}

/* The keys are in the state before the journal says that they are used: settle relies on it. */
static int begin(struct rotating *rotating, bool *ret_done, struct kp_error *error)
{
    struct cli_operation *op = &rotating->op;
    const char *authority = pki_authority_name(rotating->authority);
    bool begun = false;
    int r = cli_op_prepare_pki(op, error);
    if (r == 0 && op->pki->phase == PKI_STEADY)
        r = settle(rotating, ret_done, error);
    if (r == 0 && op->pki->phase != PKI_STEADY)
        r = cli_is_unfinished(rotating->cluster, INTENT, authority, &begun, error);
    if (r < 0 || *ret_done)
        return r;
    if (op->pki->phase != PKI_STEADY) {
        if (op->pki->rotating != rotating->authority)
            return kp_fail(error, KP_ECONFLICT, "authority %s of cluster %s is being replaced: kprov certs rotate-ca %s --authority %s finishes that",
                           pki_authority_name(op->pki->rotating), rotating->cluster, rotating->cluster, pki_authority_name(op->pki->rotating));
        fprintf(stderr, "Going on with phase %s\n", pki_phase_name(op->pki->phase));
    } else {
        r = pki_rotate_begin(op->pki, rotating->authority, error);
        if (r == 0)
            r = write_pki(op, error);
    }
    return r < 0 || begun ? r : state_journal(op->state, INTENT, authority, error);
}

static int rotate(struct rotating *rotating, struct kp_error *error)
{
    struct cli_operation *op = &rotating->op;
    bool done = false; /* by an earlier run, which could not say so */
    int r = cli_op_open(op, rotating->cluster, error);
    if (r == 0)
        r = certs_check_cloud(op, error);
    if (r == 0)
        r = begin(rotating, &done, error);
    if (r == 0 && !done)
        r = cli_op_run(op, open_steps, error);
    while (r == 0 && op->pki->phase != PKI_STEADY && op->pki->phase <= rotating->until)
        r = cli_op_run(op, phase_steps[op->pki->phase], error);
    if (r == 0 && op->pki->phase == PKI_STEADY && !done)
        r = state_journal_end(op->state, INTENT, pki_authority_name(rotating->authority), 0, error);
    if (r < 0)
        return r;
    if (op->pki->phase == PKI_STEADY)
        fprintf(stderr, "Authority %s of cluster %s is a new one\n", pki_authority_name(rotating->authority), rotating->cluster);
    else
        fprintf(stderr, "Authority %s of cluster %s: phase %s is next, when kprov certs rotate-ca is run again\n",
                pki_authority_name(rotating->authority), rotating->cluster, pki_phase_name(op->pki->phase));
    return 0;
}

static int parse_until(const char *text, enum pki_phase *ret, struct kp_error *error)
{
    for (enum pki_phase i = PKI_TRUST; i <= PKI_DROP; i++) {
        if (kp_streq(pki_phase_name(i), text)) {
            *ret = i;
            return 0;
        }
    }
    return kp_fail(error, KP_EUSAGE, "--until %s: must be trust, reissue or drop", text);
}

int cli_certs_rotate_ca(int argc, char **argv, struct kp_error *error)
{
    struct rotating rotating = {0};
    const char *authority = "cluster", *until = "drop";
    bool help = false;
    const struct kp_flag flags[] = {
        {"authority", 0, KP_FLAG_STRING, &authority, "cluster, etcd, front-proxy or service-accounts (cluster)", NULL},
        {"until", 0, KP_FLAG_STRING, &until, "last phase of this run: trust, reissue or drop (drop); the same command goes on", NULL},
        {"restart-workloads", 0, KP_FLAG_BOOL, &rotating.all_workloads, "make pods anew in all namespaces, not only in kube-system", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("certs rotate-ca", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("certs rotate-ca", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = pki_authority_parse(authority, &rotating.authority, error);
    if (r == 0 && !help)
        r = parse_until(until, &rotating.until, error);
    if (r == 0 && !help) {
        rotating.cluster = rest.items[0];
        cli_op_start(&rotating.op, 0);
        r = rotate(&rotating, error);
        cli_op_done(&rotating.op);
    }
    kp_strings_done(&rest);
    return r;
}
