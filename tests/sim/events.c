/* What happens when: a heap of events in simulated time. */
#include "tests/sim/world.h"

int64_t sim_now_ns = SIM_START_NS;
static struct event *heap;
static size_t heap_len, heap_cap;
static uint64_t next_number;

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->number < b->number);
}

void event_at(int64_t at_ns, void (*fn)(void *arg, uint64_t tag), void *arg, uint64_t tag)
{
    if (heap_len == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 256;
        heap = kp_realloc(heap, heap_cap * sizeof *heap);
    }
    size_t i = heap_len++;
    struct event event = {KP_MAX(at_ns, sim_now_ns), next_number++, fn, arg, tag};
    for (size_t up; i > 0 && (up = (i - 1) / 2, before(&event, &heap[up])); i = up)
        heap[i] = heap[up];
    heap[i] = event;
}

void event_in(int64_t delay_ns, void (*fn)(void *arg, uint64_t tag), void *arg, uint64_t tag)
{
    event_at(sim_now_ns + delay_ns, fn, arg, tag);
}

static struct event take_first(void)
{
    struct event first = heap[0], last = heap[--heap_len];
    size_t i = 0;
    for (size_t down; (down = 2 * i + 1) < heap_len; i = down) {
        if (down + 1 < heap_len && before(&heap[down + 1], &heap[down]))
            down++;
        if (!before(&heap[down], &last))
            break;
        heap[i] = heap[down];
    }
    heap[i] = last;
    return first;
}

bool events_run(int64_t until_ns)
{
    while (heap_len && heap[0].at_ns <= until_ns) {
        struct event event = take_first();
        sim_now_ns = event.at_ns;
        counters.events++;
        event.fn(event.arg, event.tag);
    }
    sim_now_ns = KP_MAX(sim_now_ns, until_ns);
    return heap_len > 0;
}
