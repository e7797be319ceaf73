/* The list that `kprov events` puts together. */
#ifndef KPROV_EVENTS_INTERNAL_H
#define KPROV_EVENTS_INTERNAL_H

#include "provisioner/cli/cli.h"

#define EVENTS_MAX 50000

struct events_row {
    int64_t time_s;
    size_t order; /* of those of one second */
    const char *source; /* "kprov", "machine", "cluster" */
    const char *object, *reason, *message; /* message: one line */
};
struct events {
    struct kp_arena *arena;
    struct events_row *rows;
    size_t len, cap;
    struct kp_strmap *power; /* machine -> what its power was when it was last asked */
    bool api_failed;         /* and the user knows */
};
/* Beyond EVENTS_MAX nothing is added. Borrows the strings; line breaks in the message become spaces. */
void events_add(struct events *events, int64_t time_s, const char *source, const char *object, const char *reason, const char *message);
void events_sort(struct events *events); /* by time; what is of one second stays in order */

#endif
