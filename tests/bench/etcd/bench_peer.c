/* What the peer transport costs: two members in one process over loopback. Prints messages a second of 300-byte appends,
   the CPU for each, the round trip of one at a time, and the speed of a snapshot. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "controlplane/etcd/peer/peer_internal.h"

#define ENTRY_BYTES 300
#define SECONDS 2.0
#define WINDOW 512 /* messages on the way, as a leader has them */
#define IMAGE_BYTES ((size_t)256 << 20)

struct member {
    struct peer_transport *transport;
    struct member *other;
    uint64_t id;
    bool echo;         /* answers each message */
    uint64_t received; /* atomic */
    int done;          /* atomic */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void on_message(void *ctx, struct raft_message *message)
{
    struct member *member = ctx;
    bool answer = member->echo;
    raft_message_done(message);
    if (answer) {
        struct raft_message reply = {.type = RAFT_MSG_APPEND_RESP, .from = member->id, .to = member->other->id, .term = 1};
        peer_send(member->transport, &reply);
    }
    pthread_mutex_lock(&member->lock);
    member->received++;
    pthread_cond_signal(&member->changed);
    pthread_mutex_unlock(&member->lock);
}

static int on_snapshot_begin(void *ctx, const struct raft_message *message, char **ret_path, struct kp_error *error)
{
    *ret_path = kp_strdup("/tmp/bench-peer-incoming");
    return 0;
}

static int on_snapshot_end(void *ctx, struct raft_message *message, const char *path, struct kp_error *error)
{
    raft_message_done(message);
    unlink(path);
    return 0;
}

static void on_snapshot_sent(void *ctx, uint64_t to, bool ok)
{
    struct member *member = ctx;
    pthread_mutex_lock(&member->lock);
    member->done = ok ? 1 : -1;
    pthread_cond_signal(&member->changed);
    pthread_mutex_unlock(&member->lock);
}

static void on_unreachable(void *ctx, uint64_t to)
{
}

static int on_question(void *ctx, const char *what, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    kp_buf_append(out, question.data, question.len);
    return 0;
}

static int on_get(void *ctx, const char *path, const char **ret_content_type, struct kp_buf *out, struct kp_error *error)
{
    return kp_fail(error, KP_ENOTFOUND, "no %s", path);
}

static void start(struct member *member, uint64_t id, const struct peer_tls_files *tls)
{
    struct kp_error error = {0};
    struct peer_config config = {.cluster_id = 1, .member_id = id};
    if (tls)
        config.tls = *tls;
    config.listen_urls = tls ? "https://127.0.0.1:0" : "http://127.0.0.1:0";
    config.events = (struct peer_events){member,           on_message,     on_snapshot_begin, on_snapshot_end,
                                         on_snapshot_sent, on_unreachable, on_question,       on_get};
    *member = (struct member){.id = id, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    if (peer_start(&config, &member->transport, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
}

static void know(struct member *member, struct member *other, bool secure)
{
    char url[64];
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", secure ? "https" : "http", peer_listen_port(other->transport, 0));
    member->other = other;
    peer_set(member->transport, other->id, (const char *const[]){url}, 1);
    for (struct peer_stats stats = {0}; !stats.active_since_ms; kp_sleep_ms(2))
        peer_stats(member->transport, &stats, 1);
}

static void send_append(struct member *from, struct kp_blob *data)
{
    struct raft_message message = {.type = RAFT_MSG_APPEND, .from = from->id, .to = from->other->id, .term = 1, .index = 1};
    message.entries = kp_calloc(1, sizeof(*message.entries));
    message.entries[0] = (struct raft_entry){.index = 2, .term = 1, .data = kp_blob_ref(data)};
    message.entries_len = 1;
    peer_send(from->transport, &message);
}

static void wait_received(struct member *member, uint64_t least)
{
    pthread_mutex_lock(&member->lock);
    while (member->received < least)
        pthread_cond_wait(&member->changed, &member->lock);
    pthread_mutex_unlock(&member->lock);
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void bench_throughput(struct member *a, struct member *b, struct kp_blob *data)
{
    uint64_t sent = 0, before = b->received;
    double cpu = cpu_s();
    int64_t start_ns = kp_mono_ns();
    while ((double)(kp_mono_ns() - start_ns) / 1e9 < SECONDS) {
        for (int i = 0; i < 16; i++)
            send_append(a, data);
        sent += 16;
        if (sent > WINDOW)
            wait_received(b, before + sent - WINDOW);
    }
    wait_received(b, before + sent);
    double s = (double)(kp_mono_ns() - start_ns) / 1e9;
    printf("  appends of %d bytes  %10.0f /s   %6.2f us CPU each (both sides)\n", ENTRY_BYTES, (double)sent / s,
           (cpu_s() - cpu) / (double)sent * 1e6);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void bench_round_trip(struct member *a, struct member *b, struct kp_blob *data)
{
    enum { ROUNDS = 10000 };
    int64_t *ns = kp_calloc(ROUNDS, sizeof(*ns));
    double cpu = cpu_s();
    b->echo = true;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = a->received;
        ns[i] = kp_mono_ns();
        send_append(a, data);
        wait_received(a, before + 1);
        ns[i] = kp_mono_ns() - ns[i];
    }
    b->echo = false;
    qsort(ns, ROUNDS, sizeof(*ns), compare);
    printf("  append and its answer %9.1f us median, %.1f us p99   %6.2f us CPU each\n", (double)ns[ROUNDS / 2] / 1e3,
           (double)ns[ROUNDS * 99 / 100] / 1e3, (cpu_s() - cpu) / ROUNDS * 1e6);
    free(ns);
}

static void bench_snapshot(struct member *a)
{
    static const char path[] = "/tmp/bench-peer-outgoing";
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)IMAGE_BYTES) < 0) {
        perror(path);
        exit(1);
    }
    close(fd);
    struct raft_message message = {.type = RAFT_MSG_SNAPSHOT, .from = a->id, .to = a->other->id, .term = 1};
    message.snapshot = kp_calloc(1, sizeof(*message.snapshot));
    message.snapshot->index = 7;
    message.snapshot->term = 1;
    double cpu = cpu_s();
    int64_t start_ns = kp_mono_ns();
    peer_send_snapshot(a->transport, &message, path);
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    double s = (double)(kp_mono_ns() - start_ns) / 1e9;
    printf("  snapshot of %zu MiB   %9.0f MiB/s (synced)%s   %.2f s CPU\n", IMAGE_BYTES >> 20, (double)(IMAGE_BYTES >> 20) / s,
           a->done < 0 ? " FAILED" : "", cpu_s() - cpu);
}

static void run(const char *name, const struct peer_tls_files *tls)
{
    struct member a, b;
    KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new(NULL, ENTRY_BYTES);
    memset(data->data, 'x', data->len);
    start(&a, 1, tls);
    start(&b, 2, tls);
    know(&a, &b, tls != NULL);
    know(&b, &a, tls != NULL);
    printf("%s\n", name);
    bench_throughput(&a, &b, data);
    bench_round_trip(&a, &b, data);
    bench_snapshot(&a);
    peer_stop(a.transport);
    peer_stop(b.transport);
}

/* The least a round trip between two threads over a socket costs on this machine. */
static void *echo(void *arg)
{
    char byte;
    int fd = *(int *)arg;
    while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1) {
    }
    return NULL;
}

static void bench_bare(void)
{
    enum { ROUNDS = 20000 };
    int fds[2];
    pthread_t thread;
    char byte = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || pthread_create(&thread, NULL, echo, &fds[1]) != 0)
        exit(1);
    int64_t start_ns = kp_mono_ns();
    for (int i = 0; i < ROUNDS; i++)
        if (write(fds[0], &byte, 1) != 1 || read(fds[0], &byte, 1) != 1)
            exit(1);
    printf("bare: two threads and a socket pair\n  round trip %20.1f us\n", (double)(kp_mono_ns() - start_ns) / ROUNDS / 1e3);
    close(fds[0]);
    pthread_join(thread, NULL);
    close(fds[1]);
}

