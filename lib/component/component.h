/* lib/component: what every control-plane client program has in common - the flags, the API client, leader election, the
 * HTTPS port with health and metrics, signals and the orderly end. */
#ifndef KP_COMPONENT_H
#define KP_COMPONENT_H

#include "lib/client/client.h"

struct component_options {
    const char *name;          /* "kube-scheduler"; also the lease's name and the user agent */
    const char *kubeconfig;    /* NULL: in-cluster service account when allow_in_cluster */
    bool allow_in_cluster;
    const char *bind_address;
    int64_t secure_port;       /* 0: none */
    bool health_plain;         /* the port is plain HTTP without client certificates (node agents on loopback) */
    const char *tls_cert_file, *tls_key_file, *client_ca_file, *requestheader_client_ca_file;
    const char *authentication_kubeconfig, *authorization_kubeconfig;
    bool leader_elect;
    int64_t lease_ns, renew_ns, retry_ns; /* 0: client-go's defaults */
    int64_t verbosity;
};
#define COMPONENT_FLAGS_MAX 24
/* Writes the common flags after the caller's own into flags (room for COMPONENT_FLAGS_MAX more) and ends the list. */
void component_flags(struct component_options *options, struct kp_flag *flags, size_t n_own);

struct component_program {
    const char *description; /* of --help */
    /* After leadership: starts the work and returns. client's loop is running. */
    int (*start)(struct client *client, void *arg, struct kp_error *error);
    /* Ends the work; called only when start succeeded. May be NULL. */
    void (*stop)(void *arg);
    /* Extra readiness: NULL or true when ready. May be NULL. */
    bool (*ready)(void *arg);
    void *arg;
};
/* Parses the command line, runs until SIGTERM or SIGINT, gives the exit status for main. flags as made above. */
int component_main(struct component_options *options, const struct kp_flag *flags, const struct component_program *program, int argc,
                   char **argv);

#endif
