/* What an operator does: membership, leadership, maintenance, and replacing what cannot come back. */
#include "tests/sim/world.h"

#define SETTLE_S 10 /* after this a change that was asked for either happened or never will */

/* One change of the membership at a time, as operators should. */
struct change {
    enum op_kind kind;
    struct sim_member *about;
    char url[32];
    char *urls[1];
    Etcdserverpb__Member member;
    struct op op;
    enum etcd_err err;
    bool done;
};
static struct change *asked; /* NULL: none under way */
static int64_t asked_ns;

/* ---- what the leader's table says ---- */

static const struct member *find(struct etcd_server *server, const struct sim_member *m)
{
    for (size_t i = 0; i < server->members.len; i++)
        if (server->members.items[i].peer_urls.len && kp_streq(server->members.items[i].peer_urls.items[0], m->url))
            return &server->members.items[i];
    return NULL;
}

static struct sim_member *by_url(const char *url)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (kp_streq(world.members[i].url, url))
            return &world.members[i];
    return NULL;
}

static size_t count_of(struct etcd_server *server, bool learners)
{
    size_t count = 0;
    for (size_t i = 0; i < server->members.len; i++)
        count += server->members.items[i].learner == learners;
    return count;
}

/* What a new member is started with: everybody, by the names that they have or will have. */
static void set_cluster(struct etcd_server *server, struct sim_member *joins)
{
    char text[512] = "";
    for (size_t i = 0; i < server->members.len; i++) {
        struct sim_member *m = by_url(server->members.items[i].peer_urls.items[0]);
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%s=%s", len ? "," : "", m->name, m->url);
    }
    member_set_cluster(joins, text);
}

void operator_refresh(struct sim_member *member)
{
    struct sim_member *leader = member_leader();
    if (leader && find(leader->server, member))
        set_cluster(leader->server, member);
}

static void gone(void *arg, uint64_t tag)
{
    struct sim_member *m = arg;
    if (member_is_up(m))
        member_crash(m, DISK_KILL, "removed");
    m->state = MEMBER_GONE;
}

static void take_out(struct sim_member *m, bool at_once)
{
    if (m->removed)
        return;
    m->removed = true;
    counters.members_removed++;
    if (at_once || !member_is_up(m))
        gone(m, 0);
    else /* it may live on for a while and not know */
        event_in(rng_between(&world.random, 10, 4000) * SIM_MS, gone, m, 0);
}

void operator_hears_removed(struct sim_member *member)
{
    struct sim_member *leader = member_leader();
    if (leader && leader->server->node.term_applied && find(leader->server, member) && !asked)
        sim_fail("refusal", "%s says that it was removed, and it is in the table of %s", member->name, leader->name);
    take_out(member, true);
}

/* ---- changes ---- */

static void changed(void *arg, uint64_t tag)
{
    struct change *c = arg;
    if (asked == c)
        asked = NULL;
    struct sim_member *leader = member_leader();
    if (c->err != ETCD_OK || !leader || !find(leader->server, c->about)) {
        if (c->err == ETCD_OK && c->kind == OP_MEMBER_REMOVE)
            take_out(c->about, false);
        return;
    }
    if (c->kind == OP_MEMBER_PROMOTE) {
        counters.promotions++;
        return;
    }
    if (c->kind != OP_MEMBER_ADD || c->about->incarnation || c->about->state == MEMBER_GONE)
        return;
    counters.members_added += !c->member.islearner;
    counters.learners_added += c->member.islearner;
    set_cluster(leader->server, c->about);
    c->about->waits = false;
    member_restart_in(c->about, rng_between(&world.random, 1, 2000) * SIM_MS);
}

static void change_done(struct op *op)
{
    struct cage_owner *owner = cage_leave();
    struct change *c = op->ctx;
    c->err = op->err;
    sim_trace("operator: change %d of %s: %s", (int)c->kind, c->about->name, op->err ? etcd_err_info(op->err)->text : "done");
    op_done(op);
    event_in(SIM_MS, changed, c, 0);
    if (owner)
        cage_enter(owner);
}

static void propose(void *arg)
{
    struct change *c = arg;
    struct etcd_server *server = member_leader()->server;
    c->err = cluster_check_change(server, c->kind, &c->member);
    if (c->err != ETCD_OK)
        return;
    op_init(server, &c->op, c->kind, &c->member.base);
    c->op.done = change_done;
    c->op.ctx = c;
    op_propose(server, &c->op);
}

