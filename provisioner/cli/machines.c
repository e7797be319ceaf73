/* Making, starting and removing the machines of a plan. Several are made at a time; what is about to be made is in the journal first. */
#include <pthread.h>

#include "provisioner/cli/operation_internal.h"

#define AT_ONCE_MAX 8
#define INSIST_MS 20000
#define INSIST_POLL_MS 100

struct making;
struct made {
    struct making *making;
    const struct plan_action *action;
    struct kp_error error;
    pthread_t thread;
    struct made *next; /* of those that have ended */
};
struct making {
    struct cli_operation *op;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct made *done;
};

int cli_op_create_machine(const struct cli_operation *op, const struct plan_machine *machine, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cloud_machine made;
    const struct bootstrap_node *node = &op->bootstrap.nodes[machine - op->plan.machines];
    int r = cli_op_user_data(op, node, &user_data, error);
    if (r < 0)
        return r;
    const struct cloud_machine_spec spec = {
        .cluster_uid = op->cluster.uid, .name = machine->name, .role = machine->role,
        .pool = machine->pool ? machine->pool->name : "", .machine_type = machine->machine_type,
        .image = op->cluster.image, .address = node->address,
        .user_data = user_data.data, .user_data_len = user_data.len,
    };
    r = cloud_machine_create(op->cloud, &spec, arena, &made, error);
    return r < 0 ? r : cli_op_forward(op, node, error);
}

static const char *intent(const struct plan_action *action)
{
    return action->verb == PLAN_CREATE ? "machine" : "start-machine";
}

static void *make(void *arg)
{
    struct made *made = arg;
    struct making *making = made->making;
    const struct cli_operation *op = making->op;
    int r = made->action->verb == PLAN_CREATE
                ? cli_op_create_machine(op, made->action->machine, &made->error)
                : cloud_machine_power(op->cloud, op->cluster.uid, made->action->name, CLOUD_POWER_START, &made->error);
    r = state_journal_end(op->state, intent(made->action), made->action->name, r, &made->error);
    made->error.code = r;
    pthread_mutex_lock(&making->lock);
    made->next = making->done;
    making->done = made;
    pthread_cond_signal(&making->ended);
    pthread_mutex_unlock(&making->lock);
    return NULL;
}

/* Waits for one to end. */
static int collect(struct making *making, struct kp_error *error)
{
    pthread_mutex_lock(&making->lock);
    while (!making->done)
        pthread_cond_wait(&making->ended, &making->lock);
    struct made *made = making->done;
    making->done = made->next;
    pthread_mutex_unlock(&making->lock);
    pthread_join(made->thread, NULL);
    int r = made->error.code;
    if (r < 0)
        *error = made->error;
    else
        cli_progress_machine(&making->op->progress, made->action->name, CLI_PHASE_BOOT);
    free(made);
    return r;
}

static int begin(struct making *making, const struct plan_action *action, struct kp_error *error)
{
    struct cli_operation *op = making->op;
    int r = cli_interrupted(error);
    if (r == 0)
        r = state_journal(op->state, intent(action), action->name, error);
    if (r < 0)
        return r;
    struct made *made = kp_calloc(1, sizeof(*made));
    made->making = making;
    made->action = action;
    cli_progress_machine(&op->progress, action->name, CLI_PHASE_CREATE);
    KP_ASSERT(pthread_create(&made->thread, NULL, make, made) == 0);
    return 0;
}

