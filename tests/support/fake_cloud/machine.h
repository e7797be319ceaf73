/* The parts of a fake machine's process. */
#ifndef TEST_FAKE_MACHINE_H
#define TEST_FAKE_MACHINE_H

#include "codec/codec.h"

#define API_PORT 6443
#define MACHINE_PODS_MAX 16
#define REQUEST_MS 3000

struct machine {
    struct kp_arena *arena; /* for good */
    const char *dir, *root; /* root: where what the user data calls / is */
    const char *name, *address;
    const char *api_address; /* the endpoint's, or NULL: this is no control plane */
    const char *node_labels, *node_taints;
    struct { /* every static pod of the user data */
        const char *name, *image;
        const char *stamp; /* of the files that it reads once, or "" */
    } pods[MACHINE_PODS_MAX];
    size_t n_pods;
};

/* ---- machine_pods.c: etcd and the API server as the static pods have them, but on the machine's address instead of 127.0.0.1 */
int machine_pods_start(struct machine *machine, struct kp_error *error);
/* Other files are there: a pod of another manifest starts anew. */
int machine_pods_reload(struct machine *machine, struct kp_error *error);
void machine_pods_tend(struct machine *machine); /* starts again what has ended */

/* ---- machine_vip.c */
/* A thread that holds the endpoint's address whenever no other machine does, and passes its connections on to the machine's own API server. */
void machine_vip_start(const struct machine *machine);

/* ---- machine_kubelet.c: a thread that answers on the kubelet's port */
void machine_kubelet_start(const struct machine *machine);

/* ---- machine_client.c */
struct client;
struct loop;
struct machine_client {
    const char *kubeconfig; /* below /etc/kubernetes */
    int64_t timeout_ms;     /* 0: the client's own */
    int files;
    struct loop *loop;
    struct client *client;
};
/* A client of the files that are there now: the one that is open, or another. */
int machine_client_open(const struct machine *machine, struct machine_client *own, struct kp_error *error);
void machine_client_close(struct machine_client *own);
int machine_files(void); /* how often the machine's files have changed while it runs */
void machine_files_changed(void);

/* ---- machine_workloads.c: one round of what a controller manager does, with the administrator's credentials */
int machine_workloads_tend(const struct machine *machine, struct client *client, struct kp_error *error);

/* ---- machine_leases.c: threads that lead as controllers and scheduler of a control plane */
void machine_leases_start(const struct machine *machine);

/* ---- machine_node.c: what a kubelet does with its Node */
struct machine_node;
struct machine_node *machine_node_new(const struct machine *machine);
/* One round: registers the Node when it is not there, says Ready, ends the pods that are to go. */
int machine_node_tend(struct machine_node *node, struct kp_error *error);
void machine_node_look(struct machine_node *node); /* the pods are others: the next round tells the API server */

#endif
