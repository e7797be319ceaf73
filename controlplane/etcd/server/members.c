/* Who belongs to the cluster: names and URLs by id, and the ids themselves. */
#include "controlplane/etcd/server/server_internal.h"

#include "tls/tls.h"

void split_urls(const char *list, struct kp_strings *out)
{
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ",");
        if (len) {
            KP_AUTO_FREE char *url = kp_strndup(p, len);
            kp_strings_add(out, url);
        }
        p += len + (p[len] == ',');
    }
}

static int order_strings(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int order_members(const void *a, const void *b)
{
    uint64_t x = ((const struct member *)a)->id, y = ((const struct member *)b)->id;
    return (x > y) - (x < y);
}

static uint64_t first_eight(const uint8_t digest[TLS_SHA1_BYTES])
{
    uint64_t id = 0;
    for (int i = 0; i < 8; i++)
        id = id << 8 | digest[i];
    return id;
}

/* SHA-1 over the sorted peer URLs and the cluster's token, as etcd makes ids. */
uint64_t member_id_of_urls(char *const *urls, size_t len, const char *token)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    char **sorted = kp_calloc(len + 1, sizeof(char *));
    for (size_t i = 0; i < len; i++)
        sorted[i] = urls[i];
    qsort(sorted, len, sizeof(char *), order_strings);
    for (size_t i = 0; i < len; i++)
        kp_buf_puts(&text, sorted[i]);
    free(sorted);
    kp_buf_puts(&text, token);
    uint8_t digest[TLS_SHA1_BYTES];
    tls_sha1(text.data, text.len, digest);
    return first_eight(digest);
}

static uint64_t member_id_of(struct member *member, const char *token)
{
    qsort(member->peer_urls.items, member->peer_urls.len, sizeof(char *), order_strings);
    return member_id_of_urls(member->peer_urls.items, member->peer_urls.len, token);
}

static void member_done(struct member *member)
{
    free(member->name);
    kp_strings_done(&member->peer_urls);
    kp_strings_done(&member->client_urls);
}

static struct member *members_add(struct members *members)
{
    members->items = kp_realloc(members->items, (members->len + 1) * sizeof *members->items);
    struct member *member = &members->items[members->len++];
    *member = (struct member){0};
    return member;
}

static struct member *find_by_name(struct members *members, const char *name, size_t len)
{
    for (size_t i = 0; i < members->len; i++)
        if (strlen(members->items[i].name) == len && memcmp(members->items[i].name, name, len) == 0)
            return &members->items[i];
    return NULL;
}

/* "a=http://x:1,b=http://y:1,a=http://x:2": a name may have several URLs. */
static int parse_initial_cluster(const char *text, struct members *members, struct kp_error *error)
{
    struct kp_strings parts = {0};
    split_urls(text, &parts);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < parts.len; i++) {
        const char *equals = strchr(parts.items[i], '=');
        if (!equals || equals == parts.items[i] || !equals[1]) {
            rc = kp_fail(error, KP_EUSAGE, "--initial-cluster: \"%s\" is not name=url", parts.items[i]);
            break;
        }
        size_t name_len = (size_t)(equals - parts.items[i]);
        struct member *member = find_by_name(members, parts.items[i], name_len);
        if (!member) {
            member = members_add(members);
            member->name = kp_strndup(parts.items[i], name_len);
        }
        kp_strings_add(&member->peer_urls, equals + 1);
    }
    if (rc == 0 && members->len == 0)
        rc = kp_fail(error, KP_EUSAGE, "--initial-cluster names no member");
    kp_strings_done(&parts);
    return rc;
}

int members_from_config(const struct etcd_config *config, struct members *members, uint64_t *ret_cluster_id,
                        uint64_t *ret_member_id, struct kp_error *error)
{
    int rc = parse_initial_cluster(config->initial_cluster, members, error);
    if (rc < 0)
        return rc;
    struct member *self = find_by_name(members, config->name, strlen(config->name));
    if (!self)
        return kp_fail(error, KP_EUSAGE, "couldn't find local name \"%s\" in the initial cluster configuration",
                       config->name);
    for (size_t i = 0; i < members->len; i++)
        members->items[i].id = member_id_of(&members->items[i], config->initial_cluster_token);
    *ret_member_id = self->id;
    qsort(members->items, members->len, sizeof *members->items, order_members);
    KP_AUTO_BUF struct kp_buf ids = {0};
    for (size_t i = 0; i < members->len; i++)
        for (int shift = 56; shift >= 0; shift -= 8)
            kp_buf_putc(&ids, (char)(members->items[i].id >> shift));
    uint8_t digest[TLS_SHA1_BYTES];
    tls_sha1(ids.data, ids.len, digest);
    *ret_cluster_id = first_eight(digest);
    /* Names are published by each member itself once it runs. */
    for (size_t i = 0; i < members->len; i++) {
        free(members->items[i].name);
        members->items[i].name = kp_strdup("");
    }
    return 0;
}

