/* Who the other members are, as the log tells: whom the transport knows, and changes of the membership. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/node_internal.h"

bool cluster_is_alone(struct etcd_server *server)
{
    pthread_mutex_lock(&server->members.mutex);
    bool alone = server->members.len == 1 && server->members.items[0].id == server->member_id;
    pthread_mutex_unlock(&server->members.mutex);
    return alone;
}

static struct known_peer *find_known(struct etcd_server *server, uint64_t id)
{
    for (size_t i = 0; i < server->known_len; i++)
        if (server->known[i].id == id)
            return &server->known[i];
    return NULL;
}

static void forget_peers(struct etcd_server *server)
{
    for (size_t i = 0; i < server->known_len;) {
        struct known_peer *known = &server->known[i];
        if (members_find(&server->members, known->id)) {
            i++;
            continue;
        }
        peer_remove(server->transport, known->id);
        free(known->urls);
        *known = server->known[--server->known_len];
    }
}

/* On the raft thread, or before it runs. Connections of members whose URLs stay are left alone. */
void cluster_know_peers(struct etcd_server *server)
{
    if (!server->transport)
        return;
    pthread_mutex_lock(&server->members.mutex);
    forget_peers(server);
    for (size_t i = 0; i < server->members.len; i++) {
        const struct member *member = &server->members.items[i];
        if (member->id == server->member_id)
            continue;
        KP_AUTO_BUF struct kp_buf urls = {0};
        for (size_t u = 0; u < member->peer_urls.len; u++)
            kp_buf_printf(&urls, "%s,", member->peer_urls.items[u]);
        struct known_peer *known = find_known(server, member->id);
        if (known && kp_streq(known->urls, urls.data))
            continue;
        if (!known) {
            server->known = kp_realloc(server->known, (server->known_len + 1) * sizeof *server->known);
            known = &server->known[server->known_len++];
            *known = (struct known_peer){.id = member->id};
        }
        free(known->urls);
        known->urls = kp_strdup(urls.data ? urls.data : "");
        peer_set(server->transport, member->id, (const char *const *)member->peer_urls.items, member->peer_urls.len);
    }
    pthread_mutex_unlock(&server->members.mutex);
}

void cluster_done(struct etcd_server *server)
{
    for (size_t i = 0; i < server->known_len; i++)
        free(server->known[i].urls);
    free(server->known);
    server->known = NULL;
    server->known_len = 0;
}

bool server_is_removed(const struct etcd_server *server) { return atomic_load(&server->removed); }
