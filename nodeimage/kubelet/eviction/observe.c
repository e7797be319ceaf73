/* Which thresholds are met, for how long, and what conditions that makes of the node. */
#include "nodeimage/kubelet/eviction/eviction.h"

enum eviction_pressure eviction_pressure_of(enum eviction_signal signal)
{
    return signal == EVICTION_MEMORY ? EVICTION_MEMORY_PRESSURE : signal == EVICTION_PIDS ? EVICTION_PID_PRESSURE : EVICTION_DISK_PRESSURE;
}

/* One that was met stays so until its minimum to reclaim is there too. */
static bool is_met(const struct eviction_threshold *threshold, const struct eviction_reading *reading, bool was)
{
    if (!reading->known)
        return was;
    int64_t least = eviction_amount_of(&threshold->least, reading->capacity);
    if (was)
        least += eviction_amount_of(&threshold->reclaim, reading->capacity);
    return reading->available < least;
}

static void follow_pressures(const struct eviction_settings *settings, struct eviction_state *state, int64_t now_s)
{
    for (size_t i = 0; i < settings->len; i++) {
        if (!state->met[i])
            continue;
        enum eviction_pressure p = eviction_pressure_of(settings->items[i].signal);
        state->seen[p] = true;
        state->seen_s[p] = now_s;
    }
    for (int p = 0; p < EVICTION_PRESSURES; p++)
        state->pressure[p] = state->seen[p] && (state->seen_s[p] == now_s || now_s - state->seen_s[p] < settings->transition_s);
}

size_t eviction_observe(const struct eviction_settings *settings, struct eviction_state *state, const struct eviction_reading readings[EVICTION_SIGNALS],
                        int64_t now_s)
{
    size_t act = settings->len;
    for (size_t i = 0; i < settings->len; i++) {
        const struct eviction_threshold *threshold = &settings->items[i];
        bool was = state->met[i];
        state->met[i] = is_met(threshold, &readings[threshold->signal], was);
        if (state->met[i] && !was)
            state->since_s[i] = now_s;
        if (!state->met[i] || now_s - state->since_s[i] < threshold->grace_s)
            continue;
        if (act == settings->len || (threshold->signal == EVICTION_MEMORY && settings->items[act].signal != EVICTION_MEMORY))
            act = i;
    }
    follow_pressures(settings, state, now_s);
    return act;
}