static void store_pki(struct peer_tls_files *files)
{
    struct kp_error error = {0};
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_key_unref) struct tls_key *ca_key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *ca = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    const char *const ips[] = {"127.0.0.1", NULL};
    const struct tls_cert_options ca_options = {.subject.common_name = "ca"};
    const struct tls_cert_options options = {.subject = {.common_name = "m", .ip_addresses = ips},
                                             .usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT};
    *files = (struct peer_tls_files){.cert_file = "/tmp/bench-peer.crt",
                                     .key_file = "/tmp/bench-peer.key",
                                     .trusted_ca_file = "/tmp/bench-peer-ca.crt",
                                     .client_cert_auth = true};
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &ca_key, &error) < 0 || tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error) < 0 ||
        tls_cert_create_ca(ca_key, &ca_options, &ca, &error) < 0 ||
        tls_cert_create(key, &options, ca, ca_key, &cert, &error) < 0 || tls_cert_store(ca, files->trusted_ca_file, &error) < 0 ||
        tls_cert_store(cert, files->cert_file, &error) < 0 || tls_key_store(key, files->key_file, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
}

int main(void)
{
    struct peer_tls_files files;
    kp_log_init("bench", KP_LOG_ERROR);
    bench_bare();
    run("cleartext", NULL);
    store_pki(&files);
    run("mutual TLS", &files);
    unlink(files.cert_file);
    unlink(files.key_file);
    unlink(files.trusted_ca_file);
    return 0;
}
