/* How each member is: all are asked at once, each on a thread of its own. */
#include <pthread.h>

#include "provisioner/etcd/etcd_internal.h"

struct asking {
    struct etcd_client *client;
    size_t endpoint;
    struct kp_arena *arena; /* its own: arenas are of one thread */
    struct etcd_member_status status;
    pthread_t thread;
};

static const char *complaints(const Etcdserverpb__StatusResponse *response, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!response->leader)
        kp_buf_puts(&text, "it knows no leader");
    for (size_t i = 0; i < response->n_errors; i++)
        kp_buf_printf(&text, "%s%s", text.len ? "; " : "", response->errors[i]);
    return text.len ? kp_arena_strndup(arena, text.data, text.len) : "";
}

static void *ask(void *arg)
{
    struct asking *asking = arg;
    struct etcd_member_status *status = &asking->status;
    struct kp_error error = {0};
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    const struct etcd_call call = {"/etcdserverpb.Maintenance/Status", &request.base, &etcdserverpb__status_response__descriptor,
                                   asking->client->tunnels ? ETCD_CLIENT_CONNECT_THROUGH_MS : ETCD_CLIENT_STATUS_MS};
    ProtobufCMessage *message = NULL;
    status->endpoint = asking->client->endpoints[asking->endpoint].url;
    status->version = "";
    status->code = etcd_call_one(asking->client, asking->endpoint, &call, asking->arena, &message, &error);
    if (status->code < 0) {
        status->problem = kp_arena_strdup(asking->arena, error.message);
        return NULL;
    }
    const Etcdserverpb__StatusResponse *response = (const Etcdserverpb__StatusResponse *)message;
    status->problem = complaints(response, asking->arena);
    status->id = response->header ? response->header->member_id : 0;
    status->leader = response->leader;
    status->raft_term = response->raftterm;
    status->raft_index = response->raftindex;
    status->raft_applied_index = response->raftappliedindex;
    status->db_size = response->dbsize;
    status->db_size_in_use = response->dbsizeinuse;
    status->db_size_quota = response->dbsizequota;
    status->version = response->version;
    status->learner = response->islearner;
    return NULL;
}

bool etcd_member_is_healthy(const struct etcd_member_status *status)
{
    return status->code == 0 && kp_empty(status->problem);
}

static size_t followers(const struct etcd_member_status *status, size_t n, uint64_t leader)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += status[i].code == 0 && status[i].leader == leader;
    return count;
}

/* A member that lost its data and began anew answers as well as the others, and leads itself: whom fewer follow is not believed. Of
   two camps of one size neither is. */
void etcd_mark_apart(struct etcd_member_status *status, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t own = followers(status, n, status[i].leader);
        for (size_t j = 0; j < n && status[i].code == 0 && status[i].leader && !status[i].apart; j++)
            status[i].apart = status[j].code == 0 && status[j].leader && status[j].leader != status[i].leader &&
                              followers(status, n, status[j].leader) >= own;
        if (status[i].apart)
            status[i].problem = "it follows another leader than the other members";
    }
}

void etcd_client_status(struct etcd_client *client, struct kp_arena *arena, struct etcd_member_status **ret)
{
    struct asking askings[ETCD_CLIENT_ENDPOINTS_MAX];
    *ret = KP_NEW_ARRAY(arena, struct etcd_member_status, client->len);
    for (size_t i = 0; i < client->len; i++) {
        askings[i] = (struct asking){.client = client, .endpoint = i, .arena = kp_arena_new(0)};
        KP_ASSERT(pthread_create(&askings[i].thread, NULL, ask, &askings[i]) == 0);
    }
    for (size_t i = 0; i < client->len; i++) {
        pthread_join(askings[i].thread, NULL);
        (*ret)[i] = askings[i].status;
        (*ret)[i].problem = kp_arena_strdup(arena, askings[i].status.problem);
        (*ret)[i].version = kp_arena_strdup(arena, askings[i].status.version);
        kp_arena_free(askings[i].arena);
    }
    etcd_mark_apart(*ret, client->len);
}
