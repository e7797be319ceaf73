/* How fast the Raft core and the write-ahead log are, each beside the limit that the machine sets.

   bench_wal [folder]: the log goes to a new folder below it (default: the current one), which should be on a real disk. */
#include "controlplane/etcd/raft/raft.h"
#include "controlplane/etcd/wal/wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define VALUE_BYTES 256
#define RUN_NS ((int64_t)1000000000)

static void die(const char *what, const struct kp_error *error)
{
    fprintf(stderr, "bench_wal: %s: %s\n", what, error->message);
    exit(1);
}

static uint64_t zero(void *ctx, uint64_t bound) { return 0; }

static struct raft *sole_member(void)
{
    struct raft_config config = {.id = 1, .random = zero};
    struct raft *raft;
    struct kp_error error = {0};
    raft_id_set_add(&config.conf.voters, 1);
    if (raft_new(&config, &raft, &error) < 0)
        die("raft", &error);
    return raft;
}

/* Drains all readies; entries go to the log when there is one. Returns how many were applied. */
static uint64_t drain(struct raft *raft, struct wal *wal)
{
    uint64_t applied = 0;
    struct kp_error error = {0};
    while (raft_has_ready(raft)) {
        const struct raft_ready *ready = raft_ready(raft);
        if (wal && (wal_append(wal, ready->entries, ready->entries_len,
                               ready->hard_state_changed ? &ready->hard_state : NULL, &error) < 0 ||
                    (ready->must_sync && wal_sync(wal, &error) < 0)))
            die("log", &error);
        uint64_t last = ready->committed_len ? ready->committed[ready->committed_len - 1].index : 0;
        applied += ready->committed_len;
        raft_advance(raft);
        if (last)
            raft_applied(raft, last);
    }
    return applied;
}

/* Proposals of `batch` entries at a time, each batch one ready and one sync. */
static double run_raft(struct wal *wal, size_t batch)
{
    KP_AUTO(raft_free) struct raft *raft = sole_member();
    struct kp_blob *data[1024];
    for (size_t i = 0; i < batch; i++) {
        data[i] = kp_blob_new(NULL, VALUE_BYTES);
        memset(data[i]->data, 'v', VALUE_BYTES);
    }
    drain(raft, wal);
    struct kp_error error = {0};
    uint64_t applied = 0;
    int64_t start = kp_mono_ns(), now = start;
    for (; now - start < RUN_NS; now = kp_mono_ns()) {
        if (raft_propose_batch(raft, data, batch, &error) < 0)
            die("propose", &error);
        applied += drain(raft, wal);
        if (raft_log_bytes(raft) > (1 << 24))
            raft_compact(raft, raft_last_index(raft));
    }
    for (size_t i = 0; i < batch; i++)
        kp_blob_unref(data[i]);
    return (double)applied * 1e9 / (double)(now - start);
}

static double run_wal(const char *folder, size_t batch)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/wal-%zu", folder, batch);
    struct wal_config config = {.path = path};
    struct wal_snapshot first = {0};
    struct wal_metadata metadata = {1, 1};
    struct wal *wal;
    struct kp_error error = {0};
    raft_id_set_add(&first.conf.voters, 1);
    if (wal_create(&config, &metadata, &first, &wal, &error) < 0)
        die("create", &error);
    double rate = run_raft(wal, batch);
    wal_close(wal);
    return rate;
}

/* The limit: the same bytes with nothing but pwrite and fdatasync into an allocated file. */
static double run_raw(const char *folder, size_t batch)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/raw", folder);
    size_t len = batch * 320;
    KP_AUTO_FREE char *bytes = kp_calloc(1, len);
    memset(bytes, 'v', len);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    off_t offset = 0, size = 64 << 20;
    if (fd < 0 || posix_fallocate(fd, 0, size) != 0)
        die("raw file", &(struct kp_error){.message = "cannot be made"});
    uint64_t done = 0;
    int64_t start = kp_mono_ns(), now = start;
    for (; now - start < RUN_NS; now = kp_mono_ns()) {
        if (pwrite(fd, bytes, len, offset) != (ssize_t)len || fdatasync(fd) < 0)
            die("raw file", &(struct kp_error){.message = "cannot be written"});
        offset = offset + (off_t)(2 * len) > size ? 0 : offset + (off_t)len;
        done += batch;
    }
    close(fd);
    return (double)done * 1e9 / (double)(now - start);
}

static void run_replay(const char *folder, size_t batch)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/wal-%zu", folder, batch);
    struct wal_config config = {.path = path};
    struct wal_replay replay;
    struct kp_error error = {0};
    int64_t start = kp_mono_ns();
    if (wal_read(&config, &replay, &error) < 0)
        die("replay", &error);
    double seconds = (double)(kp_mono_ns() - start) / 1e9;
    printf("replay            %9zu entries in %.3f s, %.0f entries/s\n", replay.entries_len, seconds,
           (double)replay.entries_len / seconds);
    wal_replay_done(&replay);
}

int main(int argc, char **argv)
{
    KP_AUTO_FREE char *folder = kp_asprintf("%s/bench-wal.XXXXXX", argc > 1 ? argv[1] : ".");
    struct kp_error error = {0};
    if (!mkdtemp(folder))
        die("folder", &(struct kp_error){.message = "cannot be made"});
    static const size_t batches[] = {1, 16, 64, 256};
    printf("one member, %d-byte values, applied entries/s\n", VALUE_BYTES);
    printf("batch     core alone   core + log   pwrite + fdatasync\n");
    for (size_t i = 0; i < KP_ARRAY_LEN(batches); i++) {
        double core = run_raft(NULL, batches[i]), wal = run_wal(folder, batches[i]), raw = run_raw(folder, batches[i]);
        printf("%5zu %14.0f %12.0f %20.0f\n", batches[i], core, wal, raw);
        fflush(stdout);
    }
    run_replay(folder, 256);
    if (kp_remove_tree(folder, &error) < 0)
        die("clean up", &error);
    return 0;
}
