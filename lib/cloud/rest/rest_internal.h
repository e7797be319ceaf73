/* When a request is made again: pure. */
#ifndef KP_CLOUD_REST_INTERNAL_H
#define KP_CLOUD_REST_INTERNAL_H

#include "cloud/rest/rest.h"

enum rest_outcome {
    REST_ANSWERED,    /* with a status */
    REST_NOT_SENT,    /* no connection: the cloud knows nothing of it */
    REST_LOST,        /* sent, or partly, and no whole answer came */
    REST_HOPELESS,    /* will not be better: a bad certificate, a body too large */
};
struct rest_attempt {
    enum rest_outcome outcome;
    int status;             /* of REST_ANSWERED */
    int number;             /* 1: the first */
    int64_t retry_after_ms; /* 0: not said */
    int64_t left_ms;        /* until the deadline */
    uint64_t random;        /* any */
};
/* Milliseconds to wait before the next attempt, or -1: this one stands. */
int64_t rest_wait(const struct rest_attempt *attempt, bool repeatable, int attempts_max);

#endif
