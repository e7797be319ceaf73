/* What kprov-snapshots is told: a small JSON document, written by the machine's init. */
#include "codec/codec.h"
#include "provisioner/keeper/keeper.h"

static int64_t whole_number(const struct kp_value *root, const char *key)
{
    const struct kp_value *value = kp_value_get(root, key);
    return value && value->kind == KP_VALUE_INT ? value->integer : -1;
}

int keeper_config_parse(const char *text, size_t len, struct kp_arena *arena, struct keeper_config *ret, struct kp_error *error)
{
    struct kp_value *root = NULL;
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    if (r < 0)
        return r;
    *ret = (struct keeper_config){
        .every_s = whole_number(root, "everySeconds"), .keep = whole_number(root, "keep"), .dir = kp_value_str(kp_value_get(root, "dir"))};
    if (ret->every_s < 0 || ret->every_s > CONFIG_SNAPSHOT_EVERY_MAX_S)
        return kp_fail(error, KP_EINVALID, "everySeconds must be from 0 to %d", CONFIG_SNAPSHOT_EVERY_MAX_S);
    if (ret->keep < 1 || ret->keep > CONFIG_SNAPSHOT_KEEP_MAX)
        return kp_fail(error, KP_EINVALID, "keep must be from 1 to %d", CONFIG_SNAPSHOT_KEEP_MAX);
    if (kp_empty(ret->dir) || ret->dir[0] != '/')
        return kp_fail(error, KP_EINVALID, "dir must be an absolute path");
    return 0;
}
