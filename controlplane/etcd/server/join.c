/* Beginning: joining a cluster that runs, and noticing that one was begun, or ended, without this member. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/rpc_internal.h"

#include <signal.h>
#include <unistd.h>

#define JOIN_MS 5000
#define LOOK_MS 1000

static int get(struct etcd_server *server, const char *urls, const char *path, int64_t timeout_ms, struct kp_buf *body,
               uint64_t *ret_cluster_id, struct kp_error *error)
{
    const struct etcd_world *world = server->config.world;
    struct peer_tls_files tls;
    if (world)
        return world->get ? world->get(world->ctx, urls, path, body, ret_cluster_id, error)
                          : kp_fail(error, KP_EUNAVAILABLE, "no way to ask");
    server_peer_tls(&server->config.peer_tls, &tls);
    return peer_get(urls, &tls, path, timeout_ms, body, ret_cluster_id, error);
}

/* The peer URLs of everybody else, with commas between. */
static void urls_of_others(const struct members *members, uint64_t self, struct kp_buf *out)
{
    for (size_t i = 0; i < members->len; i++)
        for (size_t u = 0; members->items[i].id != self && u < members->items[i].peer_urls.len; u++)
            kp_buf_printf(out, "%s%s", out->len ? "," : "", members->items[i].peer_urls.items[u]);
}

static int fetch_members(struct etcd_server *server, const char *urls, int64_t timeout_ms, struct members *ret_members,
                         uint64_t *ret_cluster_id, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    int rc = get(server, urls, ETCD_PATH_MEMBERS, timeout_ms, &body, ret_cluster_id, error);
    if (rc < 0)
        return rc;
    Etcdserverpb__MemberListResponse *list =
        etcdserverpb__member_list_response__unpack(NULL, body.len, (const uint8_t *)body.data);
    if (!list || !*ret_cluster_id)
        rc = kp_fail(error, KP_ECORRUPT, "%s tells no members", urls);
    for (size_t i = 0; rc == 0 && i < list->n_members; i++)
        members_take(ret_members, list->members[i]);
    if (list)
        etcdserverpb__member_list_response__free_unpacked(list, NULL);
    return rc;
}

static bool same_urls(const struct kp_strings *a, const struct kp_strings *b)
{
    size_t found = 0;
    for (size_t i = 0; i < a->len; i++)
        for (size_t j = 0; j < b->len; j++)
            if (kp_streq(a->items[i], b->items[j])) {
                found++;
                break;
            }
    return found == a->len && a->len == b->len;
}

static const struct member *find_by_urls(const struct members *members, const struct kp_strings *urls)
{
    for (size_t i = 0; i < members->len; i++)
        if (same_urls(&members->items[i].peer_urls, urls))
            return &members->items[i];
    return NULL;
}

/* Each member of --initial-cluster must be one of theirs, by its URLs; etcd's words. */
static int match(const struct members *given, const struct members *theirs, uint64_t given_self, uint64_t *ret_self,
                 struct kp_error *error)
{
    if (given->len != theirs->len)
        return kp_fail(error, KP_EUSAGE, "error validating peerURLs: member count is unequal (--initial-cluster has %zu, the cluster %zu)",
                       given->len, theirs->len);
    for (size_t i = 0; i < given->len; i++) {
        const struct member *member = find_by_urls(theirs, &given->items[i].peer_urls);
        if (!member)
            return kp_fail(error, KP_EUSAGE, "error validating peerURLs: unmatched member while checking PeerURLs (%s)",
                           given->items[i].peer_urls.items[0]);
        if (given->items[i].id == given_self)
            *ret_self = member->id;
    }
    return 0;
}

int cluster_join(struct etcd_server *server, struct kp_error *error)
{
    struct members given = {0}, theirs = {0};
    uint64_t given_self, given_cluster;
    KP_AUTO_BUF struct kp_buf urls = {0};
    int rc = members_from_config(&server->config, &given, &given_cluster, &given_self, error);
    if (rc == 0) {
        urls_of_others(&given, given_self, &urls);
        rc = urls.len ? fetch_members(server, urls.data, JOIN_MS, &theirs, &server->cluster_id, error)
                      : kp_fail(error, KP_EUSAGE, "--initial-cluster names no other member");
        if (rc < 0)
            kp_wrap(error, "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs");
    }
    if (rc == 0)
        rc = match(&given, &theirs, given_self, &server->member_id, error);
    /* Other than etcd: with an empty disk under its old id it would have forgotten votes and entries that it promised to keep. */
    const struct member *self = rc == 0 ? members_find(&theirs, server->member_id) : NULL;
    if (self && !kp_empty(self->name))
        rc = kp_fail(error, KP_ECONFLICT, "member %llx has already been bootstrapped: remove it and add it anew",
                     (unsigned long long)server->member_id);
    members_done(&given);
    if (rc < 0) {
        members_done(&theirs);
        return rc;
    }
    members_replace(&server->members, &theirs);
    return 0;
}

int cluster_check_new(struct etcd_server *server, struct kp_error *error)
{
    struct members theirs = {0};
    KP_AUTO_BUF struct kp_buf urls = {0};
    struct kp_error nobody = {0};
    uint64_t cluster_id = 0;
    urls_of_others(&server->members, server->member_id, &urls);
    if (!urls.len || fetch_members(server, urls.data, LOOK_MS, &theirs, &cluster_id, &nobody) < 0) {
        members_done(&theirs);
        return 0; /* nobody is there yet */
    }
    const struct member *self = members_find(&theirs, server->member_id);
    bool began = cluster_id == server->cluster_id && self && !kp_empty(self->name);
    members_done(&theirs);
    return began ? kp_fail(error, KP_ECONFLICT, "member %llx has already been bootstrapped: remove it and add it anew",
                           (unsigned long long)server->member_id)
                 : 0;
}

void cluster_look_if_removed(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    int64_t now_ms = kp_mono_ms();
    if (atomic_load(&server->node.leader)) {
        upkeep->leader_seen_ms = now_ms;
        return;
    }
    if (now_ms - upkeep->leader_seen_ms < 3 * server->config.election_ms)
        return;
    upkeep->leader_seen_ms = now_ms;
    KP_AUTO_BUF struct kp_buf urls = {0}, body = {0};
    struct kp_error nobody = {0};
    uint64_t cluster_id = 0;
    char self[24];
    pthread_mutex_lock(&server->members.mutex);
    urls_of_others(&server->members, server->member_id, &urls);
    pthread_mutex_unlock(&server->members.mutex);
    snprintf(self, sizeof self, "%016llx\n", (unsigned long long)server->member_id);
    if (urls.len && get(server, urls.data, ETCD_PATH_REMOVED, LOOK_MS, &body, &cluster_id, &nobody) == 0 &&
        cluster_id == server->cluster_id && body.data && strstr(body.data, self))
        atomic_store(&server->removed, true);
}

/* As etcd does: the process ends, and ends again whenever it is started with this data. */
void cluster_stop_if_removed(struct etcd_server *server)
{
    if (!atomic_load(&server->removed) || server_is_stepped(server) || server->upkeep.told_removed)
        return;
    server->upkeep.told_removed = true;
    kp_error_log("the member has been permanently removed from the cluster; stopping", NULL);
    kill(getpid(), SIGTERM);
}
