/* A cluster of Raft cores on an in-memory network and disks, for scenarios and for randomised safety tests. */
#include "tests/support/raft_cluster.h"

#include <inttypes.h>

/* splitmix64: the same numbers for a seed on any machine. */
uint64_t cluster_random(struct cluster *cluster, uint64_t bound)
{
    uint64_t z = (cluster->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return bound ? (z ^ (z >> 31)) % bound : 0;
}

static uint64_t random_of(void *ctx, uint64_t bound) { return cluster_random(ctx, bound); }

void cluster_init(struct cluster *cluster, uint64_t seed)
{
    *cluster = (struct cluster){.random = seed};
}

void raft_cluster_done(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->nodes_len; i++) {
        raft_free(cluster->nodes[i].raft);
        raft_entries_free(cluster->nodes[i].disk.entries, cluster->nodes[i].disk.entries_len);
    }
    for (size_t i = 0; i < cluster->network_len; i++)
        raft_message_done(&cluster->network[i]);
    free(cluster->network);
    *cluster = (struct cluster){0};
}

struct cluster_node *cluster_node(struct cluster *cluster, uint64_t id)
{
    for (size_t i = 0; i < cluster->nodes_len; i++)
        if (cluster->nodes[i].id == id)
            return &cluster->nodes[i];
    return NULL;
}

void cluster_start(struct cluster *cluster, struct cluster_node *node)
{
    struct raft_config config = node->config;
    struct kp_error error = {0};
    KP_ASSERT(!node->raft);
    node->live = node->disk.state;
    config.random = random_of;
    config.random_ctx = cluster;
    config.hard_state = node->disk.hard_state;
    config.snapshot_index = node->disk.snapshot_index;
    config.snapshot_term = node->disk.snapshot_term;
    config.entries = node->disk.entries;
    config.entries_len = node->disk.entries_len;
    config.applied = node->live.applied;
    config.conf = node->live.conf;
    if (raft_new(&config, &node->raft, &error) < 0) {
        fprintf(stderr, "member %" PRIu64 " does not start: %s\n", node->id, error.message);
        abort();
    }
}

struct cluster_node *cluster_add(struct cluster *cluster, const struct raft_config *config)
{
    KP_ASSERT(cluster->nodes_len < CLUSTER_NODES_MAX && config->id <= CLUSTER_NODES_MAX);
    struct cluster_node *node = &cluster->nodes[cluster->nodes_len++];
    *node = (struct cluster_node){.id = config->id, .config = *config};
    node->disk.state.conf = config->conf;
    if (config->conf.voters.len > 0) {
        node->disk.snapshot_index = node->disk.state.applied = RAFT_INITIAL_INDEX;
        node->disk.snapshot_term = RAFT_INITIAL_TERM;
    }
    cluster_start(cluster, node);
    return node;
}

void cluster_crash_node(struct cluster *cluster, struct cluster_node *node)
{
    (void)cluster;
    raft_free(node->raft);
    node->raft = NULL;
}

/* ---- the disk --------------------------------------------------------------------------------------------------- */
static uint64_t disk_last(const struct cluster_disk *disk) { return disk->snapshot_index + disk->entries_len; }

static void disk_append(struct cluster_disk *disk, const struct raft_entry *entries, size_t len)
{
    if (len == 0)
        return;
    KP_ASSERT(entries[0].index > disk->snapshot_index && entries[0].index <= disk_last(disk) + 1);
    size_t keep = (size_t)(entries[0].index - disk->snapshot_index - 1);
    for (size_t i = keep; i < disk->entries_len; i++)
        kp_blob_unref(disk->entries[i].data);
    disk->entries_len = keep + len;
    disk->entries = kp_realloc(disk->entries, disk->entries_len * sizeof(*disk->entries));
    for (size_t i = 0; i < len; i++) {
        disk->entries[keep + i] = entries[i];
        if (entries[i].data)
            kp_blob_ref(entries[i].data);
    }
}

static void disk_trim(struct cluster_disk *disk, uint64_t index, uint64_t term)
{
    size_t drop = (size_t)KP_MIN(index - disk->snapshot_index, disk->entries_len);
    for (size_t i = 0; i < drop; i++)
        kp_blob_unref(disk->entries[i].data);
    disk->entries_len -= drop;
    memmove(disk->entries, disk->entries + drop, disk->entries_len * sizeof(*disk->entries));
    disk->snapshot_index = index;
    disk->snapshot_term = term;
}

