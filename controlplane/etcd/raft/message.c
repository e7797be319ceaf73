/* Messages: ownership, and their bytes between members. */
#include "controlplane/etcd/raft/bytes_internal.h"
#include "controlplane/etcd/raft/raft_internal.h"

#define MESSAGE_VERSION 1

static const char *const message_names[RAFT_MSG_TYPE_COUNT] = {
    [RAFT_MSG_APPEND] = "append",
    [RAFT_MSG_APPEND_RESP] = "append-resp",
    [RAFT_MSG_VOTE] = "vote",
    [RAFT_MSG_VOTE_RESP] = "vote-resp",
    [RAFT_MSG_PRE_VOTE] = "pre-vote",
    [RAFT_MSG_PRE_VOTE_RESP] = "pre-vote-resp",
    [RAFT_MSG_HEARTBEAT] = "heartbeat",
    [RAFT_MSG_HEARTBEAT_RESP] = "heartbeat-resp",
    [RAFT_MSG_SNAPSHOT] = "snapshot",
    [RAFT_MSG_TIMEOUT_NOW] = "timeout-now",
    [RAFT_MSG_TRANSFER_LEADER] = "transfer-leader",
    [RAFT_MSG_PROPOSE] = "propose",
    [RAFT_MSG_READ_INDEX] = "read-index",
    [RAFT_MSG_READ_INDEX_RESP] = "read-index-resp",
};

const char *raft_message_name(enum raft_message_type type)
{
    return (unsigned)type < RAFT_MSG_TYPE_COUNT && message_names[type] ? message_names[type] : "unknown";
}

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    return (unsigned)role < KP_ARRAY_LEN(names) ? names[role] : "unknown";
}

void raft_message_done(struct raft_message *message)
{
    raft_entries_free(message->entries, message->entries_len);
    if (message->snapshot)
        kp_blob_unref(message->snapshot->data);
    free(message->snapshot);
    *message = (struct raft_message){0};
}

struct raft_message raft_message_take(const struct raft_message *ready_message)
{
    struct raft_message *own = (struct raft_message *)(uintptr_t)ready_message; /* the ready's messages are the core's to free */
    struct raft_message taken = *own;
    own->entries = NULL;
    own->entries_len = 0;
    own->snapshot = NULL;
    return taken;
}

void raft_message_copy(struct raft_message *out, const struct raft_message *message)
{
    *out = *message;
    if (message->entries_len > 0) {
        out->entries = kp_malloc(message->entries_len * sizeof(*out->entries));
        memcpy(out->entries, message->entries, message->entries_len * sizeof(*out->entries));
        for (size_t i = 0; i < message->entries_len; i++)
            if (out->entries[i].data)
                kp_blob_ref(out->entries[i].data);
    } else {
        out->entries = NULL;
    }
    if (message->snapshot) {
        out->snapshot = kp_malloc(sizeof(*out->snapshot));
        *out->snapshot = *message->snapshot;
        if (out->snapshot->data)
            kp_blob_ref(out->snapshot->data);
    }
}

static void put_blob(struct kp_buf *out, const struct kp_blob *blob)
{
    put_u32(out, blob ? (uint32_t)blob->len : 0);
    if (blob && blob->len)
        kp_buf_append(out, blob->data, blob->len);
}

/* Empty bytes give NULL: the core does not tell them apart. */
static struct kp_blob *get_blob(struct cursor *in)
{
    size_t len = get_u32(in);
    const uint8_t *data = get_bytes(in, len);
    return data && len ? kp_blob_new(data, len) : NULL;
}

