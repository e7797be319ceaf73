/* The log's bytes, and what its files share.

   A segment is a run of records, then zeroes. A record is
     0  u32 magic   4 u32 type   8 u32 length of the payload   12 u32 previous (the rolling CRC before this record)
     16 u32 crc     20 u32 zero  24 u64 durable (how much of this segment was synced when this was written)
     32 payload, zeroes up to a multiple of 8, then the 8 bytes of WAL_TRAILER
   little-endian; crc is CRC-32C over all of it but itself, begun with previous. Three things tell a torn write, which is
   repaired, from damage, which is refused:
   - a later intact record whose durable lies beyond a bad one proves that the bad one was synced once: damage;
   - a torn write leaves zeroes (the file was zeroed before): a bad tail that is complete, up to a trailer and with no sector
     of zeroes in it, was not torn: damage;
   - only the last segment can be torn, for it is cut after the one before was synced. */
#ifndef ETCD_WAL_INTERNAL_H
#define ETCD_WAL_INTERNAL_H

#include "controlplane/etcd/wal/wal.h"

#define WAL_MAGIC 0x314c574bu /* "KWL1" */
#define WAL_TRAILER 0x0d0a4c4157444e45u /* "ENDWAL\n\r": no zero byte */
#define WAL_HEADER_BYTES ((size_t)32)
#define WAL_TRAILER_BYTES ((size_t)8)
#define WAL_SECTOR ((size_t)512) /* what a disk writes in one piece */
#define WAL_NAME_MAX 48
#define WAL_PATH_MAX 4096

enum wal_record_type { WAL_METADATA = 1, WAL_HARD_STATE, WAL_ENTRY, WAL_SNAPSHOT };

struct wal_record {
    uint32_t type, previous, crc;
    uint64_t durable;
    const uint8_t *payload; /* borrowed */
    size_t len;
    size_t size; /* with header, padding and trailer */
};

/* record.c */
size_t wal_record_size(size_t payload_len);
/* Appends a record to out and rolls *crc on. The payload is head and then tail (which may be empty: NULL, 0). */
void wal_record_put(struct kp_buf *out, uint32_t *crc, uint64_t durable, enum wal_record_type type,
                    const struct kp_buf *head, const void *tail, size_t tail_len);
/* True when an intact record lies at data (its crc checked against the previous it names itself). */
bool wal_record_get(const uint8_t *data, size_t len, struct wal_record *ret);
void wal_put_metadata(struct kp_buf *out, const struct wal_metadata *metadata, uint64_t sequence);
void wal_put_hard_state(struct kp_buf *out, const struct raft_hard_state *hard_state);
void wal_put_entry_head(struct kp_buf *out, const struct raft_entry *entry); /* the data follows */
void wal_put_snapshot(struct kp_buf *out, const struct wal_snapshot *snapshot);
bool wal_get_metadata(const struct wal_record *record, struct wal_metadata *ret, uint64_t *ret_sequence);
bool wal_get_hard_state(const struct wal_record *record, struct raft_hard_state *ret);
bool wal_get_entry(const struct wal_record *record, struct raft_entry *ret); /* ret->data is new */
bool wal_get_snapshot(const struct wal_record *record, struct wal_snapshot *ret);

/* names.c */
struct wal_segment {
    uint64_t sequence, index; /* index: of the first entry that was to come when it was cut */
};
void wal_segment_path(const char *folder, const struct wal_segment *segment, bool temporary, char out[WAL_PATH_MAX]);
/* The segments of a folder, ascending and without a gap in their sequence; *ret is the caller's. KP_ENOTFOUND: none. */
int wal_list(const struct wal_io *io, const char *folder, struct wal_segment **ret, size_t *ret_len,
             struct kp_error *error);
int wal_fail_io(struct kp_error *error, int negative_errno, const char *what, const char *path);

/* replay.c */
struct wal_end { /* where the last segment ends */
    uint64_t offset;
    uint32_t crc;
    uint64_t last_index;
    uint64_t file_bytes;
};
int wal_replay_all(const struct wal_io *io, const char *folder, const struct wal_segment *segments, size_t len,
                   struct wal_replay *ret, struct wal_end *ret_end, struct kp_error *error);

#endif