/* After a failure no more are begun; those under way are waited for, and the first failure is told. */
static int make_all(struct cli_operation *op, bool (*is_due)(const struct cli_operation *, const struct plan_action *), struct kp_error *error)
{
    struct making making = {.op = op, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct kp_error later = {0};
    size_t running = 0, next = 0;
    int r = 0;
    while (running || (r == 0 && next < op->plan.n_actions)) {
        if (r < 0 || next == op->plan.n_actions || running == AT_ONCE_MAX) {
            int one = collect(&making, r < 0 ? &later : error);
            r = r < 0 ? r : one;
            running--;
            continue;
        }
        const struct plan_action *action = &op->plan.actions[next++];
        if (!is_due(op, action))
            continue;
        r = begin(&making, action, error);
        running += r == 0;
    }
    return r;
}

bool cli_op_in_scope(const struct cli_operation *op, const char *name)
{
    return !op->only || kp_streq(op->only, name);
}

bool cli_op_wants(const struct cli_operation *op, const char *name)
{
    for (size_t i = 0; i < op->plan.n_machines; i++)
        if (kp_streq(op->plan.machines[i].name, name))
            return true;
    return false;
}

static bool is_start(const struct cli_operation *op, const struct plan_action *action)
{
    return action->verb == PLAN_START && cli_op_in_scope(op, action->name);
}

/* Of a cluster that is at work a control plane is not just made: it joins (members.c). */
static bool is_make(const struct cli_operation *op, const struct plan_action *action)
{
    bool joins = op->cluster.phase == STATE_READY && action->machine && kp_streq(action->machine->role, "control-plane");
    return is_start(op, action) || (action->verb == PLAN_CREATE && !joins && cli_op_in_scope(op, action->name));
}

int cli_op_start_machines(struct cli_operation *op, struct kp_error *error)
{
    for (size_t i = 0; i < op->plan.n_actions; i++)
        op->started |= is_start(op, &op->plan.actions[i]);
    return make_all(op, is_start, error);
}

int cli_op_make_machines(struct cli_operation *op, struct kp_error *error)
{
    int r = make_all(op, is_make, error);
    return r < 0 || op->cluster.phase == STATE_READY ? r : cli_op_balance_api(op, error);
}

/* A request through a control plane that goes is cut off with it: the address moves, and the next one gets through. */
static int insist(struct cli_operation *op, const char *name, int (*call)(struct cli_api *, const char *, struct kp_error *), struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + INSIST_MS;
    for (;;) {
        int r = call(op->api, name, error);
        if ((r != KP_EUNAVAILABLE && r != KP_ETIMEOUT && r != KP_EIO) || kp_mono_ms() > deadline_ms)
            return r;
        struct kp_error interrupted = {0};
        if (cli_interrupted(&interrupted) < 0) {
            *error = interrupted;
            return error->code;
        }
        kp_sleep_ms(INSIST_POLL_MS);
    }
}

/* The machine goes before its Node: a kubelet that still ran would register again. */
int cli_op_delete_machine(struct cli_operation *op, const char *name, struct kp_error *error)
{
    int r = state_journal(op->state, "delete-machine", name, error);
    if (r == 0)
        r = state_journal_end(op->state, "delete-machine", name, cloud_machine_delete(op->cloud, op->cluster.uid, name, error), error);
    return r < 0 || !op->api ? r : insist(op, name, cli_api_delete_node, error);
}

static int remove_machine(struct cli_operation *op, const char *name, struct kp_error *error)
{
    cli_progress_machine(&op->progress, name, CLI_PHASE_DRAIN);
    int r = cli_op_removal_begin(op, name, error);
    if (r < 0)
        return r;
    r = cli_api_drain(op->api, name, kp_mono_ms() + op->drain_timeout_ms, &op->progress, error);
    if (r == 0)
        r = cli_op_leave_members(op, name, error);
    if (r == 0) {
        cli_progress_machine(&op->progress, name, CLI_PHASE_DELETE);
        r = cli_op_delete_machine(op, name, error);
    }
    if (r == 0)
        r = cloud_address_release(op->cloud, op->cluster.uid, name, error);
    if (r == 0)
        r = insist(op, name, cli_api_release_leases, error);
    if (r == 0)
        cli_progress_machine(&op->progress, name, CLI_PHASE_GONE);
    return cli_op_removal_end(op, name, r, error);
}

int cli_op_remove_machines(struct cli_operation *op, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < op->plan.n_actions; i++) {
        const struct plan_action *action = &op->plan.actions[i];
        if (action->verb != PLAN_DELETE)
            continue;
        r = cli_interrupted(error);
        if (r == 0)
            r = remove_machine(op, action->name, error);
    }
    return r;
}

int cli_op_at_next_boot(struct cli_operation *op, const struct cloud_machine *machine, const struct kp_buf *user_data, struct kp_error *error)
{
    struct cloud_machine after;
    const struct cloud_machine_spec spec = {
        .cluster_uid = op->cluster.uid, .name = machine->name, .role = machine->role, .pool = machine->pool, .machine_type = machine->machine_type,
        .image = machine->image, .address = machine->address, .user_data = user_data->data, .user_data_len = user_data->len, .at_next_boot = true,
    };
    int r = state_journal(op->state, "configure-machine", machine->name, error);
    return r < 0 ? r : cloud_machine_reimage(op->cloud, &spec, op->arena, &after, error);
}
