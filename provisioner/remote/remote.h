/* provisioner/remote: a cluster's SSH keys, and commands in its machines - by the driver where it can, by SSH where not. */
#ifndef KPROV_REMOTE_H
#define KPROV_REMOTE_H

#include "base/base.h"
#include "cloud/cloud.h"
#include "provisioner/state/state.h"
#include "ssh/ssh.h"

#define REMOTE_KEYS_FILE "ssh.json" /* in the cluster's state */
#define REMOTE_SECRET_BYTES 32
#define REMOTE_CONNECT_MS 20000 /* of a machine that may be emulated */

/* ---- keys.c */
/* Made once for a cluster. The machines' host keys follow from one secret and their names, so that they are known before any
   machine is, and a machine made again under its name has the same one. */
struct remote_keys {
    struct sshc_key identity; /* what logs in */
    uint8_t host_secret[REMOTE_SECRET_BYTES];
};
void remote_keys_make(struct remote_keys *ret);
void remote_keys_print(const struct remote_keys *keys, struct kp_buf *out);
int remote_keys_parse(const char *text, size_t len, struct remote_keys *ret, struct kp_error *error) KP_NODISCARD;
/* KP_ENOTFOUND with the remedy when the cluster has none. */
int remote_keys_load(const char *cluster, struct remote_keys *ret, struct kp_error *error) KP_NODISCARD;
/* Those of the state; made and written down when there are none yet. */
int remote_keys_ensure(struct state *state, const char *cluster, struct remote_keys *ret, struct kp_error *error) KP_NODISCARD;
void remote_host_key(const struct remote_keys *keys, const char *machine, struct sshc_key *ret);

/* ---- remote.c */
/* Logs in to a machine as root. The machine must have an address. */
int remote_connect(const struct state_cluster *cluster, const struct cloud_machine *machine, struct sshc **ret_ssh,
                   struct kp_error *error) KP_NODISCARD;
/* Runs a command by SSH. KP_EUNAVAILABLE when the machine is off. */
int remote_ssh_exec(const struct state_cluster *cluster, const struct cloud_machine *machine, const struct cloud_exec *exec,
                    int *ret_status, struct kp_error *error) KP_NODISCARD;
/* As cloud_machine_exec, for every driver. */
int remote_exec(struct cloud *cloud, const struct state_cluster *cluster, const struct cloud_machine *machine,
                const struct cloud_exec *exec, int *ret_status, struct kp_error *error) KP_NODISCARD;
/* The line that a login shell runs for the words, with the PATH that kprov's programs want. Appends. */
void remote_command_line(const char *const *argv, struct kp_buf *out);

#endif
