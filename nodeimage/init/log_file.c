/* A service's log file with a size bound: when full it becomes name.log.1 and a new one begins. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init_internal.h"

static int open_log(struct init_log *log, struct kp_error *error)
{
    struct stat st;
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (log->fd < 0)
        return kp_fail_errno(error, "open %s", log->path);
    log->size = fstat(log->fd, &st) == 0 ? (size_t)st.st_size : 0;
    return 0;
}

int init_log_open(struct init_log *log, const char *dir, const char *name, size_t size_max, struct kp_error *error)
{
    int r = kp_mkdir_p(dir, 0755, error);
    if (r < 0)
        return r;
    log->size_max = size_max;
    if ((size_t)snprintf(log->path, sizeof(log->path), "%s/%s.log", dir, name) >= sizeof(log->path))
        return kp_fail(error, KP_EINVALID, "log path %s/%s.log is too long", dir, name);
    return open_log(log, error);
}

static void rotate(struct init_log *log)
{
    char old[sizeof(log->path) + 2];
    snprintf(old, sizeof(old), "%s.1", log->path);
    kp_close_fd(&log->fd);
    struct kp_error error = {0};
    if (rename(log->path, old) < 0 || open_log(log, &error) < 0)
        kp_warn("log rotation failed; the log is dropped from here", "path", log->path, "error", error.message, NULL);
}

void init_log_write(struct init_log *log, const void *data, size_t len)
{
    if (log->size > 0 && log->size + len > log->size_max)
        rotate(log);
    const char *p = data;
    while (log->fd >= 0 && len > 0) {
        ssize_t n = write(log->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a full disk must not stop the node: the lines are lost, the service runs on */
        p += n;
        len -= (size_t)n;
        log->size += (size_t)n;
    }
}

void init_log_close(struct init_log *log)
{
    kp_close_fd(&log->fd);
}
