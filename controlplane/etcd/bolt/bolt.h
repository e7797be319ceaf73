/* controlplane/etcd/bolt: reads and writes the database file of stock etcd (bbolt, version 2), which is also its snapshot.

   The file is an array of pages. Pages 0 and 1 hold a meta each, of which the one with the higher transaction id counts;
   from it hangs a B+tree of buckets, and from each bucket a B+tree of pairs. A page too small for what it has to hold runs
   on over the pages behind it. Buckets inside buckets exist in the format, but etcd makes none: they are refused.

   Nothing read is trusted: every page id, length and offset is checked before it is used, keys must ascend over the whole
   bucket, and no page may be met twice. */
#ifndef ETCD_BOLT_H
#define ETCD_BOLT_H

#include "base/base.h"

#define BOLT_PAGE_BYTES_DEFAULT 4096u
#define BOLT_PAGE_BYTES_MIN 512u
#define BOLT_PAGE_BYTES_MAX 65536u
#define BOLT_KEY_BYTES_MAX 32768u               /* bbolt's own */
#define BOLT_VALUE_BYTES_MAX ((uint32_t)64 << 20)
#define BOLT_RUN_BYTES_MAX ((uint64_t)512 << 20) /* a page with what it runs on over; held in memory at once */
#define BOLT_DEPTH_MAX 32
#define BOLT_FILE_BYTES_MAX ((uint64_t)1 << 44)
#define BOLT_BUCKETS_MAX 64

/* ---- reading ---- */
struct bolt_reader;
/* A file of which the first `bytes` are the database (a snapshot has its checksum behind). fd is borrowed until the close
   and read with pread only. KP_ECORRUPT when it is none or its metas are both bad. */
int bolt_open(int fd, uint64_t bytes, struct bolt_reader **ret_reader, struct kp_error *error) KP_NODISCARD;
void bolt_close(struct bolt_reader *reader); /* accepts NULL */
KP_DEFINE_AUTO(struct bolt_reader *, bolt_close)
/* Bytes up to the highest page ever used: what bbolt calls the size. */
uint64_t bolt_size(const struct bolt_reader *reader);
uint32_t bolt_page_bytes(const struct bolt_reader *reader);

/* Both are borrowed for the call. A negative return stops the walk and is its result. */
typedef int (*bolt_pair_fn)(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error);
/* The names of the buckets, ascending. */
int bolt_each_bucket(struct bolt_reader *reader, int (*fn)(void *ctx, struct kp_bytes name, struct kp_error *error),
                     void *ctx, struct kp_error *error) KP_NODISCARD;
bool bolt_has_bucket(const struct bolt_reader *reader, const char *name);
/* The pairs of a bucket by key; none when there is no such bucket. */
int bolt_each(struct bolt_reader *reader, const char *bucket, bolt_pair_fn fn, void *ctx,
              struct kp_error *error) KP_NODISCARD;
/* Walks everything: each page up to the highest is a meta, in a tree once, or on the list of the free ones (when the file
   has one). */
int bolt_check(struct bolt_reader *reader, struct kp_error *error) KP_NODISCARD;

/* ---- writing ---- */
/* Sorted pairs into full pages, bottom-up, in one pass: memory for one page a level, whatever the size. */
struct bolt_writer;
/* fd: an empty file, borrowed until the free. page_bytes 0: the default. */
int bolt_writer_new(int fd, uint32_t page_bytes, struct bolt_writer **ret_writer, struct kp_error *error) KP_NODISCARD;
void bolt_writer_free(struct bolt_writer *writer); /* accepts NULL; what was not finished is no database */
KP_DEFINE_AUTO(struct bolt_writer *, bolt_writer_free)
/* Begins a bucket and ends the one before. Names must ascend. KP_EINVALID when they, or keys below, do not. */
int bolt_writer_bucket(struct bolt_writer *writer, const char *name, struct kp_error *error) KP_NODISCARD;
int bolt_writer_put(struct bolt_writer *writer, struct kp_bytes key, struct kp_bytes value,
                    struct kp_error *error) KP_NODISCARD;
/* Ends the last bucket and writes the metas; *ret_bytes (may be NULL) is the size of the file. Does not sync. */
int bolt_writer_finish(struct bolt_writer *writer, uint64_t *ret_bytes, struct kp_error *error) KP_NODISCARD;

#endif
