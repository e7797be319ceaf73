/* Changes of the membership, each of which may be asked for twice. */
#include "provisioner/etcd/etcd_internal.h"

static void member_from(const Etcdserverpb__Member *member, struct etcd_member *ret)
{
    *ret = (struct etcd_member){
        .id = member->id, .name = member->name,
        .peer_url = member->n_peerurls ? member->peerurls[0] : "",
        .client_url = member->n_clienturls ? member->clienturls[0] : "",
        .learner = member->islearner,
    };
}

static int members_from(const ProtobufCMessage *message, struct kp_arena *arena, struct etcd_member_list *ret, struct kp_error *error)
{
    const Etcdserverpb__MemberListResponse *response = (const Etcdserverpb__MemberListResponse *)message;
    if (response->n_members > ETCD_CLIENT_MEMBERS_MAX)
        return kp_fail(error, KP_ETOOLARGE, "etcd has %zu members, at most %d go", response->n_members, ETCD_CLIENT_MEMBERS_MAX);
    *ret = (struct etcd_member_list){.items = KP_NEW_ARRAY(arena, struct etcd_member, response->n_members + 1), .len = response->n_members};
    for (size_t i = 0; i < response->n_members; i++)
        member_from(response->members[i], &ret->items[i]);
    return 0;
}

int etcd_client_members(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_list *ret, struct kp_error *error)
{
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Cluster/MemberList", &request.base, &etcdserverpb__member_list_response__descriptor,
                                   ETCD_CLIENT_CALL_MS};
    ProtobufCMessage *message = NULL;
    request.linearizable = true;
    int r = etcd_call_any(client, &call, arena, &message, error);
    return r < 0 ? kp_wrap(error, "list etcd's members") : members_from(message, arena, ret, error);
}

int etcd_client_members_seen(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_list *ret, struct kp_error *error)
{
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Cluster/MemberList", &request.base, &etcdserverpb__member_list_response__descriptor,
                                   ETCD_CLIENT_STATUS_MS};
    KP_AUTO_BUF struct kp_buf problems = {0};
    struct etcd_member_status *status = NULL;
    int r = KP_EUNAVAILABLE;
    etcd_client_status(client, arena, &status);
    for (size_t i = 0; i < client->len; i++) {
        ProtobufCMessage *message = NULL;
        struct kp_error problem = {0};
        if (status[i].apart)
            kp_fail(&problem, KP_ECONFLICT, "%s: %s", status[i].endpoint, status[i].problem);
        else if (etcd_call_one(client, i, &call, arena, &message, &problem) == 0)
            return members_from(message, arena, ret, error);
        kp_buf_printf(&problems, "%s%s", problems.len ? "; " : "", problem.message);
        r = problem.code;
    }
    return kp_fail(error, r, "list etcd's members: %s", problems.data);
}

/* 0, or KP_ENOTFOUND without words. */
static int find_by_url(struct etcd_client *client, const char *peer_url, struct kp_arena *arena, struct etcd_member *ret,
                       struct kp_error *error)
{
    struct etcd_member_list list;
    int r = etcd_client_members(client, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        if (kp_streq(list.items[i].peer_url, peer_url)) {
            *ret = list.items[i];
            return 0;
        }
    }
    return r < 0 ? r : KP_ENOTFOUND;
}

int etcd_client_member_add(struct etcd_client *client, const char *peer_url, struct kp_arena *arena, struct etcd_member *ret_member,
                           struct kp_error *error)
{
    char *urls[] = {(char *)peer_url};
    Etcdserverpb__MemberAddRequest request = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Cluster/MemberAdd", &request.base, &etcdserverpb__member_add_response__descriptor,
                                   ETCD_CLIENT_CALL_MS};
    ProtobufCMessage *message = NULL;
    struct kp_error failed = {0}, looking = {0};
    int r = find_by_url(client, peer_url, arena, ret_member, error);
    if (r != KP_ENOTFOUND)
        return r;
    request.n_peerurls = 1;
    request.peerurls = urls;
    request.islearner = true;
    if (etcd_call_any(client, &call, arena, &message, &failed) == 0) {
        member_from(((const Etcdserverpb__MemberAddResponse *)message)->member, ret_member);
        return 0;
    }
    if (find_by_url(client, peer_url, arena, ret_member, &looking) == 0)
        return 0; /* only the answer was lost */
    return kp_fail(error, failed.code, "add the etcd member at %s: %s", peer_url, failed.message);
}

int etcd_client_member_promote(struct etcd_client *client, uint64_t id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__MemberPromoteRequest request = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Cluster/MemberPromote", &request.base,
                                   &etcdserverpb__member_promote_response__descriptor, ETCD_CLIENT_CALL_MS};
    ProtobufCMessage *message = NULL;
    struct etcd_member_list list;
    struct kp_error failed = {0}, looking = {0};
    request.id = id;
    if (etcd_call_any(client, &call, arena, &message, &failed) == 0)
        return 0;
    if (etcd_client_members(client, arena, &list, &looking) == 0)
        for (size_t i = 0; i < list.len; i++)
            if (list.items[i].id == id && !list.items[i].learner)
                return 0;
    return kp_fail(error, failed.code, "promote etcd member %llx: %s", (unsigned long long)id, failed.message);
}

int etcd_client_member_remove(struct etcd_client *client, uint64_t id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__MemberRemoveRequest request = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Cluster/MemberRemove", &request.base,
                                   &etcdserverpb__member_remove_response__descriptor, ETCD_CLIENT_CALL_MS};
    ProtobufCMessage *message = NULL;
    request.id = id;
    int r = etcd_call_any(client, &call, arena, &message, error);
    return r == KP_ENOTFOUND ? 0 : r < 0 ? kp_wrap(error, "remove etcd member %llx", (unsigned long long)id) : 0;
}

/* Only the leader hands its office over. */
int etcd_client_move_leader(struct etcd_client *client, uint64_t id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__MoveLeaderRequest request = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Maintenance/MoveLeader", &request.base,
                                   &etcdserverpb__move_leader_response__descriptor, ETCD_CLIENT_CALL_MS};
    struct etcd_member_status *status = NULL;
    ProtobufCMessage *message = NULL;
    request.targetid = id;
    etcd_client_status(client, arena, &status);
    for (size_t i = 0; i < client->len; i++) {
        if (status[i].code < 0 || !status[i].leader || status[i].leader != status[i].id)
            continue;
        int r = status[i].id == id ? 0 : etcd_call_one(client, i, &call, arena, &message, error);
        return r < 0 ? kp_wrap(error, "make etcd member %llx the leader", (unsigned long long)id) : 0;
    }
    return kp_fail(error, KP_EUNAVAILABLE, "make etcd member %llx the leader: none of the %zu endpoints asked leads", (unsigned long long)id,
                   client->len);
}

int etcd_client_delete(struct etcd_client *client, const char *key, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.KV/DeleteRange", &request.base, &etcdserverpb__delete_range_response__descriptor,
                                   ETCD_CLIENT_CALL_MS};
    ProtobufCMessage *message = NULL;
    request.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
    int r = etcd_call_any(client, &call, arena, &message, error);
    return r < 0 ? kp_wrap(error, "delete the key %s of etcd", key) : 0;
}
