/* etcd's members follow the control planes: one at a time joins as a learner and becomes a voter when it has caught up, and one
   that goes leaves etcd before its machine does. */
#include "provisioner/cli/operation_internal.h"
#include "provisioner/etcd/etcd.h"

#define QUORUM_MS 12000          /* an election takes 1 to 2 s */
#define QUORUM_STARTED_MS 120000 /* machines that were off boot first */
#define JOIN_MS 240000           /* boot, images, etcd: emulated machines are slow */
#define HEALTH_MS 20000          /* of a member that has just become a voter */
#define POLL_MS 100
#define POLL_MS_MAX 1000 /* where a look takes long */
#define ROUNDS_MAX 64
#define API_SERVERS_PREFIX "/registry/masterleases/" /* of the API server: one key an address */

static bool is_control_plane(const struct cloud_machine *machine)
{
    return kp_streq(machine->role, "control-plane");
}

int cli_op_open_etcd(struct cli_operation *op, struct kp_arena *arena, struct etcd_client **ret, struct kp_error *error)
{
    struct cloud_machine_list machines;
    int r = cloud_machine_list(op->cloud, op->cluster.uid, arena, &machines, error);
    return r < 0 ? r : cli_etcd_open(op->cluster.name, op->pki, &machines, 0, &op->etcd_hidden, ret, error);
}

/* The way to etcd may be another one once the API server answers. */
static int ask_members(struct cli_operation *op, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct etcd_member_list members;
    int r = cli_op_open_etcd(op, arena, &etcd, error);
    return r < 0 ? r : etcd_client_members(etcd, arena, &members, error);
}

int cli_op_wait_quorum(struct cli_operation *op, struct kp_error *error)
{
    int64_t asked_ms = kp_mono_ms(), deadline_ms = asked_ms + (op->started ? QUORUM_STARTED_MS : QUORUM_MS);
    int r;
    while ((r = ask_members(op, error)) < 0 && r != KP_ENOTFOUND && kp_mono_ms() < deadline_ms) {
        cli_progress_tick(&op->progress, error->message);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_rest(&asked_ms, POLL_MS, POLL_MS_MAX);
    }
    if (r == 0 || r == KP_ENOTFOUND)
        return r;
    struct kp_error last = *error;
    return kp_fail(error, KP_EUNAVAILABLE,
                   "etcd of cluster %s has no quorum: start the control planes that are off (kprov node start), or, when too many are lost "
                   "for good, make the cluster anew from a snapshot: kprov etcd snapshot restore. %s",
                   op->cluster.name, last.message);
}

/* ---- what is due */

static const struct cloud_machine *find_machine(const struct cloud_machine_list *machines, const char *name)
{
    for (size_t i = 0; i < machines->len; i++)
        if (kp_streq(machines->items[i].name, name))
            return &machines->items[i];
    return NULL;
}

static const char *peer_url(const char *address, struct kp_arena *arena)
{
    return kp_empty(address) ? "" : kp_arena_printf(arena, "https://%s:%d", address, ETCD_PEER_PORT);
}

static bool is_in(const struct kp_strings *names, const char *name)
{
    for (size_t i = 0; i < names->len; i++)
        if (kp_streq(names->items[i], name))
            return true;
    return false;
}

/* Those wanted, then those that are there without being wanted. */
static size_t list_control_planes(const struct cli_operation *op, const struct cloud_machine_list *machines, struct kp_arena *arena,
                                  struct plan_control_plane **ret)
{
    struct plan_control_plane *list = KP_NEW_ARRAY(arena, struct plan_control_plane, op->plan.n_machines + machines->len + 1);
    size_t n = 0;
    for (size_t i = 0; i < op->plan.n_machines; i++) {
        const struct plan_machine *wanted = &op->plan.machines[i];
        const struct cloud_machine *there = find_machine(machines, wanted->name);
        if (!kp_streq(wanted->role, "control-plane"))
            continue;
        /* A plan that is only shown has reserved no addresses: what was started is known by its name too. */
        const char *address = op->bootstrap.n_nodes ? op->bootstrap.nodes[i].address : there ? there->address : "";
        list[n++] = (struct plan_control_plane){.name = wanted->name, .peer_url = peer_url(address, arena),
                                                .exists = there && !kp_empty(there->role), .replace = is_in(&op->replace, wanted->name)};
    }
    for (size_t i = 0; i < machines->len; i++)
        if (is_control_plane(&machines->items[i]) && !cli_op_wants(op, machines->items[i].name))
            list[n++] = (struct plan_control_plane){.name = machines->items[i].name, .peer_url = peer_url(machines->items[i].address, arena),
                                                    .exists = true, .leaving = true};
    *ret = list;
    return n;
}

