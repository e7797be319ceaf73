/* What would stand in a new cluster's way, found before anything is made. */
#include <libgen.h>
#include <sys/statvfs.h>

#include "cloud/libvirt/libvirt_internal.h"

#define MACHINE_BYTES_MIN ((uint64_t)512 << 20) /* what a node writes before it is of use; its disk is sparse */
#define IMAGE_BYTES_MIN ((uint64_t)512 << 20)   /* the node image's copy */

/* A name that another's domain has would be taken for ours by everybody who looks. */
static int check_names(struct lv *lv, const struct cloud_wish *wish, struct kp_error *error)
{
    for (size_t i = 0; i < wish->n_machines; i++) {
        virDomainPtr domain = virDomainLookupByName(lv->conn, wish->machines[i]);
        if (!domain)
            continue;
        virDomainFree(domain);
        return kp_fail(error, KP_ECONFLICT, "libvirt has a domain %s already: name the cluster otherwise, or rename or undefine that domain",
                       wish->machines[i]);
    }
    return 0;
}

/* Where libvirt keeps files: the folder itself, or what there is of the way to it. */
static uint64_t free_bytes_here(void)
{
    char path[] = LV_POOLS_DIR;
    struct statvfs fs;
    char *at = path;
    while (statvfs(at, &fs) < 0 && strlen(at) > 1)
        at = dirname(at);
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static int check_space(struct lv *lv, const struct cloud_wish *wish, struct kp_error *error)
{
    uint64_t wanted = IMAGE_BYTES_MIN + wish->n_machines * MACHINE_BYTES_MIN, there = UINT64_MAX;
    virStoragePoolPtr pool = lv->here ? NULL : virStoragePoolLookupByName(lv->conn, LV_IMAGES_POOL);
    virStoragePoolInfo info;
    if (lv->here)
        there = free_bytes_here();
    else if (pool && virStoragePoolGetInfo(pool, &info) == 0)
        there = info.available;
    if (pool)
        virStoragePoolFree(pool);
    if (there >= wanted)
        return 0;
    return kp_fail(error, KP_EQUOTA, "%zu machines need %llu MiB in " LV_POOLS_DIR ", and %llu MiB are free: make room there, or mount a larger disk",
                   wish->n_machines, (unsigned long long)(wanted >> 20), (unsigned long long)(there >> 20));
}

int lv_check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    struct lv *lv = state;
    int r = check_names(lv, wish, error);
    if (r == 0)
        r = check_space(lv, wish, error);
    if (r == 0 && wish->bridge.name)
        return lv_bridged_check(lv, wish->cidr, &wish->bridge, error);
    return r < 0 ? r : lv_network_check(lv, wish->cidr, error);
}
