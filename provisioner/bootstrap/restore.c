/* A control plane's etcd begun from a snapshot: what its init runs once, before the kubelet starts etcd. */
#include "provisioner/bootstrap/bootstrap.h"

/* The database takes its place by a rename, after the one that was there has been put aside: whenever the power goes, the next boot
   finds the old one, or none and does it again, or the new one. What was there is kept until the next restore. */
static const char script[] =
    "set -eu\n"
    "id=$1 gz=" BOOTSTRAP_RESTORE_DIR "/$1.db.gz db=" BOOTSTRAP_RESTORE_DIR "/$1.db dir=/var/lib/etcd\n"
    "shift\n"
    "while [ ! -e \"$gz\" ]; do sleep 0.2; done\n"
    "rm -rf \"$dir/restore-$id\"\n"
    "gzip -dc \"$gz\" > \"$db\"\n"
    "/usr/lib/kprov/bin/etcd snapshot restore \"$db\" --data-dir \"$dir/restore-$id\" \"$@\"\n"
    "if [ -e \"$dir/member\" ]; then rm -rf \"$dir/member.before\"; mv \"$dir/member\" \"$dir/member.before\"; fi\n"
    "mv \"$dir/restore-$id/member\" \"$dir/member\"\n"
    "sync -f \"$dir\"\n"
    "rm -rf \"$db\" \"$gz\" \"$dir/restore-$id\"\n";

const char *const *bootstrap_restore_command(const struct bootstrap_cluster *cluster, const struct bootstrap_node *node,
                                             struct kp_arena *arena)
{
    const struct bootstrap_restore *restore = cluster->restore;
    KP_AUTO_BUF struct kp_buf members = {0};
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (cluster->nodes[i].control_plane)
            kp_buf_printf(&members, "%s%s=https://%s:2380", members.len ? "," : "", cluster->nodes[i].name, cluster->nodes[i].address);
    }
    const char **words = KP_NEW_ARRAY(arena, const char *, 16);
    size_t n = 0;
    words[n++] = "sh";
    words[n++] = "-c";
    words[n++] = script;
    words[n++] = "restore";
    words[n++] = restore->id;
    words[n++] = kp_arena_printf(arena, "--name=%s", node->name);
    words[n++] = kp_arena_printf(arena, "--initial-cluster=%s", members.data ? members.data : "");
    words[n++] = kp_arena_printf(arena, "--initial-cluster-token=%s", restore->token);
    words[n++] = kp_arena_printf(arena, "--initial-advertise-peer-urls=https://%s:2380", node->address);
    if (restore->bump_revision > 0) {
        words[n++] = kp_arena_printf(arena, "--bump-revision=%lld", (long long)restore->bump_revision);
        words[n++] = "--mark-compacted";
    }
    words[n] = NULL;
    return words;
}
