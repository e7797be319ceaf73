/* Alarms: conditions that stop writes until an administrator clears them. */
#include "controlplane/etcd/server/server_internal.h"

#define ALARM_KEY_LEN 12

static void alarm_key(uint8_t out[ALARM_KEY_LEN], uint64_t member_id, int type)
{
    memcpy(out, &member_id, 8);
    int32_t t = type;
    memcpy(out + 8, &t, 4);
}

static void refresh(struct alarms *alarms)
{
    bool no_space = false, corrupt = false;
    for (size_t i = 0; i < alarms->len; i++) {
        no_space |= alarms->items[i].type == ETCDSERVERPB__ALARM_TYPE__NOSPACE;
        corrupt |= alarms->items[i].type == ETCDSERVERPB__ALARM_TYPE__CORRUPT;
    }
    atomic_store(&alarms->no_space, no_space);
    atomic_store(&alarms->corrupt, corrupt);
}

static bool load_one(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct alarms *alarms = ctx;
    if (key.len != ALARM_KEY_LEN)
        return true;
    struct alarm_entry entry;
    int32_t type;
    memcpy(&entry.member_id, key.data, 8);
    memcpy(&type, key.data + 8, 4);
    entry.type = type;
    alarms->items = kp_realloc(alarms->items, (alarms->len + 1) * sizeof *alarms->items);
    alarms->items[alarms->len++] = entry;
    return true;
}

int alarms_load(struct backend *backend, struct alarms *alarms, struct kp_error *error)
{
    pthread_mutex_init(&alarms->mutex, NULL);
    return alarms_reload(backend, alarms, error);
}

int alarms_reload(struct backend *backend, struct alarms *alarms, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    if (backend_reader_begin(backend, &reader, error) < 0)
        return kp_wrap(error, "alarms");
    pthread_mutex_lock(&alarms->mutex);
    alarms->len = 0;
    int rc = backend_reader_each(reader, BACKEND_ALARM, load_one, alarms, error);
    refresh(alarms);
    pthread_mutex_unlock(&alarms->mutex);
    return rc < 0 ? kp_wrap(error, "alarms") : 0;
}

bool alarms_change(struct backend *backend, struct alarms *alarms, uint64_t member_id, int type, bool raise)
{
    uint8_t key[ALARM_KEY_LEN];
    alarm_key(key, member_id, type);
    pthread_mutex_lock(&alarms->mutex);
    size_t at = 0;
    while (at < alarms->len && (alarms->items[at].member_id != member_id || alarms->items[at].type != type))
        at++;
    bool found = at < alarms->len;
    if (raise && !found) {
        alarms->items = kp_realloc(alarms->items, (alarms->len + 1) * sizeof *alarms->items);
        alarms->items[alarms->len++] = (struct alarm_entry){.member_id = member_id, .type = type};
        backend_put(backend, BACKEND_ALARM, key, sizeof key, NULL, 0);
    } else if (!raise && found) {
        alarms->items[at] = alarms->items[--alarms->len];
        backend_delete(backend, BACKEND_ALARM, key, sizeof key);
    }
    refresh(alarms);
    pthread_mutex_unlock(&alarms->mutex);
    return raise || found;
}

struct encoding {
    struct kp_buf *out;
    unsigned field;
    int type;
};

static void encode_one(void *ctx, uint64_t member_id, int type)
{
    struct encoding *e = ctx;
    if (e->type && e->type != type)
        return;
    size_t begin = encode_begin(e->out, e->field);
    encode_number(e->out, 1, (int64_t)member_id);
    encode_number(e->out, 2, type);
    encode_end(e->out, begin);
}

void alarms_encode(struct alarms *alarms, struct kp_buf *out, unsigned field, int type)
{
    struct encoding e = {.out = out, .field = field, .type = type};
    alarms_each(alarms, encode_one, &e);
}

void alarms_each(struct alarms *alarms, void (*fn)(void *ctx, uint64_t member_id, int type), void *ctx)
{
    pthread_mutex_lock(&alarms->mutex);
    for (size_t i = 0; i < alarms->len; i++)
        fn(ctx, alarms->items[i].member_id, alarms->items[i].type);
    pthread_mutex_unlock(&alarms->mutex);
}

void alarms_done(struct alarms *alarms)
{
    free(alarms->items);
    alarms->items = NULL;
    alarms->len = 0;
}
