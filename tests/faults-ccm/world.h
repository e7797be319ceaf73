/* One cell's world: a cluster in the fake cloud, its Nodes and Services in a real API server, and the shipped controllers between them. */
#ifndef TEST_FAULTS_CCM_WORLD_H
#define TEST_FAULTS_CCM_WORLD_H

#include "cloud-controller/manager/manager.h"
#include "tests/support/fake_cloud/fake_cloud.h"

#define TIMEOUT_MS 100  /* of every cloud call */
#define LATE_MS 250     /* after which a late call does its work */
#define LIMIT_MS 15000  /* of one wait */
#define POD_NET "10.244.0.0/16"

/* ---- cloud.c: the fake cloud with calls counted, and some late */
extern struct cloud_driver counting_driver;
int calls_of(const char *point); /* that have begun since the start */
/* The next call of the point does its work LATE_MS after it was asked for; NULL: none. */
void late_set(const char *point);
bool late_done(void); /* it has */

/* ---- roles.c: the role and binding of kprov's add-ons */
int add_roles(struct client *admin, struct kp_error *error);

/* ---- world.c */
struct world {
    struct kp_arena *arena;
    struct client *admin, *client; /* client: with the rights of the shipped role */
    const char *dir, *uid;
    struct cloud *cloud, *hands; /* the controllers', and the test's own */
    struct ccm *ccm;
    char why[512]; /* what was not so */
    bool broken;   /* what must never be was seen: nothing mends that */
};
/* Two machines, w-1 and w-2, and their Nodes. */
int world_open(struct world *w, const char *dir, const char *uid, struct client *admin, struct client *client, struct kp_error *error);
int world_start(struct world *w, struct kp_error *error); /* the controllers */
/* Ends the controllers, and removes all Nodes and Services. What the cloud had is left for who looks at it. */
void world_close(struct world *w);

int api(struct world *w, const char *method, const char *path, const char *body, struct kp_error *error); /* patches are merges */
void api_must(struct world *w, const char *method, const char *path, const char *body);
/* The object as a tree in the world's arena; NULL: there is none. */
struct kp_value *api_get(struct world *w, const char *path);
void add_node(struct world *w, const char *name, bool initialised, const char *pod_cidr);
void set_ready(struct world *w, const char *name, bool ready);
bool has_taint(const struct kp_value *node, const char *key);
void add_service(struct world *w, const char *name, int port, const char *more); /* more: members of spec, with a comma before */
size_t count(const struct world *w, const char *folder); /* files or folders of the cluster: "balancers" */
bool cloud_has(const struct world *w, const char *folder, const char *name);
const char *cloud_read(struct world *w, const char *folder, const char *name); /* NULL: not there */
bool wrong(struct world *w, const char *format, ...) KP_PRINTF(2, 3); /* false, and w->why says so */
/* Until check holds: false after LIMIT_MS. */
bool wait_for(struct world *w, bool (*check)(struct world *w));

#endif
