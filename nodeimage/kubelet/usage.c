/* How much the machine and its containers use: control groups, the runtime's statistics, and rates between two looks at them. */
#include "nodeimage/kubelet/usage_internal.h"

#include <pthread.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define FRESH_NS ((int64_t)USAGE_FRESH_MS * 1000000)

/* ---- the machine ------------------------------------------------------------------------------------------------------------- */
static bool read_text(const char *root, const char *path, struct kp_buf *out)
{
    KP_AUTO_FREE char *full = kp_asprintf("%s%s", root, path);
    out->len = 0;
    return kp_read_file(full, FILE_BYTES_MAX, out, NULL) == 0 && out->data;
}

static bool read_number(const char *root, const char *path, uint64_t *ret)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!read_text(root, path, &text) || text.data[0] < '0' || text.data[0] > '9')
        return false;
    *ret = strtoull(text.data, NULL, 10);
    return true;
}

/* The number of the line "name number" or "name:   number"; 0 when there is none. */
static uint64_t line_number(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, name, len) == 0 && (line[len] == ' ' || line[len] == ':'))
            return strtoull(line + len + 1, NULL, 10);
    return 0;
}

/* Of all processors, from /proc/stat: idle and waiting for disks are no use. */
static uint64_t processors_ns(const char *root)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    uint64_t ticks = 0;
    if (!read_text(root, "/proc/stat", &text) || !kp_starts_with(text.data, "cpu "))
        return 0;
    const char *at = text.data + 4;
    for (int field = 0; field < 8; field++) {
        char *end;
        uint64_t value = strtoull(at, &end, 10);
        if (end == at)
            break;
        if (field != 3 && field != 4)
            ticks += value;
        at = end;
    }
    return ticks * 10000000; /* USER_HZ is 100 on every Linux */
}

static uint64_t cpu_ns(const char *root)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    uint64_t ns;
    if (read_number(root, "/sys/fs/cgroup/cpuacct/cpuacct.usage", &ns))
        return ns;
    if (read_text(root, "/sys/fs/cgroup/cpu.stat", &text) && line_number(text.data, "usage_usec"))
        return line_number(text.data, "usage_usec") * 1000;
    return processors_ns(root);
}

static void read_memory(const char *root, struct kubelet_machine_usage *ret)
{
    KP_AUTO_BUF struct kp_buf stat = {0}, meminfo = {0};
    uint64_t inactive = 0, total = 0, limit = 0;
    if (read_text(root, "/proc/meminfo", &meminfo))
        total = line_number(meminfo.data, "MemTotal") * 1024;
    if (read_number(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", &ret->memory_usage_bytes)) {
        bool has = read_text(root, "/sys/fs/cgroup/memory/memory.stat", &stat);
        inactive = has ? line_number(stat.data, "total_inactive_file") : 0;
        ret->memory_rss_bytes = has ? line_number(stat.data, "total_rss") : 0;
        limit = has ? line_number(stat.data, "hierarchical_memory_limit") : 0;
    } else {
        bool has = read_text(root, "/sys/fs/cgroup/memory.stat", &stat);
        inactive = has ? line_number(stat.data, "inactive_file") : 0;
        ret->memory_rss_bytes = has ? line_number(stat.data, "anon") : 0;
        if (!read_number(root, "/sys/fs/cgroup/memory.current", &ret->memory_usage_bytes) && meminfo.data) { /* the real root */
            ret->memory_usage_bytes = total - line_number(meminfo.data, "MemFree") * 1024;
            if (!has) {
                inactive = line_number(meminfo.data, "Inactive(file)") * 1024;
                ret->memory_rss_bytes = line_number(meminfo.data, "AnonPages") * 1024;
            }
        } else if (!read_number(root, "/sys/fs/cgroup/memory.max", &limit)) {
            limit = 0;
        }
    }
    if (limit && limit < total)
        total = limit;
    ret->memory_working_set_bytes = ret->memory_usage_bytes > inactive ? ret->memory_usage_bytes - inactive : 0;
    ret->memory_available_bytes = total > ret->memory_working_set_bytes ? total - ret->memory_working_set_bytes : 0;
}

void kubelet_machine_usage_read(const char *root, struct kubelet_machine_usage *ret)
{
    *ret = (struct kubelet_machine_usage){.time_ns = kp_now_ns(), .cpu_ns = cpu_ns(root)};
    read_memory(root, ret);
}

/* ---- one look ---------------------------------------------------------------------------------------------------------------- */
static int64_t created_ns(const struct cri_container *containers, size_t n, const char *id)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(containers[i].id, id))
            return containers[i].created_ns;
    return 0;
}

int kubelet_usage_look(struct cri *cri, struct kubelet_usage_sample *ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container_stats *stats;
    struct cri_container *containers;
    size_t n, n_containers;
    if (cri_list_stats(cri, arena, &stats, &n, error) < 0 || cri_list_containers(cri, NULL, NULL, arena, &containers, &n_containers, error) < 0)
        return error->code;
    *ret = (struct kubelet_usage_sample){.taken_ms = kp_mono_ms(), .stats = stats, .started_ns = KP_NEW_ARRAY(arena, int64_t, n + 1)};
    kubelet_machine_usage_read("", &ret->machine);
    for (size_t i = 0; i < n; i++) {
        if (stats[i].timestamp_ns <= 0)
            continue;
        stats[ret->len] = stats[i];
        ret->started_ns[ret->len++] = created_ns(containers, n_containers, stats[i].id);
    }
    ret->arena = KP_TAKE(arena);
    return 0;
}