static void ask(enum op_kind kind, struct sim_member *about, bool learner)
{
    struct sim_member *leader = member_leader();
    struct change *c = kp_calloc(1, sizeof *c);
    c->kind = kind;
    c->about = about;
    c->urls[0] = about->url;
    etcdserverpb__member__init(&c->member);
    if (kind == OP_MEMBER_ADD) {
        char salt[24];
        snprintf(salt, sizeof salt, "%lld", (long long)sim_now_ns);
        about->id = c->member.id = member_id_of_urls(c->urls, 1, salt);
        c->member.peerurls = c->urls;
        c->member.n_peerurls = 1;
        c->member.islearner = learner;
    } else {
        c->member.id = find(leader->server, about)->id;
    }
    asked = c;
    asked_ns = sim_now_ns;
    sim_trace("operator: asks %s for change %d of %s", leader->name, (int)kind, about->name);
    if (!member_call(leader, propose, c)) {
        asked = NULL;
    } else if (c->err != ETCD_OK) {
        sim_trace("operator: refused: %s", etcd_err_info(c->err)->text);
        asked = NULL;
        if (kind == OP_MEMBER_ADD)
            about->state = MEMBER_GONE; /* it never was */
    } else {
        member_turn_in(leader, 1);
    }
}

static void add(bool learner)
{
    if (world.members_len >= MEMBERS_MAX)
        return;
    struct sim_member *m = member_new(true);
    m->waits = true;
    ask(OP_MEMBER_ADD, m, learner);
}

static bool may_change(void)
{
    if (asked && sim_now_ns - asked_ns > SETTLE_S * SIM_S)
        asked = NULL;
    struct sim_member *leader = member_leader();
    return leader && !asked && sim_now_ns >= leader->busy_until_ns;
}

static struct sim_member *random_of(struct etcd_server *server, bool learner)
{
    struct sim_member *found[MEMBERS_MAX];
    size_t len = 0;
    for (size_t i = 0; i < server->members.len; i++)
        if (server->members.items[i].learner == learner)
            found[len++] = by_url(server->members.items[i].peer_urls.items[0]);
    return len ? found[rng_below(&world.random, len)] : NULL;
}

static bool damaged_in(struct etcd_server *server, struct sim_member **ret)
{
    for (size_t i = 0; i < world.members_len; i++)
        if ((world.members[i].refused || world.members[i].rot_is_due || world.members[i].owner.rotten) &&
            find(server, &world.members[i])) {
            *ret = &world.members[i];
            return true;
        }
    return false;
}

/* A voter that was added and never came up, or NULL. Without the strict check nothing keeps an operator from removing those
   that are up until such a one is needed for the quorum; then nobody can ever change anything again, in etcd neither. */
static struct sim_member *never_up(struct etcd_server *server)
{
    for (size_t i = 0; i < server->members.len; i++) {
        struct sim_member *m = by_url(server->members.items[i].peer_urls.items[0]);
        if (!server->members.items[i].learner && m && !m->began)
            return m;
    }
    return NULL;
}

void operator_change(void)
{
    struct sim_member *damaged;
    if (!may_change())
        return;
    struct etcd_server *server = member_leader()->server;
    if (damaged_in(server, &damaged)) { /* first things first: another one less could be the quorum */
        if (damaged->refused)
            ask(OP_MEMBER_REMOVE, damaged, false);
        return;
    }
    size_t voters = count_of(server, false), learners = count_of(server, true);
    struct sim_member *learner = random_of(server, true), *voter = random_of(server, false);
    switch (rng_below(&world.random, 4)) {
    case 0:
        if (voters < VOTERS_MAX)
            add(!learners);
        return;
    case 1:
        if (voters < VOTERS_MAX && rng_below(&world.random, 3) == 0)
            add(false);
        return;
    case 2:
        if (learner && rng_below(&world.random, 4))
            ask(OP_MEMBER_PROMOTE, learner, false);
        else if (learner)
            ask(OP_MEMBER_REMOVE, learner, false);
        return;
    default:
        if (never_up(server)) {
            if (rng_below(&world.random, 3) == 0)
                ask(OP_MEMBER_REMOVE, never_up(server), false);
            return;
        }
        if (voters > 3 || (voters > 1 && rng_below(&world.random, 3) == 0))
            ask(OP_MEMBER_REMOVE, voter, false);
    }
}

