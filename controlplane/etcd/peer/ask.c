/* Questions to other members: of a running transport, and before there is one. */
#include "controlplane/etcd/peer/peer_internal.h"

int peer_ask(struct peer_transport *transport, uint64_t id, const char *what, struct kp_bytes question, int64_t timeout_ms,
             struct kp_buf *ret_answer, struct kp_error *error)
{
    KP_AUTO(peer_release) struct peer *peer = peer_find(transport, id);
    KP_AUTO(peer_channel_unref) struct peer_channel *channel = peer ? peer_channel_of(peer) : NULL;
    if (!channel)
        return kp_fail(error, KP_EUNAVAILABLE, "ask %s: no peer %llx is known", what, (unsigned long long)id);
    if (question.len > PEER_QUESTION_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "ask %s: a question of %zu bytes", what, question.len);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Kprov__Etcd__Peer__Question request = KPROV__ETCD__PEER__QUESTION__INIT;
    request.what = (char *)(uintptr_t)what;
    request.question = (ProtobufCBinaryData){question.len, (uint8_t *)(uintptr_t)question.data};
    const struct grpc_call_options options = {
        .timeout_ms = timeout_ms, .metadata = peer->metadata.list, .metadata_count = PEER_HEADERS};
    ProtobufCMessage *response = NULL;
    int rc = grpc_call(channel->grpc, PEER_PATH "Ask", &request.base, &kprov__etcd__peer__answer__descriptor, &options, arena,
                       &response, error);
    if (rc < 0) /* a connection that broke in the middle is the same to the asker as none */
        return rc == KP_EIO || rc == KP_ECANCELLED ? kp_fail(error, KP_EUNAVAILABLE, "ask %s: the connection broke", what) : rc;
    const Kprov__Etcd__Peer__Answer *answer = (const Kprov__Etcd__Peer__Answer *)response;
    if (answer->code < 0)
        return kp_fail(error, KP_MAX(answer->code, KP_CODE_MIN), "%s", answer->error ? answer->error : "");
    kp_buf_append(ret_answer, answer->answer.data, answer->answer.len);
    return 0;
}

static int get_one(struct loop *loop, const char *url, struct tls_context *tls, const char *path, int64_t timeout_ms,
                   struct kp_buf *ret_body, uint64_t *ret_cluster_id, struct kp_error *error)
{
    const char *const endpoints[] = {url};
    const struct http_client_config config = {.endpoints = endpoints, .endpoint_count = 1, .tls = tls};
    const struct http_client_request request = {.method = "GET", .path = path, .timeout_ms = timeout_ms};
    KP_AUTO(http_client_free) struct http_client *client = NULL;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_response response = {0};
    int rc = http_client_new(loop, &config, &client, error);
    if (rc == 0)
        rc = http_client_do(client, &request, arena, &response, error);
    if (rc < 0)
        return kp_wrap(error, "GET %s%s", url, path);
    if (response.status != 200)
        return kp_fail(error, response.status == 404 ? KP_ENOTFOUND : KP_EUNAVAILABLE, "GET %s%s: HTTP status %d: %.200s", url,
                       path, response.status, (const char *)response.body.data);
    const char *cluster = http_response_header(&response, PEER_HEADER_CLUSTER);
    *ret_cluster_id = cluster ? strtoull(cluster, NULL, 16) : 0;
    kp_buf_append(ret_body, response.body.data, response.body.len);
    return 0;
}

int peer_get(const char *urls, const struct peer_tls_files *files, const char *path, int64_t timeout_ms, struct kp_buf *ret_body,
             uint64_t *ret_cluster_id, struct kp_error *error)
{
    KP_AUTO(tls_context_unref) struct tls_context *tls = NULL;
    KP_AUTO_FREE char *copy = kp_strdup(urls);
    KP_AUTO(loop_free) struct loop *loop = loop_new();
    struct kp_error local = {0};
    error = error ? error : &local;
    int64_t until_ms = kp_mono_ms() + timeout_ms;
    int rc = peer_tls_client(files, &tls, error);
    if (rc == 0)
        rc = loop_start(loop, "etcd-peer-get", error);
    if (rc < 0)
        return rc;
    size_t left = 1;
    for (const char *c = copy; *c; c++)
        left += *c == ',';
    rc = kp_fail(error, KP_EINVALID, "GET %s: no URL to ask", path);
    char *rest = copy;
    for (char *url = strsep(&rest, ","); url; url = strsep(&rest, ","), left--) {
        int64_t share_ms = (until_ms - kp_mono_ms()) / (int64_t)left; /* what hangs must not use up the others' time */
        if (!*url)
            continue;
        if (share_ms <= 0)
            return kp_fail(error, KP_ETIMEOUT, "GET %s: no answer within %lld ms", path, (long long)timeout_ms);
        rc = get_one(loop, url, tls, path, share_ms, ret_body, ret_cluster_id, error);
        if (rc == 0)
            return 0;
    }
    return rc;
}
