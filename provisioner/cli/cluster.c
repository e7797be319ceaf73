/* Names to things: clusters, machines, files of the state, the user's kubeconfig. */
#include "provisioner/cli/cli.h"

int cli_state_path(const char *cluster, const char *file, struct kp_arena *arena, const char **ret_path,
                   struct kp_error *error)
{
    const char *root = NULL;
    int r = state_root(arena, &root, error);
    if (r == 0)
        *ret_path = kp_arena_printf(arena, "%s/%s/%s", root, cluster, file);
    return r;
}

int cli_default_kubeconfig(struct kp_arena *arena, const char **ret_path, struct kp_error *error)
{
    const char *home = getenv("HOME");
    if (kp_empty(home))
        return kp_fail(error, KP_EINVALID, "HOME is not set: name a file with --kubeconfig");
    *ret_path = kp_arena_printf(arena, "%s/.kube/config", home);
    return 0;
}

int cli_cluster_open(const char *name, struct kp_arena *arena, struct state_cluster *ret_cluster,
                     struct cloud **ret_cloud, struct kp_error *error)
{
    const struct cloud_options options = {.image_dir = getenv("KPROV_IMAGE_DIR"), .state_dir = getenv("KPROV_LOCAL_DIR")};
    int r = state_read(name, arena, ret_cluster, error);
    return r < 0 ? r : cloud_open(ret_cluster->config.provider, &options, ret_cloud, error);
}

int cli_find_machine(struct cloud *cloud, const struct state_cluster *cluster, const char *word, struct kp_arena *arena,
                     struct cloud_machine *ret, struct kp_error *error)
{
    struct kp_error first = {0};
    int r = cloud_machine_get(cloud, cluster->uid, word, arena, ret, &first);
    if (r == KP_ENOTFOUND) {
        const char *full = kp_arena_printf(arena, "%s-%s", cluster->name, word);
        r = cloud_machine_get(cloud, cluster->uid, full, arena, ret, error);
    } else if (r < 0) {
        return kp_fail(error, r, "%s", first.message);
    }
    if (r == KP_ENOTFOUND)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no node \"%s\": see kprov get nodes --cluster %s",
                       cluster->name, word, cluster->name);
    return r;
}