/* ---- leadership and maintenance ---- */

struct transfer {
    struct node_call call;
    struct etcd_server *server;
    uint64_t to;
};

static void do_transfer(struct etcd_server *server, struct node_call *call)
{
    struct kp_error error = {0};
    if (raft_transfer_leader(server->node.raft, KP_CONTAINER_OF(call, struct transfer, call)->to, &error) < 0)
        return; /* it leads no more, or that one may not lead */
}

static void ask_transfer(void *arg)
{
    struct transfer *t = arg;
    node_run(t->server, &t->call);
}

void operator_transfer(void)
{
    struct sim_member *leader = member_leader();
    struct sim_member *to = leader ? random_of(leader->server, false) : NULL;
    if (!to || to == leader)
        return;
    counters.leader_transfers++;
    struct transfer *t = kp_calloc(1, sizeof *t);
    *t = (struct transfer){.call = {.fn = do_transfer}, .server = leader->server, .to = to->id};
    sim_trace("operator: %s is to hand over to %s", leader->name, to->name);
    if (member_call(leader, ask_transfer, t))
        member_turn_in(leader, 1);
}

static void defragment(void *arg)
{
    struct kp_error error = {0};
    struct sim_member *m = arg;
    if (backend_defragment(m->server->backend, &error) < 0 && !m->owner.excused && !m->owner.rotten)
        sim_fail("refusal", "%s cannot be defragmented: %s", m->name, error.message);
}

void operator_maintain(void)
{
    struct sim_member *m = &world.members[rng_below(&world.random, world.members_len)];
    if (!member_is_up(m) || sim_now_ns < m->busy_until_ns)
        return;
    counters.defragments++;
    member_call(m, defragment, m);
}

/* ---- making it whole ---- */

bool operator_may_rot(void)
{
    struct sim_member *leader = member_leader();
    if (!leader || asked || count_of(leader->server, false) < 3)
        return false;
    for (size_t i = 0; i < world.members_len; i++)
        if (find(leader->server, &world.members[i]) && !member_is_up(&world.members[i]))
            return false;
    return true;
}

/* An addition of which nobody knows whether it happened may have made the newcomer's vote needed. */
static void start_those_that_wait(void)
{
    for (size_t i = 0; i < world.members_len; i++)
        for (size_t j = 0; j < world.members_len; j++) {
            struct sim_member *m = &world.members[i], *other = &world.members[j];
            if (!m->waits || !member_is_up(other) || !find(other->server, m))
                continue;
            m->waits = false;
            set_cluster(other->server, m);
            member_restart_in(m, SIM_MS);
        }
}

/* The table of a leader that all follow is the truth once everything asked for has settled. */
bool operator_heal(void)
{
    static int64_t since_ns;
    since_ns = since_ns ? since_ns : sim_now_ns;
    struct sim_member *leader = member_leader();
    if (!leader && sim_now_ns - since_ns > SETTLE_S * SIM_S)
        start_those_that_wait();
    if (!leader || sim_now_ns - since_ns < SETTLE_S * SIM_S || !may_change())
        return false;
    struct etcd_server *server = leader->server;
    bool whole = true;
    for (size_t i = 0; i < world.members_len; i++) {
        struct sim_member *m = &world.members[i];
        bool listed = find(server, m) != NULL;
        if (m->state == MEMBER_GONE && !listed)
            continue;
        if (!listed) {
            take_out(m, true);
        } else if (m->refused || m->state == MEMBER_GONE) {
            ask(OP_MEMBER_REMOVE, m, false);
            if (m->refused && !m->replaced) {
                m->replaced = true;
                counters.replaced++;
            }
            return false;
        } else if (m->waits) {
            m->waits = false;
            set_cluster(server, m);
            member_restart_in(m, SIM_MS);
            return false;
        }
        whole &= !listed || member_is_up(m);
    }
    if (whole && count_of(server, false) + count_of(server, true) < world.plan.members && world.members_len < MEMBERS_MAX) {
        add(false);
        return false;
    }
    return whole;
}
