/* kprov delete cluster: everything that carries the cluster's uid, then what kprov remembers of it. */
#include <unistd.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"

/* The kubeconfig that creation merged the context into. */
static int forget_context(const char *name, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    int r = state_read_file(name, "kubeconfig-path", &path, error);
    if (r == KP_ENOTFOUND)
        return 0; /* interrupted before it got that far */
    return r < 0 ? r : kubeconfig_unmerge(path.data, kp_arena_printf(arena, "kprov-%s", name), error);
}

static int check_nothing_left(struct cloud *cloud, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings left = {0};
    int r = cloud_owned(cloud, uid, arena, &left, error);
    if (r == 0 && left.len > 0) {
        KP_AUTO_BUF struct kp_buf text = {0};
        for (size_t i = 0; i < left.len; i++)
            kp_buf_printf(&text, "%s%s", i ? ", " : "", left.items[i]);
        r = kp_fail(error, KP_ECONFLICT, "still there after deletion: %s", text.data);
    }
    kp_strings_done(&left);
    return r;
}

static int delete_cluster(const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(state_close) struct state *state = NULL;
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster cluster;
    int r = state_open(name, false, &state, error);
    if (r < 0)
        return r;
    r = cli_cluster_open(name, arena, &cluster, &cloud, error);
    if (r == KP_ENOTFOUND) /* interrupted before anything was made: there is but the folder */
        return state_remove(state, error);
    if (r < 0)
        return r;
    cluster.phase = STATE_DELETING;
    r = state_write(state, &cluster, error);
    if (r == 0)
        r = state_journal(state, "delete-cluster", cluster.uid, error);
    if (r == 0)
        r = cloud_purge(cloud, cluster.uid, error);
    if (r == 0)
        r = check_nothing_left(cloud, cluster.uid, arena, error);
    if (r == 0)
        r = forget_context(name, arena, error);
    return r < 0 ? r : state_remove(state, error);
}

static int confirm(const char *name, struct kp_error *error)
{
    char line[64];
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "deleting cluster %s asks for a yes: pass --yes", name);
    fprintf(stderr, "Delete cluster %s with all its machines and data? [y/N] ", name);
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "nothing was deleted");
    return 0;
}

int cli_delete_cluster(int argc, char **argv, struct kp_error *error)
{
    bool yes = false, help = false;
    const struct kp_flag flags[] = {{"yes", 'y', KP_FLAG_BOOL, &yes, "do not ask", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("delete cluster", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("delete cluster", &rest, 1, 1, error);
    if (r == 0 && !help) {
        KP_AUTO(state_close) struct state *state = NULL; /* says that there is none before it asks */
        r = state_open(rest.items[0], false, &state, error);
    }
    if (r == 0 && !help && !yes)
        r = confirm(rest.items[0], error);
    if (r == 0 && !help) {
        int64_t start_ms = kp_mono_ms();
        r = delete_cluster(rest.items[0], error);
        if (r < 0)
            r = kp_wrap(error, "delete cluster %s", rest.items[0]);
        else
            fprintf(stderr, "Deleted cluster %s (%.2fs)\n", rest.items[0], (double)(kp_mono_ms() - start_ms) / 1000.0);
    }
    kp_strings_done(&rest);
    return r;
}
