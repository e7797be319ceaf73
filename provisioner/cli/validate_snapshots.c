/* Check of the snapshots that control planes take by themselves: that they do is noticed too late when one is needed. */
#include "provisioner/cli/snapshot_internal.h"
#include "provisioner/cli/validate_internal.h"
#include "provisioner/keeper/keeper.h"

enum validate_result validate_snapshot_age(int64_t newest_s, int64_t machine_s, int64_t every_s, int64_t now_s)
{
    const int64_t due_s = newest_s ? newest_s + every_s : machine_s + KP_MIN(every_s, (int64_t)KEEPER_FIRST_S);
    return now_s > due_s + KP_MAX(every_s / 2, (int64_t)VALIDATE_SNAPSHOT_LATE_S) ? VALIDATE_WARNING : VALIDATE_OK;
}

static int64_t newest_of(const struct kp_value *rows, const char *machine)
{
    int64_t newest_s = 0;
    for (size_t i = 0; i < rows->array.len; i++) {
        struct snapshot_scheduled found;
        const struct kp_value *row = rows->array.items[i];
        if (kp_streq(kp_value_str(kp_value_get(row, "where")), machine) &&
            snapshot_scheduled_parse(kp_value_str(kp_value_get(row, "name")), &found) == 0)
            newest_s = KP_MAX(newest_s, found.taken_s);
    }
    return newest_s;
}

void validate_snapshots(struct validate *v)
{
    const int64_t every_s = config_snapshot_every_s(&v->cluster.config), now_s = kp_now_s();
    struct kp_value *rows = kp_value_array(v->arena);
    int64_t newest_s = 0;
    if (every_s == 0)
        return;
    cli_snapshot_list_machines(&v->cluster, rows, v->arena);
    for (size_t i = 0; i < v->machines.len; i++) {
        const struct cloud_machine *machine = &v->machines.items[i];
        const int64_t own_s = newest_of(rows, machine->name);
        newest_s = KP_MAX(newest_s, own_s);
        if (!kp_streq(machine->role, "control-plane") || machine->power != CLOUD_POWER_ON ||
            validate_snapshot_age(own_s, machine->created_s, every_s, now_s) == VALIDATE_OK)
            continue;
        validate_add(v, "snapshots", VALIDATE_WARNING, kp_arena_printf(v->arena, "kprov logs %s %s etcd-snapshots", v->cluster.name, machine->name),
                     own_s ? "%s has taken none for %lld minutes" : "%s has none, after %lld minutes", machine->name,
                     (long long)((now_s - (own_s ? own_s : machine->created_s)) / 60));
        return;
    }
    if (newest_s)
        validate_add(v, "snapshots", VALIDATE_OK, "", "%zu on the control planes, the newest %lld minutes old", rows->array.len,
                     (long long)((now_s - newest_s) / 60));
    else
        validate_add(v, "snapshots", VALIDATE_OK, "", "the first is not due yet");
}
