/* What the commands about certificates share: seeing what a machine serves, and giving it new files while it runs. */
#ifndef KPROV_CERTS_INTERNAL_H
#define KPROV_CERTS_INTERNAL_H

#include "provisioner/cli/operation_internal.h"
#include "tls/tls.h"

#define CERTS_WARN_S (30LL * 86400)

/* ---- certs_served.c */
struct certs_port {
    int port;
    const char *file; /* whose certificate it serves, on the machine */
};
/* Of a control plane, or of any machine; ends with port == 0. */
const struct certs_port *certs_ports(bool control_plane);
/* Does a TLS handshake and tells the SHA-256 of the certificate that is served, in hex. It must verify against ca_pem. */
int certs_served(const char *address, int port, const char *ca_pem, char ret_fingerprint[65], struct kp_error *error) KP_NODISCARD;
/* Every authority that the cluster trusts now, as PEM. Appends. */
void certs_all_trust(const struct pki *pki, struct kp_buf *out);

/* ---- certs_change.c */
/* KP_ENOTSUPPORTED where machines keep the certificates that they were made with. */
int certs_check_cloud(const struct cli_operation *op, struct kp_error *error) KP_NODISCARD;
/* Gives one machine new certificates from op->pki and what goes with them, and waits until it works with them. It goes on as it is:
   files are replaced, and what reads them only once is started anew. A machine that is off has them when it boots. */
int certs_change_machine(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error) KP_NODISCARD;
/* The administrator's kubeconfig in the state and in the file that it was merged into; op->api is opened anew with it. */
int certs_change_admin(struct cli_operation *op, struct kp_error *error) KP_NODISCARD;

/* ---- workloads_restart.c: what the Deployments, DaemonSets and StatefulSets of a namespace (NULL: of all) keep running is made anew. */
int certs_restart_workloads(struct cli_operation *op, const char *ns, struct kp_error *error) KP_NODISCARD;

#endif