void member_encode(const struct member *member, struct kp_buf *out)
{
    encode_number(out, 1, (int64_t)member->id);
    encode_string(out, 2, member->name);
    for (size_t i = 0; i < member->peer_urls.len; i++)
        encode_message(out, 3, member->peer_urls.items[i], strlen(member->peer_urls.items[i]));
    for (size_t i = 0; i < member->client_urls.len; i++)
        encode_message(out, 4, member->client_urls.items[i], strlen(member->client_urls.items[i]));
    encode_number(out, 5, member->learner);
}

static void store_member(struct backend *backend, const struct member *member)
{
    KP_AUTO_BUF struct kp_buf record = {0};
    member_encode(member, &record);
    backend_put(backend, BACKEND_MEMBERS, &member->id, sizeof member->id, record.data, record.len);
}

void members_store(struct backend *backend, struct members *members)
{
    pthread_mutex_lock(&members->mutex);
    for (size_t i = 0; i < members->len; i++)
        store_member(backend, &members->items[i]);
    pthread_mutex_unlock(&members->mutex);
}

struct loading {
    struct members *members;
    bool bad;
};

void members_take(struct members *members, const Etcdserverpb__Member *record)
{
    struct member *member = members_add(members);
    member->id = record->id;
    member->name = kp_strdup(record->name);
    member->learner = record->islearner;
    for (size_t i = 0; i < record->n_peerurls; i++)
        kp_strings_add(&member->peer_urls, record->peerurls[i]);
    for (size_t i = 0; i < record->n_clienturls; i++)
        kp_strings_add(&member->client_urls, record->clienturls[i]);
}

static bool load_one(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct loading *loading = ctx;
    Etcdserverpb__Member *record = etcdserverpb__member__unpack(NULL, value.len, value.data);
    if (!record) {
        loading->bad = true;
        return false;
    }
    members_take(loading->members, record);
    etcdserverpb__member__free_unpacked(record, NULL);
    return true;
}

int members_load(struct backend *backend, struct members *members, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct loading loading = {.members = members};
    if (backend_reader_begin(backend, &reader, error) < 0 ||
        backend_reader_each(reader, BACKEND_MEMBERS, load_one, &loading, error) < 0)
        return kp_wrap(error, "members");
    if (loading.bad)
        return kp_fail(error, KP_ECORRUPT, "members: a record is unreadable");
    struct kp_bytes removed;
    struct kp_error missing = {0};
    int rc = backend_reader_get(reader, BACKEND_META, META_REMOVED, strlen(META_REMOVED), &removed, &missing);
    if (rc < 0 && rc != KP_ENOTFOUND)
        return kp_fail(error, rc, "removed members: %s", missing.message);
    if (rc == 0) {
        members->removed_len = removed.len / sizeof *members->removed;
        members->removed = kp_malloc(removed.len + 1);
        memcpy(members->removed, removed.data, members->removed_len * sizeof *members->removed);
    }
    if (members->len)
        qsort(members->items, members->len, sizeof *members->items, order_members);
    return 0;
}

/* ---- changes ---- */

static bool url_is_taken(const struct members *members, const Etcdserverpb__Member *change)
{
    for (size_t i = 0; i < members->len; i++)
        for (size_t u = 0; members->items[i].id != change->id && u < members->items[i].peer_urls.len; u++)
            for (size_t n = 0; n < change->n_peerurls; n++)
                if (kp_streq(members->items[i].peer_urls.items[u], change->peerurls[n]))
                    return true;
    return false;
}

static bool was_removed(const struct members *members, uint64_t id)
{
    for (size_t i = 0; i < members->removed_len; i++)
        if (members->removed[i] == id)
            return true;
    return false;
}

bool members_was_removed(struct members *members, uint64_t id)
{
    pthread_mutex_lock(&members->mutex);
    bool removed = was_removed(members, id);
    pthread_mutex_unlock(&members->mutex);
    return removed;
}

static size_t count_learners(const struct members *members)
{
    size_t len = 0;
    for (size_t i = 0; i < members->len; i++)
        len += members->items[i].learner;
    return len;
}

