/* The driver for machines that exist already: its files' share. */
#ifndef CLOUD_EXTERNAL_INTERNAL_H
#define CLOUD_EXTERNAL_INTERNAL_H

#include <pthread.h>

#include "cloud/cloud.h"
#include "ssh/ssh.h"

#define EXTERNAL_HOME "/var/lib/kprov-node"
#define EXTERNAL_SCRIPT EXTERNAL_HOME "/node.sh"
#define EXTERNAL_CALL_MS 60000     /* of a verb of the script */
#define EXTERNAL_BUNDLE_MS 900000  /* of sending a root tree */
#define EXTERNAL_TAKEN 45          /* exit status of `claim` on a machine that somebody has */
#define EXTERNAL_IDLE_MAX 8        /* open connections kept of one machine */

struct external_machine {
    struct cloud_external_machine config; /* copied into the driver's arena */
    const char *known_hosts;              /* lines */
    const char *key_file;                 /* "~" resolved; NULL: the agent's keys */
    struct sshc *idle[EXTERNAL_IDLE_MAX];
    size_t n_idle;
};
struct external {
    struct kp_arena *arena;
    const char *image_dir, *cluster, *api_address;
    struct external_machine *machines;
    size_t n_machines;
    pthread_mutex_t lock;       /* of the idle connections */
    pthread_mutex_t bundle_lock; /* one maker of archives at a time */
};

/* ---- script.c */
extern const char external_script[]; /* node.sh */
size_t external_script_len(void);

/* ---- session.c */
int external_machine_prepare(struct external *external, const struct cloud_external_machine *config, struct external_machine *ret,
                             struct kp_error *error);
/* A connection, of those kept or a new one; give it back when the call went well, close it when not. */
int external_connect(struct external *external, struct external_machine *machine, struct sshc **ret_ssh, struct kp_error *error);
void external_give_back(struct external *external, struct external_machine *machine, struct sshc *ssh);
/* Runs a verb of the script. Its status, when ret_status is not NULL, else another than 0 is an error. */
int external_run(struct external *external, struct external_machine *machine, const char *const *words, struct kp_buf *out,
                 int *ret_status, struct kp_error *error);
const char *external_prefix(const struct external_machine *machine); /* "sudo -n ", or "" for root */
void external_close_idle(struct external *external);

/* ---- facts.c: pure */
/* The value of a key in lines of key=value; in the arena, "" when there is none. */
const char *external_value(const char *text, const char *key, struct kp_arena *arena);
struct external_wanted {
    const char *arch; /* of the node image: uname's */
    bool control_plane;
    int64_t now_s, clock_error_s; /* the laptop's clock, and how long the answer took */
};
/* One line for everything that stands in the way of a node, each with its remedy; none when it can be one. */
void external_check_facts(const char *facts, const struct external_wanted *wanted, struct kp_arena *arena, struct kp_strings *ret);

/* ---- bundle.c */
/* Brings a root tree of the image folder to the machine unless it is there: "base-..." or "node-...". */
int external_put_bundle(struct external *external, struct external_machine *machine, const char *id, const char *tree,
                        bool zstd, struct kp_error *error);

/* ---- node.c: one machine's node */
struct external_status {
    bool taken;
    const char *uid, *name, *role, *pool, *image, *address;
    int64_t created_s;
    int64_t pid; /* 0: off */
};
int external_status(struct external *external, struct external_machine *machine, struct kp_arena *arena,
                    struct external_status *ret, struct kp_error *error);
int external_check(struct external *external, struct external_machine *machine, bool control_plane, struct kp_arena *arena,
                   struct kp_strings *ret, struct kp_error *error);
int external_claim(struct external *external, struct external_machine *machine, const char *uid, const char *name,
                   const char *role, const char *pool, struct kp_error *error);
int external_install(struct external *external, struct external_machine *machine, const struct cloud_machine_spec *spec,
                     struct kp_arena *arena, struct kp_error *error);
/* Another image and another bootstrap config, or with at_next_boot only the config, from the next start on. */
int external_reimage(struct external *external, struct external_machine *machine, const struct cloud_machine_spec *spec,
                     struct kp_arena *arena, struct kp_error *error);
/* The trees of an image, beside those that are there, and the script of now. */
int external_put_image(struct external *external, struct external_machine *machine, const char *image, struct kp_arena *arena,
                       const char **ret_base, struct kp_error *error);
int external_exec(struct external *external, struct external_machine *machine, int64_t pid, const struct cloud_exec *exec,
                  int *ret_status, struct kp_error *error);

#endif