static void install(struct cluster *cluster, struct cluster_node *node, const struct raft_snapshot *snapshot)
{
    node->live.applied = snapshot->index;
    node->live.conf = snapshot->conf;
    KP_ASSERT(snapshot->data && snapshot->data->len == sizeof(node->live.hash));
    memcpy(&node->live.hash, snapshot->data->data, sizeof(node->live.hash));
    node->disk.state = node->live;
    raft_entries_free(node->disk.entries, node->disk.entries_len);
    node->disk.entries = NULL;
    node->disk.entries_len = 0;
    node->disk.snapshot_index = snapshot->index;
    node->disk.snapshot_term = snapshot->term;
    if (cluster->on_apply)
        cluster->on_apply(cluster->observer_ctx, node, NULL);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */
static void print_ids(struct kp_buf *out, const char *what, const struct raft_id_set *set)
{
    if (set->len == 0)
        return;
    kp_buf_printf(out, "%s%s", out->len && out->data[out->len - 1] != ' ' ? " " : "", what);
    for (size_t i = 0; i < set->len; i++)
        kp_buf_printf(out, " %" PRIu64, set->ids[i]);
}

void cluster_print_conf(struct kp_buf *out, const struct raft_conf_state *conf)
{
    print_ids(out, "voters", &conf->voters);
    print_ids(out, "outgoing", &conf->voters_outgoing);
    print_ids(out, "learners", &conf->learners);
    print_ids(out, "learners-next", &conf->learners_next);
    if (conf->auto_leave)
        kp_buf_puts(out, " auto-leave");
}

static void print_change(struct kp_buf *out, const struct raft_entry *entry)
{
    struct raft_conf_change change;
    struct kp_error error;
    if (raft_conf_change_decode(entry->data, &change, &error) < 0) {
        kp_buf_puts(out, "malformed change");
        return;
    }
    kp_buf_puts(out, change.len ? "change" : "leave-joint");
    for (size_t i = 0; i < change.len; i++)
        kp_buf_printf(out, " %s%" PRIu64,
                      change.changes[i].type == RAFT_ADD_VOTER ? "voter+"
                      : change.changes[i].type == RAFT_REMOVE  ? "-"
                                                               : "learner+",
                      change.changes[i].id);
}

void cluster_print_entry(struct kp_buf *out, const struct raft_entry *entry)
{
    kp_buf_printf(out, "%" PRIu64 "/%" PRIu64 " ", entry->index, entry->term);
    if (entry->type == RAFT_ENTRY_CONF_CHANGE)
        print_change(out, entry);
    else if (entry->data)
        kp_buf_printf(out, "\"%.*s\"", (int)entry->data->len, (const char *)entry->data->data);
    else
        kp_buf_puts(out, "no-op");
}

static void print_entries(struct kp_buf *out, const struct raft_entry *entries, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        kp_buf_puts(out, i ? ", " : "");
        cluster_print_entry(out, &entries[i]);
    }
}

void cluster_print_message(struct kp_buf *out, const struct raft_message *m)
{
    kp_buf_printf(out, "%s %" PRIu64 "->%" PRIu64, raft_message_name(m->type), m->from, m->to);
    if (m->term)
        kp_buf_printf(out, " term %" PRIu64, m->term);
    kp_buf_puts(out, ": ");
    switch (m->type) {
    case RAFT_MSG_APPEND:
        kp_buf_printf(out, "after %" PRIu64 "/%" PRIu64 ", commit %" PRIu64, m->index, m->log_term, m->commit);
        kp_buf_puts(out, m->entries_len ? ", entries " : "");
        print_entries(out, m->entries, m->entries_len);
        break;
    case RAFT_MSG_APPEND_RESP:
        if (m->reject)
            kp_buf_printf(out, "refused after %" PRIu64 ", hint %" PRIu64 "/%" PRIu64, m->index, m->reject_hint,
                          m->log_term);
        else
            kp_buf_printf(out, "has %" PRIu64, m->index);
        break;
    case RAFT_MSG_VOTE:
    case RAFT_MSG_PRE_VOTE:
        kp_buf_printf(out, "last %" PRIu64 "/%" PRIu64 "%s", m->index, m->log_term, m->force ? ", transfer" : "");
        break;
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_PRE_VOTE_RESP:
        kp_buf_puts(out, m->reject ? "no" : "yes");
        break;
    case RAFT_MSG_HEARTBEAT:
        kp_buf_printf(out, "commit %" PRIu64, m->commit);
        if (m->context)
            kp_buf_printf(out, ", round %" PRIu64, m->context);
        break;
    case RAFT_MSG_HEARTBEAT_RESP:
        kp_buf_printf(out, m->context ? "round %" PRIu64 : "here", m->context);
        break;
    case RAFT_MSG_SNAPSHOT:
        kp_buf_printf(out, "at %" PRIu64 "/%" PRIu64 " ", m->snapshot->index, m->snapshot->term);
        cluster_print_conf(out, &m->snapshot->conf);
        break;
    case RAFT_MSG_PROPOSE:
        print_entries(out, m->entries, m->entries_len);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
        kp_buf_puts(out, "campaign");
        break;
    case RAFT_MSG_TRANSFER_LEADER:
        kp_buf_printf(out, "to %" PRIu64, m->context);
        break;
    case RAFT_MSG_READ_INDEX:
        kp_buf_printf(out, "read %" PRIu64, m->context);
        break;
    case RAFT_MSG_READ_INDEX_RESP:
        kp_buf_printf(out, "read %" PRIu64 " at %" PRIu64, m->context, m->index);
        break;
    case RAFT_MSG_TYPE_COUNT:
        break;
    }
}