static bool is_healthy(const struct etcd_member_status *status, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (status[i].id == id && etcd_member_is_healthy(&status[i]))
            return true;
    return false;
}

static int read_members(struct etcd_client *etcd, struct kp_arena *arena, struct plan_etcd_member **ret, size_t *ret_n, struct kp_error *error)
{
    struct etcd_member_list list;
    struct etcd_member_status *status = NULL;
    int r = etcd_client_members(etcd, arena, &list, error);
    if (r < 0)
        return r;
    etcd_client_status(etcd, arena, &status);
    struct plan_etcd_member *members = KP_NEW_ARRAY(arena, struct plan_etcd_member, list.len + 1);
    for (size_t i = 0; i < list.len; i++)
        members[i] = (struct plan_etcd_member){
            .id = list.items[i].id, .name = list.items[i].name, .peer_url = list.items[i].peer_url, .learner = list.items[i].learner,
            .healthy = is_healthy(status, etcd_client_endpoints(etcd), list.items[i].id),
        };
    *ret = members;
    *ret_n = list.len;
    return 0;
}

static void keep_scope(const struct cli_operation *op, struct plan_member_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->len; i++)
        if (cli_op_in_scope(op, list->items[i].name))
            list->items[n++] = list->items[i];
    list->len = n;
}

int cli_op_plan_members(struct cli_operation *op, struct kp_arena *arena, struct plan_member_list *ret, struct kp_error *error)
{
    struct cloud_machine_list machines;
    struct plan_control_plane *control_planes = NULL;
    struct plan_etcd_member *members = NULL;
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    size_t n_members = 0;
    int r = cloud_machine_list(op->cloud, op->cluster.uid, arena, &machines, error);
    if (r == 0)
        r = cli_etcd_open(op->cluster.name, op->pki, &machines, 0, &op->etcd_hidden, &etcd, error);
    if (r == 0)
        r = read_members(etcd, arena, &members, &n_members, error);
    if (r < 0)
        return r;
    size_t n = list_control_planes(op, &machines, arena, &control_planes);
    r = plan_members(control_planes, n, members, n_members, arena, ret, error);
    keep_scope(op, ret);
    return r;
}

/* ---- joining */

static const struct plan_machine *find_wanted(const struct cli_operation *op, const char *name)
{
    for (size_t i = 0; i < op->plan.n_machines; i++)
        if (kp_streq(op->plan.machines[i].name, name))
            return &op->plan.machines[i];
    return NULL;
}

