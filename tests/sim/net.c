/* The network between members: loses, delays, doubles and reorders, and is cut in one direction or both. */
#include "tests/sim/world.h"

#include <fcntl.h>
#include <unistd.h>

struct letter {
    struct raft_message message;
    struct sim_member *from, *to;
    uint64_t from_incarnation;
    struct kp_buf image; /* of a snapshot */
    bool snapshot;
    bool lost;
};

static int64_t last_arrival[MEMBERS_MAX][MEMBERS_MAX];

static void letter_free(struct letter *letter)
{
    raft_message_done(&letter->message);
    kp_buf_done(&letter->image);
    free(letter);
}

/* On a connection messages keep their order; on a new one they may overtake those of the old. */
static int64_t arrival(struct sim_member *from, struct sim_member *to)
{
    struct rng *random = &world.random;
    int64_t delay_ns = rng_between(random, world.net.delay_ms_min * SIM_MS, world.net.delay_ms_max * SIM_MS);
    int64_t at = sim_now_ns + from->owner.busy_ns + delay_ns;
    int64_t *last = &last_arrival[from->slot][to->slot];
    if (rng_per_mille(random, world.net.reorder_per_mille)) {
        counters.messages_reordered++;
        return at + (int64_t)rng_below(random, 200) * SIM_MS;
    }
    *last = KP_MAX(*last, at);
    return *last;
}

struct delivery {
    struct letter *letter;
    struct etcd_server *server;
    char path[DISK_PATH_MAX];
};

static void receive(void *arg)
{
    struct delivery *delivery = arg;
    server_receive(delivery->server, &delivery->letter->message);
}

/* What the transport does: a file of the member's, complete and synced, before it is handed over. */
static void receive_snapshot(void *arg)
{
    struct delivery *delivery = arg;
    const struct kp_buf *image = &delivery->letter->image;
    int fd = open(delivery->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0;
    for (size_t done = 0; ok && done < image->len;) {
        ssize_t n = write(fd, image->data + done, KP_MIN(image->len - done, (size_t)64 << 10));
        ok = n > 0;
        done += ok ? (size_t)n : 0;
    }
    ok = ok && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok) {
        unlink(delivery->path);
        return;
    }
    server_receive_snapshot(delivery->server, &delivery->letter->message, delivery->path);
}

struct report {
    struct etcd_server *server;
    uint64_t to;
    bool snapshot, ok;
};

static void tell(void *arg)
{
    struct report *report = arg;
    if (report->snapshot)
        server_snapshot_sent(report->server, report->to, report->ok);
    else
        server_unreachable(report->server, report->to);
}

static void tell_sender(struct letter *letter, bool ok)
{
    struct sim_member *from = letter->from;
    if (!member_is_up(from) || from->incarnation != letter->from_incarnation)
        return;
    if (!letter->snapshot && (ok || rng_below(&world.random, 4)))
        return;
    struct report report = {from->server, letter->to->id, letter->snapshot, ok};
    if (member_call(from, tell, &report))
        member_turn_in(from, (int64_t)rng_below(&world.random, 2) * SIM_MS);
}

static void deliver(void *arg, uint64_t tag)
{
    struct letter *letter = arg;
    struct sim_member *to = letter->to, *from = letter->from;
    if (letter->lost || !member_is_up(to) || world.cut[from->slot][to->slot]) {
        counters.messages_lost++;
        counters.snapshots_lost += letter->snapshot;
        sim_trace("%s -> %s: %s lost", from->name, to->name, raft_message_name(letter->message.type));
        tell_sender(letter, false);
        letter_free(letter);
        return;
    }
    if (sim_now_ns < to->busy_until_ns) { /* waits in its socket */
        event_at(to->busy_until_ns, deliver, letter, 0);
        return;
    }
    counters.messages_delivered++;
    sim_trace("%s -> %s: %s term %llu index %llu commit %llu entries %zu%s", from->name, to->name,
              raft_message_name(letter->message.type), (unsigned long long)letter->message.term,
              (unsigned long long)letter->message.index, (unsigned long long)letter->message.commit,
              letter->message.entries_len, letter->message.reject ? " no" : "");
    struct delivery delivery = {.letter = letter, .server = to->server};
    static unsigned number;
    snprintf(delivery.path, sizeof delivery.path, "%s/member/snap/%u.received", to->data_dir, number++);
    bool lives = member_call(to, letter->snapshot ? receive_snapshot : receive, &delivery);
    if (lives)
        member_turn_in(to, (int64_t)rng_below(&world.random, 2 * SIM_MS));
    if (letter->snapshot)
        tell_sender(letter, lives);
    kp_buf_done(&letter->image);
    free(letter); /* the message is the member's, even when it crashed over it */
}

static struct letter *letter_new(struct etcd_server *server, struct raft_message *message)
{
    struct letter *letter = kp_calloc(1, sizeof *letter);
    letter->message = *message;
    *message = (struct raft_message){0};
    letter->from = member_by_server(server);
    letter->to = member_by_id(letter->message.to);
    KP_ASSERT(letter->from);
    letter->from_incarnation = letter->from->incarnation;
    return letter;
}