static enum etcd_err check_add(const struct members *members, const struct member *found,
                               const Etcdserverpb__Member *change)
{
    if (found || was_removed(members, change->id))
        return ETCD_MEMBER_EXISTS;
    if (url_is_taken(members, change))
        return ETCD_PEER_URL_EXISTS;
    if (change->islearner && count_learners(members) >= members->learners_max)
        return ETCD_TOO_MANY_LEARNERS;
    return members->len >= RAFT_MEMBERS_MAX ? ETCD_MEMBER_NOT_ENOUGH_STARTED : ETCD_OK;
}

enum etcd_err members_check(struct members *members, enum op_kind kind, const Etcdserverpb__Member *change)
{
    pthread_mutex_lock(&members->mutex);
    const struct member *found = members_find(members, change->id);
    enum etcd_err err = found ? ETCD_OK : ETCD_MEMBER_NOT_FOUND;
    if (kind == OP_MEMBER_ADD)
        err = check_add(members, found, change);
    else if (found && kind == OP_MEMBER_PROMOTE && !found->learner)
        err = ETCD_MEMBER_NOT_LEARNER;
    else if (found && kind == OP_MEMBER_UPDATE && url_is_taken(members, change))
        err = ETCD_PEER_URL_EXISTS;
    pthread_mutex_unlock(&members->mutex);
    return err;
}

static void copy_urls(struct kp_strings *out, char *const *urls, size_t len)
{
    kp_strings_done(out);
    *out = (struct kp_strings){0};
    for (size_t i = 0; i < len; i++)
        kp_strings_add(out, urls[i]);
}

static void remove_member(struct backend *backend, struct members *members, uint64_t id)
{
    for (size_t i = 0; i < members->len; i++)
        if (members->items[i].id == id) {
            member_done(&members->items[i]);
            memmove(&members->items[i], &members->items[i + 1], (--members->len - i) * sizeof *members->items);
            break;
        }
    backend_delete(backend, BACKEND_MEMBERS, &id, sizeof id);
    members->removed = kp_realloc(members->removed, (members->removed_len + 1) * sizeof *members->removed);
    members->removed[members->removed_len++] = id;
    backend_put(backend, BACKEND_META, META_REMOVED, strlen(META_REMOVED), members->removed,
                members->removed_len * sizeof *members->removed);
}

void members_change(struct backend *backend, struct members *members, enum op_kind kind,
                    const Etcdserverpb__Member *change)
{
    pthread_mutex_lock(&members->mutex);
    struct member *member = (struct member *)(uintptr_t)members_find(members, change->id);
    if (kind == OP_MEMBER_REMOVE) {
        remove_member(backend, members, change->id);
    } else if (kind == OP_MEMBER_ADD) {
        member = members_add(members);
        member->id = change->id;
        member->name = kp_strdup("");
        member->learner = change->islearner;
        copy_urls(&member->peer_urls, change->peerurls, change->n_peerurls);
        store_member(backend, member);
        qsort(members->items, members->len, sizeof *members->items, order_members);
    } else if (member) {
        if (kind == OP_MEMBER_PROMOTE)
            member->learner = false;
        if (kind == OP_MEMBER_UPDATE)
            copy_urls(&member->peer_urls, change->peerurls, change->n_peerurls);
        if (kind == OP_MEMBER_ATTRIBUTES) {
            free(member->name);
            member->name = kp_strdup(change->name);
            copy_urls(&member->client_urls, change->clienturls, change->n_clienturls);
        }
        store_member(backend, member);
    }
    pthread_mutex_unlock(&members->mutex);
}

void members_encode(struct members *members, struct kp_buf *out, unsigned field)
{
    pthread_mutex_lock(&members->mutex);
    for (size_t i = 0; i < members->len; i++) {
        size_t begin = encode_begin(out, field);
        member_encode(&members->items[i], out);
        encode_end(out, begin);
    }
    pthread_mutex_unlock(&members->mutex);
}

const struct member *members_find(const struct members *members, uint64_t id)
{
    for (size_t i = 0; i < members->len; i++)
        if (members->items[i].id == id)
            return &members->items[i];
    return NULL;
}

void members_replace(struct members *members, struct members *by)
{
    pthread_mutex_lock(&members->mutex);
    members_done(members);
    members->items = KP_TAKE(by->items);
    members->len = by->len;
    members->removed = KP_TAKE(by->removed);
    members->removed_len = by->removed_len;
    by->len = by->removed_len = 0;
    pthread_mutex_unlock(&members->mutex);
}

void members_done(struct members *members)
{
    for (size_t i = 0; i < members->len; i++)
        member_done(&members->items[i]);
    free(members->items);
    free(members->removed);
    members->items = NULL;
    members->removed = NULL;
    members->len = members->removed_len = 0;
}
