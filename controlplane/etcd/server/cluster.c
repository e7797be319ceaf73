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

/* ---- applying ---- */

static enum etcd_err switch_conf(struct etcd_server *server, const struct raft_entry *entry,
                                 const struct raft_conf_change *change)
{
    struct node *node = &server->node;
    struct raft_conf_state conf;
    struct kp_error error = {0};
    if (raft_apply_conf_change(node->raft, change, &conf, &error) < 0) {
        kp_warn("membership change refused", "err", error.message, NULL);
        return ETCD_UNHEALTHY;
    }
    KP_AUTO_BUF struct kp_buf bytes = {0};
    raft_conf_state_encode(&bytes, &conf);
    backend_put(server->backend, BACKEND_META, META_CONF, strlen(META_CONF), bytes.data, bytes.len);
    node->conf = conf;
    node->conf_index = entry->index;
    return ETCD_OK;
}

void cluster_note_conf(struct etcd_server *server)
{
    struct node *node = &server->node;
    const struct raft_conf_state *conf = &node->conf;
    bool knows_others = conf->voters.len > 0;
    atomic_store(&server->learner, raft_id_set_has(&conf->learners, server->member_id) && !raft_conf_votes(conf, server->member_id));
    node->removing = knows_others && !raft_conf_has(conf, server->member_id);
}

static struct kp_blob *change_response(struct etcd_server *server, enum op_kind kind, uint64_t id)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    bool adds = kind == OP_MEMBER_ADD;
    pthread_mutex_lock(&server->members.mutex);
    const struct member *member = adds ? members_find(&server->members, id) : NULL;
    if (member) {
        size_t begin = encode_begin(&out, 2);
        member_encode(member, &out);
        encode_end(&out, begin);
    }
    pthread_mutex_unlock(&server->members.mutex);
    members_encode(&server->members, &out, adds ? 3 : 2);
    return frame_take(&out);
}

/* The change of members that an entry carries; NULL for one of raft's own. */
static Etcdserverpb__Member *decode_change(const struct raft_conf_change *change, enum op_kind *ret_kind, uint64_t *ret_id)
{
    if (!change->context.len)
        return NULL;
    KP_AUTO(kp_blob_unref) struct kp_blob *context = kp_blob_new(change->context.data, change->context.len);
    struct auth_identity who;
    struct kp_bytes bytes;
    if (!entry_parse(context, ret_kind, ret_id, &who, &bytes))
        return NULL;
    return (Etcdserverpb__Member *)request_decode(*ret_kind, bytes.data, bytes.len);
}

static void say_change(enum op_kind kind, uint64_t id)
{
    char member[24];
    snprintf(member, sizeof member, "%llx", (unsigned long long)id);
    kp_info(kind == OP_MEMBER_ADD      ? "a member was added"
            : kind == OP_MEMBER_REMOVE ? "a member was removed"
                                       : "a learner was promoted",
            "member", member, NULL);
}

void cluster_apply(struct etcd_server *server, const struct raft_entry *entry, const struct raft_conf_change *change)
{
    enum op_kind kind = 0;
    uint64_t op_id = 0;
    Etcdserverpb__Member *member = decode_change(change, &kind, &op_id);
    struct op *op = member ? node_take_op(&server->node, op_id) : NULL;
    enum etcd_err err = member ? members_check(&server->members, kind, member) : ETCD_OK;
    backend_write_lock(server->backend);
    if (err == ETCD_OK)
        err = switch_conf(server, entry, change);
    if (err == ETCD_OK && member)
        members_change(server->backend, &server->members, kind, member);
    backend_set_consistent_index(server->backend, entry->index, entry->term);
    backend_write_unlock(server->backend);
    if (err == ETCD_OK && member) {
        say_change(kind, member->id);
        cluster_note_conf(server);
        cluster_know_peers(server);
    }
    if (op && err == ETCD_OK)
        op->response = change_response(server, kind, member->id);
    if (op)
        node_finish_op(server, op, err);
    request_free(member ? &member->base : NULL);
}