/* ---- two of them --------------------------------------------------------------------------------------------------------------- */
static bool rate(int64_t from_ns, uint64_t from, int64_t to_ns, uint64_t to, uint64_t *ret)
{
    if (to_ns <= from_ns || to < from) /* the group was made anew */
        return false;
    *ret = (uint64_t)((double)(to - from) * 1e9 / (double)(to_ns - from_ns));
    return true;
}

static const struct cri_container_stats *find(const struct kubelet_usage_sample *sample, const char *id)
{
    for (size_t i = 0; sample && i < sample->len; i++)
        if (kp_streq(sample->stats[i].id, id))
            return &sample->stats[i];
    return NULL;
}

void kubelet_usage_compare(const struct kubelet_usage_sample *prev, const struct kubelet_usage_sample *last, struct kp_arena *arena,
                           struct kubelet_usage_report *ret)
{
    *ret = (struct kubelet_usage_report){.machine = last->machine, .len = last->len};
    ret->containers = KP_NEW_ARRAY(arena, struct kubelet_usage_container, last->len + 1);
    ret->has_rate = prev && rate(prev->machine.time_ns, prev->machine.cpu_ns, last->machine.time_ns, last->machine.cpu_ns, &ret->nano_cores);
    for (size_t i = 0; i < last->len; i++) {
        struct kubelet_usage_container *out = &ret->containers[i];
        const struct cri_container_stats *now = &last->stats[i], *then = find(prev, now->id);
        int64_t started_ns = last->started_ns[i];
        *out = (struct kubelet_usage_container){.stats = now, .started_ns = started_ns};
        if (then)
            out->has_rate = rate(then->timestamp_ns, then->cpu_usage_ns, now->timestamp_ns, now->cpu_usage_ns, &out->nano_cores);
        else if (started_ns && now->timestamp_ns - started_ns >= FRESH_NS)
            out->has_rate = rate(started_ns, 0, now->timestamp_ns, now->cpu_usage_ns, &out->nano_cores);
    }
}

struct kubelet_usage {
    struct cri *cri;
    pthread_mutex_t lock; /* held while looking: one look serves all who wait */
    struct kubelet_usage_sample prev, last; /* arena NULL: none */
};

struct kubelet_usage *kubelet_usage_new(struct cri *cri)
{
    struct kubelet_usage *usage = kp_calloc(1, sizeof(*usage));
    usage->cri = cri;
    pthread_mutex_init(&usage->lock, NULL);
    return usage;
}

void kubelet_usage_free(struct kubelet_usage *usage)
{
    if (!usage)
        return;
    kp_arena_free(usage->prev.arena);
    kp_arena_free(usage->last.arena);
    pthread_mutex_destroy(&usage->lock);
    free(usage);
}

static int look_again(struct kubelet_usage *usage, struct kp_error *error)
{
    struct kubelet_usage_sample sample;
    if (kubelet_usage_look(usage->cri, &sample, error) < 0)
        return error->code;
    kp_arena_free(usage->prev.arena);
    usage->prev = usage->last;
    usage->last = sample;
    return 0;
}

static int refresh(struct kubelet_usage *usage, struct kp_error *error)
{
    int64_t age_ms = kp_mono_ms() - usage->last.taken_ms;
    if (usage->prev.arena && age_ms < USAGE_KEEP_MS)
        return 0;
    if (!usage->last.arena || age_ms > USAGE_STALE_MS) {
        if (look_again(usage, error) < 0)
            return error->code;
        kp_sleep_ms(USAGE_PAUSE_MS);
    }
    return look_again(usage, error);
}

static void copy_stats(struct kubelet_usage_report *report, struct kp_arena *arena)
{
    for (size_t i = 0; i < report->len; i++) {
        struct cri_container_stats *copy = kp_arena_memdup(arena, report->containers[i].stats, sizeof(*copy));
        copy->id = kp_arena_strdup(arena, copy->id);
        copy->name = kp_arena_strdup(arena, copy->name);
        copy->labels.items = kp_arena_memdup(arena, copy->labels.items, copy->labels.len * sizeof(*copy->labels.items));
        for (size_t k = 0; k < copy->labels.len; k++) {
            copy->labels.items[k].key = kp_arena_strdup(arena, copy->labels.items[k].key);
            copy->labels.items[k].value = kp_arena_strdup(arena, copy->labels.items[k].value);
        }
        report->containers[i].stats = copy;
    }
}

int kubelet_usage_report(struct kubelet_usage *usage, struct kp_arena *arena, struct kubelet_usage_report *ret, struct kp_error *error)
{
    pthread_mutex_lock(&usage->lock);
    int code = refresh(usage, error);
    if (code == 0) {
        kubelet_usage_compare(usage->prev.arena ? &usage->prev : NULL, &usage->last, arena, ret);
        copy_stats(ret, arena);
    }
    pthread_mutex_unlock(&usage->lock);
    return code;
}
