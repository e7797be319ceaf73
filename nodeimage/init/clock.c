/* What a look at the real-time clock means for the system's. Pure. */
#include "init_internal.h"

#define SECOND_NS 1000000000LL
#define EDGE_SLACK_NS (SECOND_NS / 2) /* what a busy machine may take until it has heard of the edge */
#define SLACK_NS (3 * SECOND_NS / 2)  /* without one the second may be any part of a second old */
#define PAUSE_NS (2 * SECOND_NS)      /* a step forward; less is no pause that anybody notices */

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* How far the machine's own time has to go on, or 0. What somebody has set the system's clock forward by since is not due any more. */
static int64_t pause_missing(const struct init_clock *clock, const struct init_clock_look *look, int64_t off_ns)
{
    const struct init_clock_look *last = &clock->last;
    int64_t ran_ns = look->mono_ns - last->mono_ns;
    int64_t paused_ns = (look->rtc_s - last->rtc_s) * SECOND_NS - ran_ns;
    int64_t set_ns = look->real_ns - last->real_ns - ran_ns;
    int64_t missing_ns = paused_ns - KP_MAX(set_ns, 0);
    if (!clock->started || missing_ns < PAUSE_NS)
        return 0;
    /* Both clocks showed the same before: the difference of now is the better figure. */
    return distance(off_ns, missing_ns) < PAUSE_NS ? off_ns : missing_ns;
}

struct init_clock_action init_clock_decide(struct init_clock *clock, const struct init_clock_look *look)
{
    struct init_clock_action action = {.verb = INIT_CLOCK_KEEP};
    int64_t off_ns = look->rtc_s * SECOND_NS + (look->edge ? 0 : SECOND_NS / 2) - look->real_ns;
    clock->was_synchronised |= look->synchronised;
    if (distance(off_ns, 0) > (look->edge ? EDGE_SLACK_NS : SLACK_NS)) {
        if (clock->was_synchronised) {
            action.by_ns = pause_missing(clock, look, off_ns);
            action.verb = action.by_ns ? INIT_CLOCK_STEP : INIT_CLOCK_KEEP;
        } else {
            action.by_ns = off_ns;
            action.verb = off_ns >= PAUSE_NS || off_ns <= -INIT_CLOCK_BACK_STEP_S * SECOND_NS ? INIT_CLOCK_STEP : INIT_CLOCK_SLEW;
        }
    }
    clock->last = *look;
    if (action.verb == INIT_CLOCK_STEP)
        clock->last.real_ns += action.by_ns;
    clock->started = true;
    return action;
}
