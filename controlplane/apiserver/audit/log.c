/* Events as lines of a file, which becomes a backup when it is full; a thread of its own sees to backups, so that no request waits for gzip. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_BYTES_MAX ((size_t)1 << 20) /* gathered for one call, unless a line is longer */
#define ROTATE_AGAIN_MS 60000

struct log {
    struct audit_log_config config;
    char *path;
    int fd;           /* -1: it could not be opened the last time */
    bool is_file;     /* a regular one, whose end can be mended */
    int64_t size;
    struct kp_buf lines;
    size_t gathered;  /* events in lines */
    int64_t rotate_again_ms; /* not before that, after a failure; monotonic */
    pthread_t tidier;
    bool has_tidier;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;
    bool to_tidy, ending;
};

/* ---- backups ----------------------------------------------------------------------------------------------------------------------------- */
static void *tidy(void *arg)
{
    struct log *log = arg;
    pthread_mutex_lock(&log->mutex);
    for (;;) {
        while (!log->to_tidy && !log->ending)
            pthread_cond_wait(&log->work, &log->mutex);
        if (!log->to_tidy)
            break;
        log->to_tidy = false;
        pthread_mutex_unlock(&log->mutex);
        struct kp_error error = {0};
        if (audit_backups_tidy(&log->config, kp_now_ns(), &error) < 0)
            kp_warn("old audit logs cannot be tidied up", "path", log->path, "error", error.message, NULL);
        pthread_mutex_lock(&log->mutex);
    }
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

static void wake_tidier(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    log->to_tidy = true;
    pthread_cond_signal(&log->work);
    pthread_mutex_unlock(&log->mutex);
}

/* ---- the file ------------------------------------------------------------------------------------------------------------------------------ */
static int open_file(struct log *log, struct kp_error *error)
{
    struct stat st;
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log->fd < 0 || fstat(log->fd, &st) < 0) {
        kp_fail_errno(error, "%s", log->path);
        kp_close_fd(&log->fd);
        return error->code;
    }
    log->size = st.st_size;
    log->is_file = S_ISREG(st.st_mode);
    return 0;
}

/* Two in one millisecond are two backups. */
static int move_away(struct log *log, struct kp_error *error)
{
    for (int64_t now = kp_now_ns();; now += 1000000) {
        KP_AUTO_FREE char *backup = audit_backup_name(log->path, now), *packed = kp_asprintf("%s.gz", backup);
        if (kp_path_exists(backup) || kp_path_exists(packed))
            continue;
        return rename(log->path, backup) < 0 && errno != ENOENT ? kp_fail_errno(error, "%s cannot be renamed", log->path) : 0;
    }
}

static int rotate(struct log *log, struct kp_error *error)
{
    if (move_away(log, error) < 0)
        return error->code;
    kp_close_fd(&log->fd);
    if (log->has_tidier)
        wake_tidier(log);
    return open_file(log, error);
}

/* A line that was written in part is taken back: the next one would be spoilt, too. */
static int write_lines(struct log *log, struct kp_error *error)
{
    if (log->fd < 0 && open_file(log, error) < 0)
        return error->code;
    if (kp_write_all(log->fd, log->lines.data, log->lines.len, log->path, error) < 0) {
        if (log->is_file && ftruncate(log->fd, log->size) < 0)
            kp_warn("the audit log ends in the middle of a line", "path", log->path, "error", strerror(errno), NULL);
        return error->code;
    }
    log->size += (int64_t)log->lines.len;
    return 0;
}

/* How many events are lost. */
static size_t flush(struct log *log, struct kp_error *error)
{
    size_t lost = log->gathered && write_lines(log, error) < 0 ? log->gathered : 0;
    log->gathered = 0;
    if (log->lines.cap > 4 * WRITE_BYTES_MAX) /* a list of everything, perhaps */
        kp_buf_done(&log->lines);
    log->lines.len = 0;
    return lost;
}

static bool is_full(const struct log *log, size_t more)
{
    int64_t size = log->size + (int64_t)log->lines.len;
    return log->config.bytes_max && log->is_file && size > 0 && size + (int64_t)more > log->config.bytes_max && kp_mono_ms() >= log->rotate_again_ms;
}

static size_t write_events(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct log *log = self;
    size_t lost = 0;
    (void)sink;
    for (size_t i = 0; i < count; i++) {
        size_t len = events[i]->len + 1;
        if (is_full(log, len)) {
            lost += flush(log, error);
            if (log->size > 0 && rotate(log, error) < 0) { /* a file that is too large is better than none */
                log->rotate_again_ms = kp_mono_ms() + ROTATE_AGAIN_MS;
                kp_warn("the audit log cannot be rotated", "path", log->path, "error", error->message, NULL);
            }
        } else if (log->lines.len && log->lines.len + len > WRITE_BYTES_MAX) {
            lost += flush(log, error);
        }
        kp_buf_append(&log->lines, events[i]->data, events[i]->len);
        kp_buf_putc(&log->lines, '\n');
        log->gathered++;
    }
    return lost + flush(log, error);
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------------------ */
static void close_log(void *self)
{
    struct log *log = self;
    if (log->has_tidier) {
        pthread_mutex_lock(&log->mutex);
        log->ending = true;
        pthread_cond_signal(&log->work);
        pthread_mutex_unlock(&log->mutex);
        pthread_join(log->tidier, NULL);
    }
    if (log->fd != STDOUT_FILENO)
        kp_close_fd(&log->fd);
    pthread_cond_destroy(&log->work);
    pthread_mutex_destroy(&log->mutex);
    kp_buf_done(&log->lines);
    free(log->path);
    free(log);
}

static int make_folder(const char *path, struct kp_error *error)
{
    const char *slash = strrchr(path, '/');
    KP_AUTO_FREE char *dir = slash && slash != path ? kp_strndup(path, (size_t)(slash - path)) : NULL;
    return dir ? kp_mkdir_p(dir, 0700, error) : 0;
}

static int open_path(struct log *log, struct kp_error *error)
{
    if (strcmp(log->path, "-") == 0) {
        log->fd = STDOUT_FILENO;
        return 0;
    }
    if (make_folder(log->path, error) < 0 || open_file(log, error) < 0)
        return error->code;
    if (log->config.bytes_max && (log->config.max_age_days || log->config.max_backups || log->config.compress)) {
        log->has_tidier = true;
        log->to_tidy = true; /* what was left, with other flags perhaps */
        KP_ASSERT(pthread_create(&log->tidier, NULL, tidy, log) == 0);
    }
    return 0;
}

int audit_log_open(const struct audit_log_config *config, struct audit_output *ret_output, struct kp_error *error)
{
    struct log *log = kp_calloc(1, sizeof(*log));
    log->config = *config;
    log->config.path = log->path = kp_strdup(config->path);
    log->fd = -1;
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->work, NULL);
    if (open_path(log, error) < 0) {
        close_log(log);
        return kp_wrap(error, "--audit-log-path");
    }
    *ret_output = (struct audit_output){.name = "log", .write = write_events, .free = close_log, .self = log, .legacy = config->legacy, .quick = true};
    return 0;
}