void net_send(void *ctx, struct etcd_server *server, struct raft_message *message)
{
    struct cage_owner *owner = cage_leave();
    struct rng *random = &world.random;
    struct letter *letter = letter_new(server, message);
    counters.messages_sent++;
    inside_message(&letter->message);
    if (!letter->to) { /* nobody of that id ever lived */
        letter_free(letter);
        cage_enter(owner);
        return;
    }
    letter->lost = rng_per_mille(random, world.net.loss_per_mille) || world.cut[letter->from->slot][letter->to->slot];
    /* The transport says nothing twice; raft bears it but for a forwarded proposal, which would be two. */
    if (!letter->lost && letter->message.type != RAFT_MSG_PROPOSE &&
        rng_per_mille(random, world.net.double_per_mille)) {
        struct letter *again = kp_calloc(1, sizeof *again);
        *again = *letter;
        raft_message_copy(&again->message, &letter->message);
        counters.messages_doubled++;
        event_at(arrival(letter->from, letter->to) + (int64_t)rng_below(random, 300) * SIM_MS, deliver, again, 0);
    }
    event_at(arrival(letter->from, letter->to), deliver, letter, 0);
    cage_enter(owner);
}

void net_send_snapshot(void *ctx, struct etcd_server *server, struct raft_message *message, const char *path)
{
    struct cage_owner *owner = cage_leave();
    struct rng *random = &world.random;
    struct letter *letter = letter_new(server, message);
    letter->snapshot = true;
    counters.snapshots_sent++;
    int fd = disk_open(path, O_RDONLY);
    if (fd < 0)
        sim_fail("sim", "%s sends a snapshot that is not there: %s", letter->from->name, path);
    char chunk[16384];
    for (int64_t n, at = 0; (n = disk_read(fd, chunk, sizeof chunk, at)) > 0; at += n)
        kp_buf_append(&letter->image, chunk, (size_t)n);
    disk_close(fd);
    disk_unlink(path, false);
    letter->lost = !letter->to || rng_per_mille(random, world.net.loss_per_mille * 4);
    if (!letter->to) {
        letter_free(letter);
        cage_enter(owner);
        return;
    }
    sim_trace("%s sends %s a snapshot of %zu bytes at %llu", letter->from->name, letter->to->name, letter->image.len,
              (unsigned long long)letter->message.snapshot->index);
    event_in(rng_between(random, 10 * SIM_MS, 800 * SIM_MS), deliver, letter, 0);
    cage_enter(owner);
}

/* ---- questions: answered at once or not at all ---- */

struct question {
    struct sim_member *to;
    const char *what; /* NULL: a get of path */
    const char *path;
    struct kp_bytes bytes;
    struct kp_buf *answer;
    int rc;
    struct kp_error error;
};

static void answer(void *arg)
{
    struct question *q = arg;
    const char *type;
    q->rc = q->what ? server_question(q->to->server, q->what, q->bytes, q->answer, &q->error)
                    : server_get(q->to->server, q->path, &type, q->answer, &q->error);
}

static struct sim_member *owner_of(const struct cage_owner *owner)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (&world.members[i].owner == owner)
            return &world.members[i];
    return NULL;
}

static int put_question(struct sim_member *from, struct question *q, struct kp_error *error)
{
    struct sim_member *to = q->to;
    if (!member_is_up(to) || sim_now_ns < to->busy_until_ns || world.cut[from->slot][to->slot] ||
        rng_per_mille(&world.random, world.net.loss_per_mille))
        return kp_fail(error, KP_EUNAVAILABLE, "%s is not reached", to->name);
    if (!member_call(to, answer, q) || world.cut[to->slot][from->slot] ||
        rng_per_mille(&world.random, world.net.loss_per_mille)) {
        q->answer->len = 0;
        return kp_fail(error, KP_EUNAVAILABLE, "the answer of %s is lost", to->name);
    }
    member_turn_in(to, SIM_MS);
    if (q->rc < 0 && error)
        *error = q->error;
    return q->rc;
}

int net_get(void *ctx, const char *urls, const char *path, struct kp_buf *ret_body, uint64_t *ret_cluster_id,
            struct kp_error *error)
{
    struct cage_owner *owner = cage_leave();
    struct sim_member *from = owner_of(owner);
    int rc = kp_fail(error, KP_EUNAVAILABLE, "nobody of %s answers", urls);
    for (size_t i = 0; rc < 0 && i < world.members_len; i++) {
        struct sim_member *to = &world.members[i];
        const char *at = strstr(urls, to->url);
        if (to == from || !at || (at[strlen(to->url)] && at[strlen(to->url)] != ','))
            continue;
        struct question q = {.to = to, .path = path, .answer = ret_body};
        rc = put_question(from, &q, error);
        if (rc == 0)
            *ret_cluster_id = to->server->cluster_id;
    }
    cage_enter(owner);
    return rc;
}

int net_ask(void *ctx, struct etcd_server *server, uint64_t to, const char *what, struct kp_bytes question,
            struct kp_buf *ret_answer, struct kp_error *error)
{
    struct cage_owner *owner = cage_leave();
    struct question q = {.to = member_by_id(to), .what = what, .bytes = question, .answer = ret_answer};
    int rc = q.to ? put_question(owner_of(owner), &q, error) : kp_fail(error, KP_EUNAVAILABLE, "nobody has this id");
    cage_enter(owner);
    return rc;
}

void net_heal(void)
{
    memset(world.cut, 0, sizeof world.cut);
    world.net.loss_per_mille = world.net.double_per_mille = world.net.reorder_per_mille = 0;
    world.net.delay_ms_min = 0;
    world.net.delay_ms_max = 5;
}
