/* Configurations as values: sets of ids, and what a change makes of a configuration (thesis 4.1 and 4.3). */
#include "controlplane/etcd/raft/bytes_internal.h"
#include "controlplane/etcd/raft/raft_internal.h"

#define CHANGE_VERSION 1
#define CONF_VERSION 1

bool raft_id_set_has(const struct raft_id_set *set, uint64_t id)
{
    for (size_t i = 0; i < set->len; i++)
        if (set->ids[i] == id)
            return true;
    return false;
}

bool raft_id_set_add(struct raft_id_set *set, uint64_t id)
{
    if (raft_id_set_has(set, id))
        return false;
    KP_ASSERT(id != 0 && set->len < RAFT_MEMBERS_MAX);
    size_t at = set->len++;
    for (; at > 0 && set->ids[at - 1] > id; at--)
        set->ids[at] = set->ids[at - 1];
    set->ids[at] = id;
    return true;
}

bool raft_id_set_remove(struct raft_id_set *set, uint64_t id)
{
    for (size_t i = 0; i < set->len; i++) {
        if (set->ids[i] != id)
            continue;
        memmove(&set->ids[i], &set->ids[i + 1], (set->len - i - 1) * sizeof(set->ids[0]));
        set->len--;
        return true;
    }
    return false;
}

static bool id_set_equal(const struct raft_id_set *a, const struct raft_id_set *b)
{
    return a->len == b->len && memcmp(a->ids, b->ids, a->len * sizeof(a->ids[0])) == 0;
}

bool raft_conf_is_joint(const struct raft_conf_state *conf) { return conf->voters_outgoing.len > 0; }

bool raft_conf_votes(const struct raft_conf_state *conf, uint64_t id)
{
    return raft_id_set_has(&conf->voters, id) || raft_id_set_has(&conf->voters_outgoing, id);
}

bool raft_conf_has(const struct raft_conf_state *conf, uint64_t id)
{
    return raft_conf_votes(conf, id) || raft_id_set_has(&conf->learners, id) ||
           raft_id_set_has(&conf->learners_next, id);
}

bool raft_conf_equal(const struct raft_conf_state *a, const struct raft_conf_state *b)
{
    return id_set_equal(&a->voters, &b->voters) && id_set_equal(&a->voters_outgoing, &b->voters_outgoing) &&
           id_set_equal(&a->learners, &b->learners) && id_set_equal(&a->learners_next, &b->learners_next) &&
           a->auto_leave == b->auto_leave;
}

static size_t conf_size(const struct raft_conf_state *conf)
{
    struct raft_id_set all = conf->voters;
    const struct raft_id_set *rest[] = {&conf->voters_outgoing, &conf->learners, &conf->learners_next};
    size_t size = all.len;
    for (size_t r = 0; r < KP_ARRAY_LEN(rest); r++)
        for (size_t i = 0; i < rest[r]->len; i++) {
            bool seen = raft_id_set_has(&conf->voters, rest[r]->ids[i]);
            for (size_t before = 0; before < r && !seen; before++)
                seen = raft_id_set_has(rest[before], rest[r]->ids[i]);
            size += seen ? 0 : 1;
        }
    return size;
}

static void conf_add_voter(struct raft_conf_state *conf, uint64_t id)
{
    raft_id_set_remove(&conf->learners, id);
    raft_id_set_remove(&conf->learners_next, id);
    raft_id_set_add(&conf->voters, id);
}

static void conf_add_learner(struct raft_conf_state *conf, uint64_t id)
{
    raft_id_set_remove(&conf->voters, id);
    /* A voter of the outgoing half can't be a learner at once: that waits until the joint configuration is left. */
    if (raft_id_set_has(&conf->voters_outgoing, id))
        raft_id_set_add(&conf->learners_next, id);
    else
        raft_id_set_add(&conf->learners, id);
}

static void conf_remove(struct raft_conf_state *conf, uint64_t id)
{
    raft_id_set_remove(&conf->voters, id);
    raft_id_set_remove(&conf->learners, id);
    raft_id_set_remove(&conf->learners_next, id);
}

static int conf_apply_each(struct raft_conf_state *conf, const struct raft_conf_change *change, struct kp_error *error)
{
    for (size_t i = 0; i < change->len; i++) {
        uint64_t id = change->changes[i].id;
        enum raft_change_type type = change->changes[i].type;
        if (id == 0)
            return kp_fail(error, KP_EINVALID, "membership change: 0 is no member id");
        if (type != RAFT_REMOVE && !raft_conf_has(conf, id) && conf_size(conf) >= RAFT_MEMBERS_MAX)
            return kp_fail(error, KP_EINVALID, "membership change: more than %d members", RAFT_MEMBERS_MAX);
        switch (type) {
        case RAFT_ADD_VOTER:
            conf_add_voter(conf, id);
            break;
        case RAFT_ADD_LEARNER:
            conf_add_learner(conf, id);
            break;
        case RAFT_REMOVE:
            conf_remove(conf, id);
            break;
        default:
            return kp_fail(error, KP_EINVALID, "membership change: unknown type %d", (int)type);
        }
    }
    if (conf->voters.len == 0)
        return kp_fail(error, KP_EINVALID, "membership change: no voter would be left");
    return 0;
}

static size_t voters_changed(const struct raft_id_set *a, const struct raft_id_set *b)
{
    size_t changed = 0;
    for (size_t i = 0; i < a->len; i++)
        changed += !raft_id_set_has(b, a->ids[i]);
    for (size_t i = 0; i < b->len; i++)
        changed += !raft_id_set_has(a, b->ids[i]);
    return changed;
}

