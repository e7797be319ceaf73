/* A process-wide registry of counters, gauges and histograms in the Prometheus text format. */
#include "lib/base/base.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define METRIC_SERIES_MAX 4096
#define METRIC_LABELS_MAX 16

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct series {
    char *labels; /* rendered: `a="b",c="d"`; owned */
    double value; /* counter, gauge; sum of a histogram */
    uint64_t count;
    uint64_t buckets[]; /* bucket_count of them, not cumulative */
};

struct kp_metric {
    struct kp_metric *next;
    enum metric_kind kind;
    const char *name, *help;
    const char *const *label_names;
    const double *bounds;
    size_t label_count, bucket_count;
    pthread_mutex_t lock; /* guards what follows */
    struct kp_strmap *series; /* labels -> struct series */
};

static int64_t process_start_s;

__attribute__((constructor)) static void process_start_note(void)
{
    process_start_s = kp_now_s();
}

static struct kp_metric *families;
static pthread_mutex_t families_lock = PTHREAD_MUTEX_INITIALIZER;

static struct kp_metric *family_new(enum metric_kind kind, const char *name, const char *help,
                                    const char *const *label_names, const double *bounds, size_t bucket_count)
{
    pthread_mutex_lock(&families_lock);
    struct kp_metric **end = &families;
    for (; *end; end = &(*end)->next) {
        if (strcmp((*end)->name, name) == 0) { /* two modules may share a family */
            struct kp_metric *same = *end;
            KP_ASSERT(same->kind == kind);
            pthread_mutex_unlock(&families_lock);
            return same;
        }
    }
    struct kp_metric *metric = kp_calloc(1, sizeof(*metric));
    metric->kind = kind;
    metric->name = name;
    metric->help = help;
    metric->label_names = label_names;
    metric->bounds = bounds;
    metric->bucket_count = bucket_count;
    while (label_names && label_names[metric->label_count])
        metric->label_count++;
    KP_ASSERT(metric->label_count <= METRIC_LABELS_MAX);
    pthread_mutex_init(&metric->lock, NULL);
    metric->series = kp_strmap_new();
    *end = metric;
    pthread_mutex_unlock(&families_lock);
    return metric;
}

struct kp_metric *kp_counter(const char *name, const char *help, const char *const *label_names)
{
    return family_new(METRIC_COUNTER, name, help, label_names, NULL, 0);
}

struct kp_metric *kp_gauge(const char *name, const char *help, const char *const *label_names)
{
    return family_new(METRIC_GAUGE, name, help, label_names, NULL, 0);
}

struct kp_metric *kp_histogram(const char *name, const char *help, const char *const *label_names,
                               const double *buckets, size_t bucket_count)
{
    return family_new(METRIC_HISTOGRAM, name, help, label_names, buckets, bucket_count);
}

static void put_label(struct kp_buf *out, const char *name, const char *value)
{
    kp_buf_printf(out, "%s%s=\"", out->len ? "," : "", name);
    for (; *value; value++) {
        if (*value == '\n') {
            kp_buf_puts(out, "\\n");
            continue;
        }
        if (*value == '"' || *value == '\\')
            kp_buf_putc(out, '\\');
        kp_buf_putc(out, *value);
    }
    kp_buf_putc(out, '"');
}

/* The series of these label values; the caller holds the lock. */
static struct series *series_get(struct kp_metric *metric, va_list values)
{
    KP_AUTO_BUF struct kp_buf labels = {0};
    kp_buf_reserve(&labels, 0);
    for (size_t i = 0; i < metric->label_count; i++) {
        const char *value = va_arg(values, const char *);
        put_label(&labels, metric->label_names[i], value ? value : "");
    }
    struct series *series = kp_strmap_get(metric->series, labels.data);
    if (series)
        return series;
    if (kp_strmap_len(metric->series) >= METRIC_SERIES_MAX) {
        labels.len = 0;
        for (size_t i = 0; i < metric->label_count; i++)
            put_label(&labels, metric->label_names[i], "other");
        series = kp_strmap_get(metric->series, labels.data);
        if (series)
            return series;
    }
    series = kp_calloc(1, sizeof(*series) + metric->bucket_count * sizeof(series->buckets[0]));
    series->labels = kp_buf_take(&labels);
    kp_strmap_put(metric->series, series->labels, series);
    return series;
}

void kp_metric_add(struct kp_metric *metric, double delta, ...)
{
    KP_ASSERT(metric->kind != METRIC_HISTOGRAM && (metric->kind != METRIC_COUNTER || delta >= 0));
    va_list values;
    va_start(values, delta);
    pthread_mutex_lock(&metric->lock);
    series_get(metric, values)->value += delta;
    pthread_mutex_unlock(&metric->lock);
    va_end(values);
}