static void trace_ready(struct cluster *cluster, const struct cluster_node *node, const struct raft_ready *ready)
{
    struct kp_buf *out = cluster->trace;
    if (!out)
        return;
    kp_buf_printf(out, "member %" PRIu64 "\n", node->id);
    if (ready->soft_changed) {
        kp_buf_printf(out, "  is %s in term %" PRIu64, raft_role_name(ready->role), ready->term);
        if (ready->leader && ready->leader != node->id)
            kp_buf_printf(out, " of %" PRIu64, ready->leader);
        kp_buf_puts(out, "\n");
    }
    for (size_t i = 0; i < ready->messages_len; i++) {
        kp_buf_puts(out, "  sends ");
        cluster_print_message(out, &ready->messages[i]);
        kp_buf_puts(out, "\n");
    }
    if (ready->snapshot) {
        kp_buf_printf(out, "  installs snapshot %" PRIu64 "/%" PRIu64 " ", ready->snapshot->index, ready->snapshot->term);
        cluster_print_conf(out, &ready->snapshot->conf);
        kp_buf_puts(out, "\n");
    }
    if (ready->entries_len) {
        kp_buf_puts(out, "  writes ");
        print_entries(out, ready->entries, ready->entries_len);
        kp_buf_puts(out, "\n");
    }
    if (ready->hard_state_changed)
        kp_buf_printf(out, "  writes term %" PRIu64 " vote %" PRIu64 " commit %" PRIu64 "\n", ready->hard_state.term,
                      ready->hard_state.vote, ready->hard_state.commit);
    if (ready->must_sync)
        kp_buf_puts(out, "  syncs\n");
    for (size_t i = 0; i < ready->messages_after_sync_len; i++) {
        kp_buf_puts(out, "  then sends ");
        cluster_print_message(out, &ready->messages_after_sync[i]);
        kp_buf_puts(out, "\n");
    }
    if (ready->committed_len) {
        kp_buf_puts(out, "  applies ");
        print_entries(out, ready->committed, ready->committed_len);
        kp_buf_puts(out, "\n");
    }
    for (size_t i = 0; i < ready->reads_len; i++)
        kp_buf_printf(out, "  may answer read %" PRIu64 " at %" PRIu64 "\n", ready->reads[i].read_id,
                      ready->reads[i].index);
}

/* ---- readies ---------------------------------------------------------------------------------------------------- */
static void network_add(struct cluster *cluster, const struct raft_message *message)
{
    if (cluster->network_len == cluster->network_cap) {
        cluster->network_cap = cluster->network_cap ? cluster->network_cap * 2 : 64;
        cluster->network = kp_realloc(cluster->network, cluster->network_cap * sizeof(*cluster->network));
    }
    raft_message_copy(&cluster->network[cluster->network_len++], message);
}

static void send_all(struct cluster *cluster, struct cluster_node *node, const struct raft_message *messages,
                     size_t len)
{
    for (size_t i = 0; i < len; i++) {
        network_add(cluster, &messages[i]);
        struct raft_message *sent = &cluster->network[cluster->network_len - 1];
        if (!sent->snapshot)
            continue;
        /* The image is cut now, maybe later than where the core saw the state machine. */
        sent->snapshot->index = node->live.applied;
        sent->snapshot->term = raft_term_of(node->raft, node->live.applied);
        sent->snapshot->conf = node->live.conf;
        KP_ASSERT(sent->snapshot->term != 0);
        sent->snapshot->data = kp_blob_new(&node->live.hash, sizeof(node->live.hash));
    }
}

static void apply(struct cluster *cluster, struct cluster_node *node, const struct raft_entry *entry)
{
    KP_ASSERT(entry->index == node->live.applied + 1);
    uint64_t mix[3] = {node->live.hash, entry->index, entry->data ? kp_hash64(entry->data->data, entry->data->len) : 0};
    node->live.hash = kp_hash64(mix, sizeof(mix));
    if (entry->type == RAFT_ENTRY_CONF_CHANGE) {
        struct raft_conf_change change;
        struct kp_error error = {0};
        int code = raft_conf_change_decode(entry->data, &change, &error);
        KP_ASSERT(code == 0);
        if (raft_apply_conf_change(node->raft, &change, &node->live.conf, &error) < 0 && cluster->trace)
            kp_buf_printf(cluster->trace, "  refuses the change: %s\n", error.message);
    }
    node->live.applied = entry->index;
    if (cluster->on_apply)
        cluster->on_apply(cluster->observer_ctx, node, entry);
    raft_applied(node->raft, entry->index);
}

