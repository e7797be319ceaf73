/* The thread that keeps a table. */
#include <pthread.h>

#include "lib/client/client.h"
#include "nodeimage/network/tables/keeper.h"

#define MIN_SYNC_MS 20    /* changes within this time go into one transaction */
#define RETRY_MS 1000
#define RESYNC_MS 3600000 /* the table is made anew this often, whatever happened to it */
#define FIRST_SYNC_MS 60000

struct keeper {
    struct keeper_config config;
    struct client_queue *queue; /* one key */
    struct nft *nft;
    struct nft_rules *applied; /* NULL: what the kernel has is not known */
    int64_t full_ms;
    pthread_t thread;
    bool running;
    bool synced; /* atomic */
};

static int sync_table(struct keeper *keeper, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf script = {0};
    KP_AUTO(nft_rules_free) struct nft_rules *wanted = NULL;
    if (keeper->config.build(keeper->config.arg, &wanted, error) < 0)
        return error->code;
    if (keeper->applied && kp_mono_ms() - keeper->full_ms > RESYNC_MS)
        nft_rules_free(KP_TAKE(keeper->applied));
    if (!keeper->applied)
        keeper->full_ms = kp_mono_ms();
    nft_rules_script(keeper->config.table, keeper->config.base, keeper->applied, wanted, &script);
    nft_rules_free(KP_TAKE(keeper->applied)); /* should the kernel not take it: begin anew */
    if (script.len && nft_apply(keeper->nft, script.data, error) < 0)
        return error->code;
    keeper->applied = KP_TAKE(wanted);
    __atomic_store_n(&keeper->synced, true, __ATOMIC_RELEASE);
    return 0;
}

static void *run(void *arg)
{
    struct keeper *keeper = arg;
    char *key;
    while ((key = client_queue_get(keeper->queue))) {
        struct kp_error error = {0};
        int64_t next_ms = RESYNC_MS + 1000;
        if (sync_table(keeper, &error) < 0) {
            kp_error_log("rules not in force yet", "what", keeper->config.name, "error", error.message, NULL);
            next_ms = RETRY_MS;
        }
        client_queue_add_after(keeper->queue, key, next_ms);
        client_queue_done(keeper->queue, key);
        free(key);
    }
    return NULL;
}

struct keeper *keeper_new(const struct keeper_config *config)
{
    struct keeper *keeper = kp_calloc(1, sizeof(*keeper));
    keeper->config = *config;
    keeper->nft = nft_new();
    keeper->queue = client_queue_new(config->name);
    return keeper;
}

void keeper_wake(struct keeper *keeper)
{
    client_queue_add_after(keeper->queue, "sync", MIN_SYNC_MS);
}

int keeper_start(struct keeper *keeper, struct kp_error *error)
{
    client_queue_add(keeper->queue, "sync");
    if (pthread_create(&keeper->thread, NULL, run, keeper) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    keeper->running = true;
    for (int64_t waited_ms = 0; waited_ms < FIRST_SYNC_MS; waited_ms += MIN_SYNC_MS) {
        if (__atomic_load_n(&keeper->synced, __ATOMIC_ACQUIRE))
            return 0;
        kp_sleep_ms(MIN_SYNC_MS);
    }
    return kp_fail(error, KP_ETIMEOUT, "%s were not in force within %d s", keeper->config.name, FIRST_SYNC_MS / 1000);
}

void keeper_stop(struct keeper *keeper)
{
    client_queue_shutdown(keeper->queue);
    if (keeper->running)
        pthread_join(keeper->thread, NULL);
    keeper->running = false;
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    client_queue_free(keeper->queue);
    nft_rules_free(keeper->applied);
    nft_free(keeper->nft);
    free(keeper);
}
