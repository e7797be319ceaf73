/* The end of a run: leases run out, watchers catch up, and every member is asked for all it has. */
#include "tests/sim-real/load.h"

#define LEASES_WAIT_MS 16000
#define WATCHERS_WAIT_MS 20000
#define MEMBER_WAIT_MS 20000
#define FINAL_CLIENT 200

static int complain(const char *what, const char *endpoint, const char *why)
{
    printf("load: %s %s: %s\n", endpoint, what, why);
    return 1;
}

/* Reads the leases' keys until none is left, or the time is over; check_lease judges. */
static void wait_for_leases(struct client *client)
{
    int64_t end_ms = kp_mono_ms() + LEASES_WAIT_MS;
    struct history_result result;
    int64_t revision;
    struct history_op op = {.kind = HISTORY_GET, .key = load_text("l/"), .end = load_text("l0")};
    do {
        kp_arena_reset(client->arena);
        kp_sleep_ms(500);
        if (client_do(client, &op, false, &result, &revision) <= 0)
            client->at = (client->at + 1) % client->load->endpoint_count;
        else if (!result.count)
            return;
    } while (kp_mono_ms() < end_ms);
}

/* The whole of one member, without asking the others. */
static int dump(struct client *client, size_t endpoint, int64_t upto)
{
    struct load *load = client->load;
    const struct grpc_call_options options = {.timeout_ms = 5000};
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t)""};
    range.range_end = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t)""};
    range.serializable = true;
    struct kp_error error = {0};
    ProtobufCMessage *message;
    int64_t end_ms = kp_mono_ms() + MEMBER_WAIT_MS;
    for (;;) {
        kp_arena_reset(client->arena);
        int rc = grpc_call(client->channels[endpoint], "/etcdserverpb.KV/Range", &range.base,
                           &etcdserverpb__range_response__descriptor, &options, client->arena, &message, &error);
        const Etcdserverpb__RangeResponse *response = (const void *)message;
        if (rc == 0 && response->header && response->header->revision >= upto) {
            history_final(load->history, (unsigned)endpoint + 1, response->header->revision, response->count);
            for (size_t i = 0; i < response->n_kvs; i++) {
                struct history_kv kv = load_kv(response->kvs[i]);
                history_final_kv(load->history, (unsigned)endpoint + 1, &kv);
            }
            return 0;
        }
        if (kp_mono_ms() > end_ms)
            return complain("does not reach the last revision", load->endpoints[endpoint], rc ? error.message : "it is behind");
        kp_sleep_ms(200);
    }
}

static int hash(struct client *client, size_t endpoint, int64_t revision)
{
    struct load *load = client->load;
    const struct grpc_call_options options = {.timeout_ms = 10000};
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    request.revision = revision;
    struct kp_error error = {0};
    ProtobufCMessage *message;
    kp_arena_reset(client->arena);
    if (grpc_call(client->channels[endpoint], "/etcdserverpb.Maintenance/HashKV", &request.base,
                  &etcdserverpb__hash_kvresponse__descriptor, &options, client->arena, &message, &error) < 0)
        return complain("gives no hash", load->endpoints[endpoint], error.message);
    const Etcdserverpb__HashKVResponse *response = (const void *)message;
    history_hash(load->history, (unsigned)endpoint + 1, revision, response->compact_revision, response->hash);
    return 0;
}

int load_final(struct load *load, struct watch_pool *pool)
{
    int wrong = 0;
    struct client client;
    client_init(&client, load, FINAL_CLIENT, 5000);
    wait_for_leases(&client);
    size_t late = watch_pool_finish(pool, WATCHERS_WAIT_MS);
    if (late) {
        printf("load: %zu watchers did not catch up within %d ms\n", late, WATCHERS_WAIT_MS);
        wrong++;
    }
    int64_t upto = atomic_load(&load->revision);
    for (size_t i = 0; i < load->endpoint_count; i++)
        wrong += dump(&client, i, upto);
    /* A compaction reaches the members one after the other: let them have it done. */
    for (size_t i = 0; i < load->endpoint_count; i++)
        wrong += hash(&client, i, upto);
    client_done(&client);
    return wrong;
}
