/* What comes from a control plane: a snapshot's database, the names of snapshots, and what kprov-snapshots is told. */
#include <stddef.h>
#include <stdint.h>

#include "provisioner/keeper/keeper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct snapshot_scheduled found;
    struct keeper_config config;
    struct snapshot_meta meta;
    struct kp_error error = {0};
    int64_t revision = 0;
    const char *text = kp_arena_strndup(arena, (const char *)data, size);
    if (snapshot_scheduled_parse(text, &found) == 0) {
        char again[SNAPSHOT_NAME_MAX];
        struct snapshot_scheduled same;
        snapshot_scheduled_name(found.machine, found.revision, found.taken_s, again);
        KP_ASSERT(snapshot_scheduled_parse(again, &same) == 0 && same.revision == found.revision && same.taken_s == found.taken_s);
    }
    (void)!keeper_config_parse((const char *)data, size, arena, &config, &error);
    (void)!snapshot_meta_parse((const char *)data, size, arena, &meta, &error);
    (void)!snapshot_revision(data, size, &revision, &error);
    return 0;
}