bool cluster_ready(struct cluster *cluster, struct cluster_node *node, enum cluster_crash crash)
{
    if (!node->raft || !raft_has_ready(node->raft))
        return false;
    const struct raft_ready *ready = raft_ready(node->raft);
    trace_ready(cluster, node, ready);
    if (cluster->on_ready)
        cluster->on_ready(cluster->observer_ctx, node, ready);
    send_all(cluster, node, ready->messages, ready->messages_len);
    if (crash == CRASH_BEFORE_WRITE)
        goto crashed;
    if (crash == CRASH_TORN_WRITE) {
        if (!ready->snapshot)
            disk_append(&node->disk, ready->entries, (size_t)cluster_random(cluster, ready->entries_len + 1));
        goto crashed;
    }
    if (ready->snapshot)
        install(cluster, node, ready->snapshot);
    disk_append(&node->disk, ready->entries, ready->entries_len);
    /* A commit alone need not be durable before the next sync: half the time a crash until then loses it. */
    if (ready->must_sync || (ready->hard_state_changed && cluster_random(cluster, 2)))
        node->disk.hard_state = ready->hard_state;
    if (crash == CRASH_AFTER_WRITE)
        goto crashed;
    send_all(cluster, node, ready->messages_after_sync, ready->messages_after_sync_len);
    if (crash == CRASH_AFTER_PROMISES)
        goto crashed;
    struct raft_entry *committed = kp_calloc(ready->committed_len + 1, sizeof(*committed));
    size_t committed_len = ready->committed_len;
    for (size_t i = 0; i < committed_len; i++) {
        committed[i] = ready->committed[i];
        if (committed[i].data)
            kp_blob_ref(committed[i].data);
    }
    bool installed = ready->snapshot != NULL;
    raft_advance(node->raft);
    if (installed)
        raft_applied(node->raft, node->live.applied);
    for (size_t i = 0; i < committed_len; i++)
        apply(cluster, node, &committed[i]);
    raft_entries_free(committed, committed_len);
    return true;
crashed:
    cluster_crash_node(cluster, node);
    return true;
}

/* ---- the network ------------------------------------------------------------------------------------------------ */
void cluster_drop(struct cluster *cluster, size_t i)
{
    struct raft_message *message = &cluster->network[i];
    struct cluster_node *from = cluster_node(cluster, message->from);
    if (message->type == RAFT_MSG_SNAPSHOT && from && from->raft)
        raft_report_snapshot(from->raft, message->to, false);
    raft_message_done(message);
    cluster->network_len--;
    memmove(message, message + 1, (cluster->network_len - i) * sizeof(*message));
}

void cluster_deliver(struct cluster *cluster, size_t i, bool keep)
{
    struct raft_message message;
    struct kp_error error = {0};
    raft_message_copy(&message, &cluster->network[i]);
    struct cluster_node *to = cluster_node(cluster, message.to), *from = cluster_node(cluster, message.from);
    if (!to || !to->raft || cluster->cut[message.from][message.to]) {
        cluster_drop(cluster, i);
    } else {
        if (!keep) {
            raft_message_done(&cluster->network[i]);
            cluster->network_len--;
            memmove(&cluster->network[i], &cluster->network[i + 1],
                    (cluster->network_len - i) * sizeof(*cluster->network));
        }
        if (raft_step(to->raft, &message, &error) < 0) {
            fprintf(stderr, "member %" PRIu64 " refuses a message: %s\n", to->id, error.message);
            abort();
        }
        if (message.type == RAFT_MSG_SNAPSHOT && from && from->raft)
            raft_report_snapshot(from->raft, message.to, true);
    }
    raft_message_done(&message);
}

bool cluster_settle(struct cluster *cluster, size_t rounds_max)
{
    for (size_t round = 0; round < rounds_max; round++) {
        bool moved = false;
        for (size_t i = 0; i < cluster->nodes_len; i++)
            while (cluster_ready(cluster, &cluster->nodes[i], CRASH_NEVER))
                moved = true;
        for (size_t left = cluster->network_len; left > 0; left--) {
            cluster_deliver(cluster, 0, false);
            moved = true;
        }
        if (!moved)
            return true;
    }
    return false;
}

void cluster_compact(struct cluster *cluster, struct cluster_node *node, uint64_t index)
{
    (void)cluster;
    KP_ASSERT(index <= node->live.applied);
    node->disk.state = node->live;
    if (index <= node->disk.snapshot_index)
        return;
    disk_trim(&node->disk, index, raft_term_of(node->raft, index));
    raft_compact(node->raft, index);
}
