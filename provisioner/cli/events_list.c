/* The list of events itself: pure. */
#include "provisioner/cli/events_internal.h"

void events_add(struct events *events, int64_t time_s, const char *source, const char *object, const char *reason, const char *message)
{
    if (events->len == EVENTS_MAX)
        return;
    if (events->len == events->cap || !events->rows) {
        size_t cap = events->rows && events->cap ? events->cap * 2 : 64;
        struct events_row *rows = KP_NEW_ARRAY(events->arena, struct events_row, cap);
        if (events->rows)
            memcpy(rows, events->rows, events->len * sizeof(*rows));
        events->rows = rows;
        events->cap = cap;
    }
    char *line = kp_arena_strdup(events->arena, message);
    for (char *at = line; *at; at++)
        if (*at == '\n' || *at == '\r' || *at == '\t')
            *at = ' ';
    events->rows[events->len] = (struct events_row){time_s, events->len, source, object, reason, line};
    events->len++;
}

static int compare(const void *a, const void *b)
{
    const struct events_row *x = a, *y = b;
    if (x->time_s != y->time_s)
        return x->time_s < y->time_s ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

void events_sort(struct events *events)
{
    if (events->len > 1)
        qsort(events->rows, events->len, sizeof(*events->rows), compare);
}
