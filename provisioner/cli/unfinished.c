/* What earlier runs left unfinished, by the journal: an intent whose last word is not that it is done. */
#include "provisioner/cli/operation_internal.h"

#define CHANGE_INTENT "change-cluster"

static void forget(struct kp_strings *names, const char *name)
{
    for (size_t i = 0; i < names->len; i++) {
        if (!kp_streq(names->items[i], name))
            continue;
        free(names->items[i]);
        names->items[i] = names->items[--names->len];
        return;
    }
}

int cli_unfinished(const char *cluster, const char *intent, struct kp_strings *ret_names, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct state_event_list events;
    int r = state_journal_read(cluster, arena, &events, error);
    for (size_t i = 0; r == 0 && i < events.len; i++) {
        if (!kp_streq(events.items[i].intent, intent))
            continue;
        forget(ret_names, events.items[i].object);
        if (events.items[i].outcome != STATE_EVENT_DONE)
            kp_strings_add(ret_names, events.items[i].object);
    }
    return r;
}

int cli_is_unfinished(const char *cluster, const char *intent, const char *object, bool *ret, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = cli_unfinished(cluster, intent, &names, error);
    *ret = false;
    for (size_t i = 0; i < names.len; i++)
        *ret |= kp_streq(names.items[i], object);
    kp_strings_done(&names);
    return r;
}

int cli_change_is_unfinished(const char *cluster, bool *ret, struct kp_error *error)
{
    return cli_is_unfinished(cluster, CHANGE_INTENT, cluster, ret, error);
}

int cli_op_change(struct cli_operation *op, const struct cli_step *steps, struct kp_error *error)
{
    bool earlier = false;
    const char *name = op->cluster.name;
    int r = cli_change_is_unfinished(name, &earlier, error);
    if (r == 0)
        r = state_journal(op->state, CHANGE_INTENT, name, error);
    if (r < 0)
        return r;
    r = cli_op_run(op, steps, error);
    /* One machine's change does not finish what was begun for all. */
    return r == 0 && op->only && earlier ? 0 : state_journal_end(op->state, CHANGE_INTENT, name, r, error);
}
