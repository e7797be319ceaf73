/* The simulated world: members, their network, their clients, and what happens when. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "controlplane/etcd/server/server_internal.h"
#include "controlplane/etcd/server/step.h"
#include "tests/check/history.h"
#include "tests/sim/disk.h"
#include "tests/sim/plant.h"
#include "tests/sim/sim.h"

#define MEMBERS_MAX 24 /* that ever were in a run */
#define VOTERS_MAX 7   /* at once */
#define CLIENTS_MAX 12
#define WATCHERS_MAX 8
#define HEARTBEAT_MS 100
#define ELECTION_MS 1000

/* ---- events ---- */
struct sim_member;
struct event {
    int64_t at_ns;
    uint64_t number; /* breaks ties: first come, first served */
    void (*fn)(void *arg, uint64_t tag);
    void *arg;
    uint64_t tag;
};
void event_at(int64_t at_ns, void (*fn)(void *arg, uint64_t tag), void *arg, uint64_t tag);
void event_in(int64_t delay_ns, void (*fn)(void *arg, uint64_t tag), void *arg, uint64_t tag);
/* Runs what is due until the time; false when there is nothing left. */
bool events_run(int64_t until_ns);

/* ---- members ---- */
enum member_state { MEMBER_DOWN, MEMBER_UP, MEMBER_GONE };
struct sim_member {
    size_t slot;
    char name[8], url[32], client_url[32], data_dir[64], initial_cluster[512];
    bool joins; /* starts into an existing cluster */
    enum member_state state;
    struct cage_owner owner;
    struct disk *disk;
    struct etcd_config config;
    struct etcd_world hooks;
    struct etcd_server *server; /* NULL: down */
    uint64_t id;                /* of raft; 0: not known yet */
    uint64_t incarnation;       /* grows with every start */
    int64_t turn_at_ns;         /* of the turn that is scheduled; 0: none */
    int64_t busy_until_ns;      /* its disk is slow, or it is paused */
    bool began;                 /* it was up once */
    bool waits;                 /* it is to be added, and starts when it is */
    bool removed;               /* an operator took it out of the cluster */
    bool replaced;              /* for its damage */
    bool refused;               /* does not start: it says that its disk is damaged */
    bool rot_is_due;            /* a bit is to flip before it starts again */
    unsigned failed_starts;
    struct inside *inside;      /* what the checks know of it */
};

/* ---- the run ---- */
struct world {
    uint64_t seed;
    struct rng random;
    struct sim_member members[MEMBERS_MAX];
    size_t members_len;
    bool cut[MEMBERS_MAX][MEMBERS_MAX]; /* [from][to] */
    struct {
        unsigned loss_per_mille, double_per_mille, reorder_per_mille;
        int64_t delay_ms_min, delay_ms_max;
    } net;
    bool healing;      /* no more faults */
    int64_t end_ns;    /* of the faulty part */
    struct history *history;
    struct plan {
        unsigned members;           /* at the start */
        unsigned clients, watchers, keys;
        unsigned crash_weight, power_weight, partition_weight, pause_weight, disk_weight, rot_weight, member_weight,
            clock_weight, transfer_weight, maintenance_weight;
        int64_t fault_interval_ms;
        int64_t snapshot_count, batch_interval_ms;
        unsigned assassin;          /* per mille of new leaders that crash within a few calls */
        int64_t down_ms_max;        /* how long a crashed member stays down */
        size_t message_bytes;       /* of entries in one message of raft; 0: its default */
        uint64_t catch_up; /* entries kept in memory behind a snapshot */
        size_t segment_bytes;
        bool strict_reconfig;
    } plan;
};
extern struct world world;

/* member.c */
struct sim_member *member_new(bool joins);
/* What a start is told of the cluster: "m0=http://...,m1=http://...". */
void member_set_cluster(struct sim_member *member, const char *initial_cluster);
void member_start(struct sim_member *member);
void member_crash(struct sim_member *member, enum disk_crash how, const char *why);
/* Calls code of the member; false: it crashed or died in it, and is down. */
bool member_call(struct sim_member *member, void (*fn)(void *arg), void *arg);
void member_turn_in(struct sim_member *member, int64_t delay_ns);
struct sim_member *member_by_id(uint64_t id);
struct sim_member *member_by_server(const struct etcd_server *server);
struct sim_member *member_leader(void); /* the one of the highest term that says so; NULL */
bool member_is_up(const struct sim_member *member);
int64_t member_mono_ms(const struct sim_member *member);
void member_restart_in(struct sim_member *member, int64_t delay_ns);

/* net.c */
void net_send(void *ctx, struct etcd_server *server, struct raft_message *message);
void net_send_snapshot(void *ctx, struct etcd_server *server, struct raft_message *message, const char *path);
/* What a member asks of others before it has a log, and of its leader. */
int net_get(void *ctx, const char *urls, const char *path, struct kp_buf *ret_body, uint64_t *ret_cluster_id,
            struct kp_error *error);
int net_ask(void *ctx, struct etcd_server *server, uint64_t to, const char *what, struct kp_bytes question,
            struct kp_buf *ret_answer, struct kp_error *error);
void net_heal(void);

/* inside.c: raft's own promises, read from the members' real state */
void inside_started(struct sim_member *member);
void inside_check(struct sim_member *member);
void inside_message(const struct raft_message *message);
void inside_final(void);

/* clients.c, watchers.c */
void clients_start(void);
void clients_stop(void);
bool clients_idle(void);
void clients_member_down(struct sim_member *member);
void watchers_start(void);
void watchers_member_down(struct sim_member *member);
void watchers_finish(int64_t revision);
bool watchers_reached(int64_t revision);

/* operator.c: membership, leadership and maintenance, as someone with etcdctl would */
void operator_change(void);
bool operator_may_rot(void); /* the cluster can do without any one of its members */
void operator_transfer(void);
void operator_maintain(void);
/* A member that does not get into the cluster is told anew who that is. */
void operator_refresh(struct sim_member *member);
/* A member does not start because it is no member any more: so it must be. */
void operator_hears_removed(struct sim_member *member);
/* Replaces what cannot come back; true when the cluster is as it should be. */
bool operator_heal(void);

/* store.c: batches to the database alone, over crashes; sim_fail on what is lost, torn or invented */
void store_run(void);

/* nemesis.c */
void nemesis_start(void);
void nemesis_heal(void);
void plan_make(void);

#endif
