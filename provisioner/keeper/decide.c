/* When a snapshot is due, which ones stay, whether there is room: no clock and no disk but those given. */
#include "provisioner/keeper/keeper.h"

int64_t keeper_due_s(const struct keeper_config *config, const struct keeper_file *files, size_t n, const struct keeper_clock *clock)
{
    int64_t newest_s = -1;
    for (size_t i = 0; i < n; i++)
        if (files[i].taken_s <= clock->now_s)
            newest_s = KP_MAX(newest_s, files[i].taken_s);
    int64_t due_s = newest_s >= 0 ? newest_s + config->every_s : clock->started_s + KP_MIN(config->every_s, (int64_t)KEEPER_FIRST_S);
    if (clock->failed_s)
        due_s = KP_MAX(due_s, clock->failed_s + KP_MIN(config->every_s, (int64_t)KEEPER_RETRY_S));
    /* No wait is longer than the schedule's, also when the clock was put back since the start. */
    return KP_MIN(due_s, clock->now_s + config->every_s);
}

static int newest_first(const void *a, const void *b)
{
    const struct keeper_file *x = a, *y = b;
    return x->taken_s != y->taken_s ? (x->taken_s < y->taken_s ? 1 : -1) : strcmp(y->name, x->name);
}

size_t keeper_kept(const struct keeper_config *config, struct keeper_file *files, size_t n)
{
    if (n > 1)
        qsort(files, n, sizeof(*files), newest_first);
    return KP_MIN(n, (size_t)config->keep);
}

bool keeper_has_room(int64_t free_bytes, int64_t disk_bytes, int64_t database_bytes)
{
    return free_bytes - database_bytes >= KP_MIN(disk_bytes / 20, KEEPER_RESERVE_MAX);
}
