/* What the controllers are put through: something changes, and what must come of it. */
#ifndef TEST_FAULTS_CCM_OPERATIONS_H
#define TEST_FAULTS_CCM_OPERATIONS_H

#include "tests/faults-ccm/world.h"

#define STEPS_MAX 3
#define POINTS_MAX 3

struct operation {
    const char *name;
    const char *points[POINTS_MAX + 1]; /* calls that it makes; faults are at these */
    bool once;                          /* it need not make them often enough for all of a fault */
    void (*prepare)(struct world *w);   /* before the fault */
    bool (*prepared)(struct world *w);  /* NULL: at once */
    struct {
        void (*act)(struct world *w);
        bool (*done)(struct world *w); /* exactly what must be; else w->why */
    } steps[STEPS_MAX];
};
extern const struct operation operations[];
extern const size_t n_operations;

#endif