/* "demo-cp-1=https://10.89.0.10:2380,..." as etcd wants it of one that joins: all the members, the new one by its name to be. */
static int members_text(struct etcd_client *etcd, uint64_t joining, const char *name, struct kp_arena *arena, const char **ret,
                        struct kp_error *error)
{
    struct etcd_member_list list;
    KP_AUTO_BUF struct kp_buf out = {0};
    int r = etcd_client_members(etcd, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        kp_buf_printf(&out, "%s%s=%s", out.len ? "," : "", list.items[i].id == joining ? name : list.items[i].name, list.items[i].peer_url);
    if (r == 0)
        *ret = kp_arena_strndup(arena, out.data, out.len);
    return r;
}

/* A learner that has caught up becomes a voter: etcd refuses until then. */
static int finish(struct cli_operation *op, struct etcd_client *etcd, uint64_t id, const char *name, struct kp_error *error)
{
    int64_t asked_ms = kp_mono_ms(), deadline_ms = asked_ms + JOIN_MS;
    int r = state_journal(op->state, "etcd-member-promote", name, error);
    if (r < 0)
        return r;
    while ((r = etcd_client_member_promote(etcd, id, error)) < 0) {
        if (r != KP_ECONFLICT && !cli_api_may_pass(r))
            return r;
        if (kp_mono_ms() > deadline_ms)
            return kp_wrap(error, "%s has not caught up with etcd in %d s (kprov logs %s %s etcd tells why; kprov repair %s makes it anew)", name,
                           JOIN_MS / 1000, op->cluster.name, name, op->cluster.name);
        cli_progress_tick(&op->progress, name);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_rest(&asked_ms, POLL_MS, POLL_MS_MAX);
    }
    return state_journal_end(op->state, "etcd-member-promote", name, 0, error);
}

/* Of one that is gone from the cloud the Node tells that it was there: something of it may still run. */
static int is_left(struct cli_operation *op, const char *name, struct kp_arena *arena, bool *ret, struct kp_error *error)
{
    struct cloud_machine machine;
    struct kp_string_map readiness = {0};
    struct kp_error gone = {0};
    int r = cloud_machine_get(op->cloud, op->cluster.uid, name, arena, &machine, &gone);
    *ret = r == 0;
    if (r == 0)
        return 0;
    if (r != KP_ENOTFOUND)
        return kp_fail(error, r, "%s", gone.message);
    /* Who cannot be asked now is taken to have it: deleting what is gone does no harm. */
    *ret = cli_api_node_readiness(op->api, arena, &readiness, &gone) < 0 || kp_string_map_get(&readiness, name);
    return 0;
}

/* What is left of a machine of that name goes first, with its disk: started on the data of a member that was, it would be none. */
static int join(struct cli_operation *op, struct etcd_client *etcd, const struct plan_member_action *action, struct kp_arena *arena,
                struct kp_error *error)
{
    const struct plan_machine *machine = find_wanted(op, action->name);
    struct etcd_member member;
    KP_ASSERT(machine && op->bootstrap.n_nodes);
    const char *url = peer_url(op->bootstrap.nodes[machine - op->plan.machines].address, arena);
    bool left = false;
    int r = is_left(op, action->name, arena, &left, error);
    if (r == 0 && left)
        r = cli_op_delete_machine(op, action->name, error);
    if (r == 0)
        r = state_journal(op->state, "etcd-member-add", action->name, error);
    if (r == 0)
        r = state_journal_end(op->state, "etcd-member-add", action->name, etcd_client_member_add(etcd, url, arena, &member, error), error);
    if (r == 0)
        r = members_text(etcd, member.id, action->name, op->arena, &op->bootstrap.etcd_members, error);
    if (r == 0)
        r = state_journal(op->state, "machine", action->name, error);
    if (r == 0) {
        cli_progress_machine(&op->progress, action->name, CLI_PHASE_CREATE);
        r = state_journal_end(op->state, "machine", action->name, cli_op_create_machine(op, machine, error), error);
    }
    op->bootstrap.etcd_members = NULL;
    if (r < 0)
        return r;
    cli_progress_machine(&op->progress, action->name, CLI_PHASE_BOOT);
    return finish(op, etcd, member.id, action->name, error);
}

static int drop(struct cli_operation *op, struct etcd_client *etcd, const struct plan_member_action *action, struct kp_error *error)
{
    const char *name = kp_empty(action->name) ? "-" : action->name;
    int r = state_journal(op->state, "etcd-member-remove", name, error);
    return r < 0 ? r : state_journal_end(op->state, "etcd-member-remove", name, etcd_client_member_remove(etcd, action->id, error), error);
}

static int take(struct cli_operation *op, const struct plan_member_action *action, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    int r = cli_op_open_etcd(op, arena, &etcd, error);
    if (r < 0)
        return r;
    switch (action->verb) {
    case PLAN_MEMBER_DROP: return drop(op, etcd, action, error);
    case PLAN_MEMBER_JOIN: r = join(op, etcd, action, arena, error); break;
    case PLAN_MEMBER_FINISH: r = finish(op, etcd, action->id, action->name, error); break;
    case PLAN_MEMBER_LEAVE: return 0;
    }
    for (size_t i = 0; r == 0 && i < op->replace.len; i++) /* done: not again */
        if (kp_streq(op->replace.items[i], action->name))
            op->replace.items[i][0] = 0;
    return r < 0 ? kp_wrap(error, "%s", action->name) : 0;
}

/* A member that has just become a voter may still be finding its leader: too few healthy ones are looked at again. */
static int plan_when_healthy(struct cli_operation *op, struct kp_arena *arena, struct plan_member_list *ret, struct kp_error *error)
{
    int64_t asked_ms = kp_mono_ms(), deadline_ms = asked_ms + HEALTH_MS;
    int r;
    while (cli_api_may_pass(r = cli_op_plan_members(op, arena, ret, error)) && kp_mono_ms() < deadline_ms) {
        struct kp_error interrupted = {0};
        if (cli_interrupted(&interrupted) < 0) {
            *error = interrupted;
            return error->code;
        }
        kp_rest(&asked_ms, POLL_MS, POLL_MS_MAX);
    }
    return r;
}

/* One step, then another look: whatever was cut short, here or in a run before, is found as it is. */
int cli_op_change_members(struct cli_operation *op, struct kp_error *error)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct plan_member_list list;
        int r = plan_when_healthy(op, arena, &list, error);
        if (r == 0)
            r = cli_interrupted(error);
        if (r < 0)
            return r;
        if (list.len == 0 || list.items[0].verb == PLAN_MEMBER_LEAVE)
            return 0;
        r = take(op, &list.items[0], arena, error);
        if (r < 0)
            return r;
    }
    return kp_fail(error, KP_EINTERNAL, "etcd's members do not come to what is wanted after %d changes", ROUNDS_MAX);
}

