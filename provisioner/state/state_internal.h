/* The parts of a cluster's open state. */
#ifndef KPROV_STATE_INTERNAL_H
#define KPROV_STATE_INTERNAL_H

#include <limits.h>
#include <pthread.h>

#include "provisioner/state/state.h"

#define STATE_DIR_MAX (PATH_MAX - 64)

struct state {
    char dir[STATE_DIR_MAX];
    char name[CONFIG_NAME_MAX + 1];
    int lock_fd;
    pthread_mutex_t journal; /* several machines are made at a time */
};

/* The folder of a cluster of that name. */
int state_dir_of(const char *name, char out[STATE_DIR_MAX], struct kp_error *error);
/* ---- lock.c: takes the lock of state->dir, which exists; KP_EAGAIN when the folder went away meanwhile. */
int state_lock(struct state *state, struct kp_error *error);

#endif
