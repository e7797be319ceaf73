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
static uint64_t member_id_of(struct member *member, const char *token)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    qsort(member->peer_urls.items, member->peer_urls.len, sizeof(char *), order_strings);
    for (size_t i = 0; i < member->peer_urls.len; i++)
        kp_buf_puts(&text, member->peer_urls.items[i]);
    kp_buf_puts(&text, token);
    uint8_t digest[TLS_SHA1_BYTES];
    tls_sha1(text.data, text.len, digest);
    return first_eight(digest);
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

static void encode_member(const struct member *member, struct kp_buf *out)
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
    encode_member(member, &record);
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

static bool load_one(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct loading *loading = ctx;
    Etcdserverpb__Member *record = etcdserverpb__member__unpack(NULL, value.len, value.data);
    if (!record) {
        loading->bad = true;
        return false;
    }
    struct member *member = members_add(loading->members);
    member->id = record->id;
    member->name = kp_strdup(record->name);
    member->learner = record->islearner;
    for (size_t i = 0; i < record->n_peerurls; i++)
        kp_strings_add(&member->peer_urls, record->peerurls[i]);
    for (size_t i = 0; i < record->n_clienturls; i++)
        kp_strings_add(&member->client_urls, record->clienturls[i]);
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
    if (members->len)
        qsort(members->items, members->len, sizeof *members->items, order_members);
    return 0;
}

void members_set_attributes(struct backend *backend, struct members *members, const Etcdserverpb__Member *attributes)
{
    pthread_mutex_lock(&members->mutex);
    for (size_t i = 0; i < members->len; i++) {
        struct member *member = &members->items[i];
        if (member->id != attributes->id)
            continue;
        free(member->name);
        member->name = kp_strdup(attributes->name);
        kp_strings_done(&member->client_urls);
        member->client_urls = (struct kp_strings){0};
        for (size_t u = 0; u < attributes->n_clienturls; u++)
            kp_strings_add(&member->client_urls, attributes->clienturls[u]);
        store_member(backend, member);
    }
    pthread_mutex_unlock(&members->mutex);
}

void members_encode(struct members *members, struct kp_buf *out, unsigned field)
{
    pthread_mutex_lock(&members->mutex);
    for (size_t i = 0; i < members->len; i++) {
        size_t begin = encode_begin(out, field);
        encode_member(&members->items[i], out);
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
    by->len = 0;
    pthread_mutex_unlock(&members->mutex);
}

void members_done(struct members *members)
{
    for (size_t i = 0; i < members->len; i++)
        member_done(&members->items[i]);
    free(members->items);
    members->items = NULL;
    members->len = 0;
}