void raft_message_encode(struct kp_buf *out, const struct raft_message *message)
{
    size_t start = out->len;
    put_u8(out, MESSAGE_VERSION);
    put_u8(out, (uint8_t)message->type);
    put_u8(out, (uint8_t)((message->reject ? 1 : 0) | (message->force ? 2 : 0) | (message->snapshot ? 4 : 0)));
    put_u64(out, message->to);
    put_u64(out, message->from);
    put_u64(out, message->term);
    put_u64(out, message->index);
    put_u64(out, message->log_term);
    put_u64(out, message->commit);
    put_u64(out, message->commit_term);
    put_u64(out, message->reject_hint);
    put_u64(out, message->context);
    put_u32(out, (uint32_t)message->entries_len);
    for (size_t i = 0; i < message->entries_len; i++) {
        const struct raft_entry *entry = &message->entries[i];
        put_u64(out, entry->index);
        put_u64(out, entry->term);
        put_u8(out, (uint8_t)entry->type);
        put_blob(out, entry->data);
    }
    if (message->snapshot) {
        put_u64(out, message->snapshot->index);
        put_u64(out, message->snapshot->term);
        size_t len_at = out->len;
        put_u32(out, 0);
        raft_conf_state_encode(out, &message->snapshot->conf);
        uint32_t len = (uint32_t)(out->len - len_at - 4);
        for (int i = 0; i < 4; i++)
            out->data[len_at + (size_t)i] = (char)(len >> (8 * i));
        put_blob(out, message->snapshot->data);
    }
    put_u32(out, kp_crc32c(0, out->data + start, out->len - start));
}

static void get_entries(struct cursor *in, struct raft_message *message)
{
    size_t len = get_u32(in);
    if (len == 0)
        return;
    /* 21 bytes an entry at least: what was not received is not allocated either. */
    if (len > RAFT_MESSAGE_ENTRIES_MAX || len > in->left / 21) {
        in->bad = true;
        return;
    }
    message->entries = kp_calloc(len, sizeof(*message->entries));
    for (size_t i = 0; i < len && !in->bad; i++) {
        struct raft_entry *entry = &message->entries[message->entries_len++];
        entry->index = get_u64(in);
        entry->term = get_u64(in);
        uint8_t type = get_u8(in);
        if (type > RAFT_ENTRY_CONF_CHANGE)
            in->bad = true;
        entry->type = (enum raft_entry_type)type;
        entry->data = get_blob(in);
        if (raft_entry_bytes(entry) > RAFT_ENTRY_BYTES_MAX)
            in->bad = true;
    }
}

static void get_snapshot(struct cursor *in, struct raft_message *message)
{
    message->snapshot = kp_calloc(1, sizeof(*message->snapshot));
    message->snapshot->index = get_u64(in);
    message->snapshot->term = get_u64(in);
    size_t len = get_u32(in);
    const uint8_t *conf = get_bytes(in, len);
    if (!conf || raft_conf_state_decode(conf, len, &message->snapshot->conf, NULL) < 0)
        in->bad = true;
    message->snapshot->data = get_blob(in);
}

int raft_message_decode(const void *data, size_t len, struct raft_message *ret, struct kp_error *error)
{
    struct cursor in = {data, len, false};
    if (len < 4)
        return kp_fail(error, KP_ECORRUPT, "raft message: %zu bytes are too few", len);
    in.left = len - 4;
    struct cursor check = {in.data + in.left, 4, false};
    if (get_u32(&check) != kp_crc32c(0, data, in.left))
        return kp_fail(error, KP_ECORRUPT, "raft message: checksum differs, %zu bytes", len);
    uint8_t version = get_u8(&in);
    if (version != MESSAGE_VERSION)
        return kp_fail(error, KP_ECORRUPT, "raft message: unknown version %u", version);
    struct raft_message message = {0};
    uint8_t type = get_u8(&in), flags = get_u8(&in);
    if (type == 0 || type >= RAFT_MSG_TYPE_COUNT || flags > 7)
        return kp_fail(error, KP_ECORRUPT, "raft message: unknown type %u or flags %u", type, flags);
    message.type = (enum raft_message_type)type;
    message.reject = flags & 1;
    message.force = flags & 2;
    message.to = get_u64(&in);
    message.from = get_u64(&in);
    message.term = get_u64(&in);
    message.index = get_u64(&in);
    message.log_term = get_u64(&in);
    message.commit = get_u64(&in);
    message.commit_term = get_u64(&in);
    message.reject_hint = get_u64(&in);
    message.context = get_u64(&in);
    get_entries(&in, &message);
    if (flags & 4 && !in.bad)
        get_snapshot(&in, &message);
    if (in.bad || in.left != 0) {
        raft_message_done(&message);
        return kp_fail(error, KP_ECORRUPT, "raft message: malformed %s, %zu bytes", raft_message_name(type), len);
    }
    *ret = message;
    return 0;
}
