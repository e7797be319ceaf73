/* A data folder made without a server, by restoring a snapshot. */
#ifndef ETCD_SERVER_BOOTSTRAP_H
#define ETCD_SERVER_BOOTSTRAP_H

#include "controlplane/etcd/server/server.h"

struct backend;

/* Of the configuration only name, wal_dir, initial_cluster, initial_cluster_token and initial_advertise_peer_urls count. */
int bootstrap_check(const struct etcd_config *config, struct kp_error *error) KP_NODISCARD; /* touches nothing */
/* The member that it says becomes the owner of the database, which may hold keys but nothing of a cluster, and of a new log
   in wal_dir, whose parent exists. */
int bootstrap_create(const struct etcd_config *config, struct backend *backend, struct kp_error *error) KP_NODISCARD;

#endif