void kp_metric_set(struct kp_metric *metric, double value, ...)
{
    KP_ASSERT(metric->kind == METRIC_GAUGE);
    va_list values;
    va_start(values, value);
    pthread_mutex_lock(&metric->lock);
    series_get(metric, values)->value = value;
    pthread_mutex_unlock(&metric->lock);
    va_end(values);
}

void kp_metric_observe(struct kp_metric *metric, double value, ...)
{
    KP_ASSERT(metric->kind == METRIC_HISTOGRAM);
    va_list values;
    va_start(values, value);
    pthread_mutex_lock(&metric->lock);
    struct series *series = series_get(metric, values);
    series->value += value;
    series->count++;
    for (size_t i = 0; i < metric->bucket_count; i++) {
        if (value <= metric->bounds[i]) {
            series->buckets[i]++;
            break;
        }
    }
    pthread_mutex_unlock(&metric->lock);
    va_end(values);
}

static void put_number(struct kp_buf *out, double value)
{
    if (isinf(value))
        kp_buf_puts(out, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 1e15)
        kp_buf_printf(out, "%.0f", value);
    else
        kp_buf_printf(out, "%.9g", value);
}

static void put_sample(struct kp_buf *out, const char *name, const char *suffix, const char *labels, double value)
{
    kp_buf_printf(out, "%s%s", name, suffix);
    if (*labels)
        kp_buf_printf(out, "{%s}", labels);
    kp_buf_putc(out, ' ');
    put_number(out, value);
    kp_buf_putc(out, '\n');
}

static void put_header(struct kp_buf *out, const char *name, const char *help, const char *type)
{
    kp_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_histogram(struct kp_buf *out, const struct kp_metric *metric, const struct series *series)
{
    const char *comma = *series->labels ? "," : "";
    uint64_t below = 0;
    for (size_t i = 0; i < metric->bucket_count; i++) {
        below += series->buckets[i];
        kp_buf_printf(out, "%s_bucket{%s%sle=\"", metric->name, series->labels, comma);
        put_number(out, metric->bounds[i]);
        kp_buf_printf(out, "\"} %llu\n", (unsigned long long)below);
    }
    kp_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", metric->name, series->labels, comma,
                  (unsigned long long)series->count);
    put_sample(out, metric->name, "_sum", series->labels, series->value);
    put_sample(out, metric->name, "_count", series->labels, (double)series->count);
}

static void put_family(struct kp_buf *out, struct kp_metric *metric)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    put_header(out, metric->name, metric->help, types[metric->kind]);
    pthread_mutex_lock(&metric->lock);
    size_t iter = 0;
    void *value;
    while (kp_strmap_next(metric->series, &iter, NULL, &value)) {
        const struct series *series = value;
        if (metric->kind == METRIC_HISTOGRAM)
            put_histogram(out, metric, series);
        else
            put_sample(out, metric->name, "", series->labels, series->value);
    }
    pthread_mutex_unlock(&metric->lock);
}

static void put_process_value(struct kp_buf *out, const char *name, const char *help, const char *type, double value)
{
    put_header(out, name, help, type);
    put_sample(out, name, "", "", value);
}

static double open_fd_count(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return 0;
    double count = -3; /* ".", ".." and the folder itself */
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void put_process(struct kp_buf *out)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    put_process_value(out, "process_cpu_seconds_total", "User and system CPU time spent, in seconds.", "counter", cpu_s);
    KP_AUTO_BUF struct kp_buf statm = {0};
    unsigned long long pages = 0, resident = 0;
    if (kp_read_file("/proc/self/statm", 4096, &statm, NULL) == 0)
        sscanf(statm.data, "%llu %llu", &pages, &resident);
    double page = (double)sysconf(_SC_PAGESIZE);
    put_process_value(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", (double)pages * page);
    put_process_value(out, "process_resident_memory_bytes", "Resident memory size in bytes.", "gauge",
                      (double)resident * page);
    put_process_value(out, "process_open_fds", "Open file descriptors.", "gauge", open_fd_count());
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        put_process_value(out, "process_max_fds", "Most file descriptors that may be open.", "gauge",
                          (double)limit.rlim_cur);
    put_process_value(out, "process_start_time_seconds", "Start time since 1970 in seconds.", "gauge",
                      (double)process_start_s);
}

void kp_metrics_write(struct kp_buf *out)
{
    pthread_mutex_lock(&families_lock);
    struct kp_metric *first = families; /* families are only ever appended */
    pthread_mutex_unlock(&families_lock);
    for (struct kp_metric *metric = first; metric;) {
        put_family(out, metric);
        pthread_mutex_lock(&families_lock);
        metric = metric->next;
        pthread_mutex_unlock(&families_lock);
    }
    put_process(out);
}