/* ---- leaving */

/* The member that is to lead and to hold the API's address: the leader, or a healthy voter when the leader is the one that goes. */
static const char *successor(const struct etcd_member_list *members, const struct etcd_member_status *status, size_t n_status,
                             uint64_t leaving, uint64_t *ret_id)
{
    const char *name = NULL;
    for (size_t i = 0; i < n_status; i++) {
        if (!etcd_member_is_healthy(&status[i]) || status[i].learner || status[i].id == leaving)
            continue;
        for (size_t j = 0; j < members->len; j++) {
            if (members->items[j].id == status[i].id && (!name || status[i].leader == status[i].id)) {
                name = members->items[j].name;
                *ret_id = status[i].id;
            }
        }
    }
    return name;
}

static int leave(struct cli_operation *op, struct etcd_client *etcd, const struct plan_member_action *action, struct kp_arena *arena,
                 struct kp_error *error)
{
    struct etcd_member_list members;
    struct etcd_member_status *status = NULL;
    uint64_t next_id = 0;
    int r = etcd_client_members(etcd, arena, &members, error);
    if (r < 0)
        return r;
    etcd_client_status(etcd, arena, &status);
    const char *next = successor(&members, status, etcd_client_endpoints(etcd), action->id, &next_id);
    if (!next)
        return kp_fail(error, KP_EUNAVAILABLE, "no other member of etcd is healthy: see kprov repair %s", op->cluster.name);
    r = cli_api_hand_over(op->api, action->name, next, error);
    if (r == 0)
        r = state_journal(op->state, "etcd-member-remove", action->name, error);
    if (r == 0)
        r = etcd_client_move_leader(etcd, next_id, error);
    return r < 0 ? r : state_journal_end(op->state, "etcd-member-remove", action->name, etcd_client_member_remove(etcd, action->id, error), error);
}

int cli_op_leave_members(struct cli_operation *op, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct cloud_machine machine;
    struct plan_member_list list;
    int r = cloud_machine_get(op->cloud, op->cluster.uid, name, arena, &machine, error);
    if (r == KP_ENOTFOUND || (r == 0 && !is_control_plane(&machine)))
        return 0;
    if (r == 0)
        r = plan_when_healthy(op, arena, &list, error);
    if (r == 0)
        r = cli_op_open_etcd(op, arena, &etcd, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        if (list.items[i].verb == PLAN_MEMBER_LEAVE && kp_streq(list.items[i].name, name))
            r = leave(op, etcd, &list.items[i], arena, error);
    /* Its API server is behind the Service kubernetes until the key it keeps runs out. */
    if (r == 0)
        r = etcd_client_delete(etcd, kp_arena_printf(arena, API_SERVERS_PREFIX "%s", machine.address), error);
    return r < 0 ? kp_wrap(error, "take %s out of etcd", name) : 0;
}
