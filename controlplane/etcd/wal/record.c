/* Records to bytes and back. */
#include "controlplane/etcd/wal/wal_internal.h"

static void put32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static void put64(uint8_t *out, uint64_t v)
{
    put32(out, (uint32_t)v);
    put32(out + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static uint64_t get64(const uint8_t *in) { return get32(in) | (uint64_t)get32(in + 4) << 32; }

static void append64(struct kp_buf *out, uint64_t v)
{
    uint8_t bytes[8];
    put64(bytes, v);
    kp_buf_append(out, bytes, sizeof(bytes));
}

static size_t align8(size_t n) { return (n + 7) & ~(size_t)7; }

size_t wal_record_size(size_t payload_len) { return align8(WAL_HEADER_BYTES + payload_len) + WAL_TRAILER_BYTES; }

/* Over header (without the crc itself), payload, padding and trailer, which lie in one piece at data. */
static uint32_t record_crc(const uint8_t *data, size_t size, uint32_t previous)
{
    uint32_t crc = kp_crc32c(previous, data, 16);
    return kp_crc32c(crc, data + 20, size - 20);
}

void wal_record_put(struct kp_buf *out, uint32_t *crc, uint64_t durable, enum wal_record_type type,
                    const struct kp_buf *head, const void *tail, size_t tail_len)
{
    size_t len = head->len + tail_len, size = wal_record_size(len), at = out->len;
    KP_ASSERT(len <= WAL_RECORD_BYTES_MAX);
    kp_buf_reserve(out, size);
    uint8_t *data = (uint8_t *)out->data + at;
    memset(data, 0, WAL_HEADER_BYTES);
    put32(data, WAL_MAGIC);
    put32(data + 4, type);
    put32(data + 8, (uint32_t)len);
    put32(data + 12, *crc);
    put64(data + 24, durable);
    if (head->len > 0)
        memcpy(data + WAL_HEADER_BYTES, head->data, head->len);
    if (tail_len > 0)
        memcpy(data + WAL_HEADER_BYTES + head->len, tail, tail_len);
    memset(data + WAL_HEADER_BYTES + len, 0, size - WAL_TRAILER_BYTES - WAL_HEADER_BYTES - len);
    put64(data + size - WAL_TRAILER_BYTES, WAL_TRAILER);
    *crc = record_crc(data, size, *crc);
    put32(data + 16, *crc);
    out->len += size;
    out->data[out->len] = '\0';
}

bool wal_record_get(const uint8_t *data, size_t len, struct wal_record *ret)
{
    if (len < WAL_HEADER_BYTES + WAL_TRAILER_BYTES || get32(data) != WAL_MAGIC)
        return false;
    struct wal_record record = {.type = get32(data + 4), .previous = get32(data + 12), .crc = get32(data + 16)};
    record.len = get32(data + 8);
    if (record.len > WAL_RECORD_BYTES_MAX)
        return false;
    record.size = wal_record_size(record.len);
    record.durable = get64(data + 24);
    record.payload = data + WAL_HEADER_BYTES;
    if (record.size > len || get64(data + record.size - WAL_TRAILER_BYTES) != WAL_TRAILER ||
        record_crc(data, record.size, record.previous) != record.crc)
        return false;
    *ret = record;
    return true;
}

void wal_put_metadata(struct kp_buf *out, const struct wal_metadata *metadata, uint64_t sequence)
{
    append64(out, metadata->cluster_id);
    append64(out, metadata->node_id);
    append64(out, sequence);
}

bool wal_get_metadata(const struct wal_record *record, struct wal_metadata *ret, uint64_t *ret_sequence)
{
    if (record->len != 24)
        return false;
    ret->cluster_id = get64(record->payload);
    ret->node_id = get64(record->payload + 8);
    *ret_sequence = get64(record->payload + 16);
    return true;
}

void wal_put_hard_state(struct kp_buf *out, const struct raft_hard_state *hard_state)
{
    append64(out, hard_state->term);
    append64(out, hard_state->vote);
    append64(out, hard_state->commit);
}

bool wal_get_hard_state(const struct wal_record *record, struct raft_hard_state *ret)
{
    if (record->len != 24)
        return false;
    ret->term = get64(record->payload);
    ret->vote = get64(record->payload + 8);
    ret->commit = get64(record->payload + 16);
    return true;
}

void wal_put_entry_head(struct kp_buf *out, const struct raft_entry *entry)
{
    append64(out, entry->index);
    append64(out, entry->term);
    append64(out, (uint64_t)entry->type);
}

bool wal_get_entry(const struct wal_record *record, struct raft_entry *ret)
{
    if (record->len < 24 || record->len - 24 > RAFT_ENTRY_BYTES_MAX)
        return false;
    uint64_t type = get64(record->payload + 16);
    if (type > RAFT_ENTRY_CONF_CHANGE)
        return false;
    ret->index = get64(record->payload);
    ret->term = get64(record->payload + 8);
    ret->type = (enum raft_entry_type)type;
    if (ret->index == 0 || ret->term == 0)
        return false;
    ret->data = record->len > 24 ? kp_blob_new(record->payload + 24, record->len - 24) : NULL;
    return true;
}

void wal_put_snapshot(struct kp_buf *out, const struct wal_snapshot *snapshot)
{
    append64(out, snapshot->index);
    append64(out, snapshot->term);
    raft_conf_state_encode(out, &snapshot->conf);
}

bool wal_get_snapshot(const struct wal_record *record, struct wal_snapshot *ret)
{
    if (record->len < 16 || raft_conf_state_decode(record->payload + 16, record->len - 16, &ret->conf, NULL) < 0)
        return false;
    ret->index = get64(record->payload);
    ret->term = get64(record->payload + 8);
    return true;
}
