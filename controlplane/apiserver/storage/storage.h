/* controlplane/apiserver/storage: the API server's only way to etcd - point reads, pages, optimistic transactions, leases, one watch. */
#ifndef APISERVER_STORAGE_H
#define APISERVER_STORAGE_H

#include "lib/base/base.h"
#include "lib/loop/loop.h"

struct store;
struct store_config {
    const char *endpoints; /* comma-separated URLs: "https://127.0.0.1:2379"; copied */
    const char *ca_file, *cert_file, *key_file; /* NULL or "": not set; read once */
};
#define STORE_CALL_TIMEOUT_MS 10000
#define STORE_PAGE_LIMIT 500  /* keys asked for at once when reading everything */
#define STORE_OPS_MAX 120    /* operations in one transaction; etcd takes 128 */
/* loop must run and outlive the store. Does not connect yet. */
int store_new(struct loop *loop, const struct store_config *config, struct store **ret_store, struct kp_error *error) KP_NODISCARD;
void store_free(struct store *store); /* accepts NULL */

struct store_kv {
    const char *key; /* in the arena of the call */
    struct kp_bytes value;
    int64_t mod_revision; /* 0: no such key */
    int64_t create_revision;
    int64_t lease;
};
/* All calls below: any thread but the loop's; they wait. Reads are linearizable. Errors: KP_EUNAVAILABLE, KP_ETIMEOUT, KP_EINTERNAL. */
int store_get(struct store *store, const char *key, struct kp_arena *arena, struct store_kv *ret_kv, int64_t *ret_revision,
              struct kp_error *error) KP_NODISCARD;
struct store_page {
    struct store_kv *items;
    size_t len;
    bool more;
    int64_t count;    /* keys in the whole range */
    int64_t revision; /* of the store when read */
};
/* Keys in [start, end) in order. revision 0: now; compacted away: KP_EEXPIRED. limit 0: all. */
int store_list(struct store *store, const char *start, const char *end, int64_t limit, int64_t revision, struct kp_arena *arena,
               struct store_page *ret_page, struct kp_error *error) KP_NODISCARD;
/* The end of the range of all keys that begin with prefix. */
const char *store_prefix_end(const char *prefix, struct kp_arena *arena);
/* The store's revision now. */
int store_revision(struct store *store, int64_t *ret_revision, struct kp_error *error) KP_NODISCARD;

#define STORE_ANY (-1) /* expect: whatever is there */
struct store_op {
    const char *key;
    int64_t expect;    /* the key's mod_revision; 0: must be absent; STORE_ANY */
    const void *value; /* NULL: delete, or with check_only nothing */
    size_t len;
    int64_t lease;
    bool check_only;
};
/* All or nothing. KP_ECONFLICT when an expectation fails: ret_current (count entries, may be NULL) then tells what is there. */
int store_commit(struct store *store, const struct store_op *ops, size_t count, struct kp_arena *arena, int64_t *ret_revision,
                 struct store_kv *ret_current, struct kp_error *error) KP_NODISCARD;
/* A lease of at least ttl_s seconds, shared by what is written within the same minute. */
int store_lease(struct store *store, int64_t ttl_s, int64_t *ret_lease, struct kp_error *error) KP_NODISCARD;
/* One of exactly ttl_s seconds (or the store's least), for this caller alone. */
int store_lease_own(struct store *store, int64_t ttl_s, int64_t *ret_lease, struct kp_error *error) KP_NODISCARD;
int store_compact(struct store *store, int64_t revision, struct kp_error *error) KP_NODISCARD;

struct store_event {
    bool deleted;
    struct store_kv kv; /* deleted: key and mod_revision alone */
};
struct store_watch;
struct store_watch_callbacks {
    /* On the loop's thread, in order; everything borrowed for the call. All events of a revision come in one call.
       revision: everything up to it has been told. count 0: a progress notification. */
    void (*on_events)(void *arg, const struct store_event *events, size_t count, int64_t revision);
    /* On the loop's thread, exactly once, last: KP_EEXPIRED when from_revision was compacted away. Not after store_watch_free. */
    void (*on_end)(void *arg, const struct kp_error *error);
};
/* Any thread. Events of keys with the prefix from from_revision on. */
struct store_watch *store_watch_start(struct store *store, const char *prefix, int64_t from_revision,
                                      const struct store_watch_callbacks *callbacks, void *arg);
/* Any thread. Asks for a progress notification soon. */
void store_watch_progress(struct store_watch *watch);
void store_watch_free(struct store_watch *watch); /* the loop's thread or any other; accepts NULL */

#endif
