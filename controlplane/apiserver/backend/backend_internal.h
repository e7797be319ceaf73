/* What the files of this module share. */
#ifndef APISERVER_BACKEND_INTERNAL_H
#define APISERVER_BACKEND_INTERNAL_H

#include "controlplane/apiserver/backend/backend.h"

#include <pthread.h>

struct backends {
    struct backends_config config;
    pthread_mutex_t mutex;
    struct kp_strmap *clients; /* key -> struct backend_client, one reference each */
    uint64_t uses;
};

#endif