static int conf_leave_joint(struct raft_conf_state *conf, struct kp_error *error)
{
    if (!raft_conf_is_joint(conf))
        return kp_fail(error, KP_EINVALID, "membership change: not in a joint configuration, nothing to leave");
    for (size_t i = 0; i < conf->learners_next.len; i++)
        raft_id_set_add(&conf->learners, conf->learners_next.ids[i]);
    conf->learners_next.len = 0;
    conf->voters_outgoing.len = 0;
    conf->auto_leave = false;
    return 0;
}

int raft_conf_apply(const struct raft_conf_state *conf, const struct raft_conf_change *change,
                    struct raft_conf_state *ret, struct kp_error *error)
{
    struct raft_conf_state next = *conf;
    int code;
    if (change->len == 0) {
        code = conf_leave_joint(&next, error);
    } else if (raft_conf_is_joint(conf)) {
        code = kp_fail(error, KP_EINVALID, "membership change: already in a joint configuration");
    } else if (change->transition == RAFT_TRANSITION_AUTO && change->len == 1) {
        code = conf_apply_each(&next, change, error);
        /* One voter at a time keeps any two majorities overlapping (thesis 4.1). */
        KP_ASSERT(code < 0 || voters_changed(&conf->voters, &next.voters) <= 1);
    } else if (conf->voters.len == 0) {
        code = kp_fail(error, KP_EINVALID, "membership change: no voters to form a joint configuration with");
    } else {
        next.voters_outgoing = next.voters;
        next.auto_leave = change->transition != RAFT_TRANSITION_EXPLICIT;
        code = conf_apply_each(&next, change, error);
    }
    if (code == 0)
        *ret = next;
    return code;
}

struct kp_blob *raft_conf_change_encode(const struct raft_conf_change *change)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    put_u8(&out, CHANGE_VERSION);
    put_u8(&out, (uint8_t)change->transition);
    put_u8(&out, (uint8_t)change->len);
    for (size_t i = 0; i < change->len; i++) {
        put_u8(&out, (uint8_t)change->changes[i].type);
        put_u64(&out, change->changes[i].id);
    }
    put_u32(&out, (uint32_t)change->context.len);
    if (change->context.len)
        kp_buf_append(&out, change->context.data, change->context.len);
    return kp_blob_new(out.data, out.len);
}

int raft_conf_change_decode(const struct kp_blob *data, struct raft_conf_change *ret, struct kp_error *error)
{
    struct raft_conf_change change = {0};
    if (!data || data->len == 0) {
        *ret = change;
        return 0;
    }
    struct cursor in = {data->data, data->len, false};
    if (get_u8(&in) != CHANGE_VERSION)
        return kp_fail(error, KP_ECORRUPT, "membership change: unknown version %u", data->data[0]);
    uint8_t transition = get_u8(&in);
    size_t len = get_u8(&in);
    if (in.bad || transition > RAFT_TRANSITION_EXPLICIT || len > RAFT_MEMBERS_MAX)
        return kp_fail(error, KP_ECORRUPT, "membership change: transition %u with %zu changes", transition, len);
    change.transition = (enum raft_transition)transition;
    change.len = len;
    for (size_t i = 0; i < len; i++) {
        uint8_t type = get_u8(&in);
        change.changes[i].type = (enum raft_change_type)type;
        change.changes[i].id = get_u64(&in);
        if (change.changes[i].id == 0 || (type != RAFT_ADD_VOTER && type != RAFT_REMOVE && type != RAFT_ADD_LEARNER))
            in.bad = true;
    }
    change.context.len = get_u32(&in);
    change.context.data = get_bytes(&in, change.context.len);
    if (in.bad || in.left != 0)
        return kp_fail(error, KP_ECORRUPT, "membership change: malformed, %zu bytes", data->len);
    *ret = change;
    return 0;
}

static void put_id_set(struct kp_buf *out, const struct raft_id_set *set)
{
    put_u8(out, (uint8_t)set->len);
    for (size_t i = 0; i < set->len; i++)
        put_u64(out, set->ids[i]);
}

static void get_id_set(struct cursor *in, struct raft_id_set *set)
{
    size_t len = get_u8(in);
    if (len > RAFT_MEMBERS_MAX) {
        in->bad = true;
        return;
    }
    uint64_t last = 0;
    for (size_t i = 0; i < len && !in->bad; i++) {
        uint64_t id = get_u64(in);
        if (id <= last) /* sorted, unique, not 0 */
            in->bad = true;
        last = set->ids[set->len++] = id;
    }
}

void raft_conf_state_encode(struct kp_buf *out, const struct raft_conf_state *conf)
{
    put_u8(out, CONF_VERSION);
    put_id_set(out, &conf->voters);
    put_id_set(out, &conf->voters_outgoing);
    put_id_set(out, &conf->learners);
    put_id_set(out, &conf->learners_next);
    put_u8(out, conf->auto_leave);
}

int raft_conf_state_decode(const void *data, size_t len, struct raft_conf_state *ret, struct kp_error *error)
{
    struct raft_conf_state conf = {0};
    struct cursor in = {data, len, false};
    if (get_u8(&in) != CONF_VERSION)
        in.bad = true;
    get_id_set(&in, &conf.voters);
    get_id_set(&in, &conf.voters_outgoing);
    get_id_set(&in, &conf.learners);
    get_id_set(&in, &conf.learners_next);
    conf.auto_leave = get_bool(&in);
    if (in.bad || in.left != 0 || conf_size(&conf) > RAFT_MEMBERS_MAX)
        return kp_fail(error, KP_ECORRUPT, "configuration: malformed, %zu bytes", len);
    *ret = conf;
    return 0;
}
