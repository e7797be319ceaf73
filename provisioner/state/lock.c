/* One command at a time changes a cluster. The kernel holds the lock, so that it ends with its process however that ends; the
 * file says whose it is: a line each of process, time and command. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provisioner/state/state_internal.h"

/* A child of a killed kprov, about to end or to run something else, may hold the lock a moment longer. */
#define WAIT_MS 1000
#define POLL_MS 10
#define FILE_MAX 4096
#define COMMAND_MAX 1024

static int read_wait(int64_t *ret_ms, struct kp_error *error)
{
    const char *text = getenv(STATE_LOCK_TIMEOUT_ENV);
    int64_t ns = 0;
    *ret_ms = WAIT_MS;
    if (kp_empty(text))
        return 0;
    if (kp_parse_duration_ns(text, &ns) < 0 || ns < 0)
        return kp_fail(error, KP_EINVALID, STATE_LOCK_TIMEOUT_ENV " is \"%s\": must be a time such as 30s or 5m", text);
    *ret_ms = ns / 1000000;
    return 0;
}

/* "process 77 since 2026-11-21T10:00:00Z: kprov scale ..." */
static void describe_holder(int fd, struct kp_buf *out)
{
    char text[FILE_MAX];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = 0;
    char *rest = text, *pid = strsep(&rest, "\n"), *since = strsep(&rest, "\n"), *command = strsep(&rest, "\n");
    if (kp_empty(command))
        kp_buf_puts(out, "another process, which has not yet said what it is");
    else
        kp_buf_printf(out, "process %s since %s: %s", pid, since, command);
}

static void describe_self(struct kp_buf *out)
{
    char now[KP_RFC3339_MAX];
    KP_AUTO_BUF struct kp_buf command = {0};
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    if (kp_read_file("/proc/self/cmdline", COMMAND_MAX * 64, &command, NULL) < 0 || !command.data)
        kp_buf_puts(&command, "?");
    for (size_t i = 0; i + 1 < command.len; i++)
        if ((unsigned char)command.data[i] < ' ')
            command.data[i] = ' ';
    kp_buf_printf(out, "%d\n%s\n%.*s\n", (int)getpid(), now, COMMAND_MAX, command.data);
}

static int wait_for(const struct state *state, int fd, struct kp_error *error)
{
    int64_t wait_ms = 0, deadline_ms = 0, told_ms = 0;
    int r = read_wait(&wait_ms, error);
    if (r < 0)
        return r;
    deadline_ms = kp_mono_ms() + wait_ms;
    told_ms = kp_mono_ms() + WAIT_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        KP_AUTO_BUF struct kp_buf holder = {0};
        if (errno != EWOULDBLOCK && errno != EINTR)
            return kp_fail_errno(error, "lock the state of cluster %s", state->name);
        describe_holder(fd, &holder);
        if (kp_mono_ms() >= deadline_ms)
            return kp_fail(error, KP_ECONFLICT, "cluster %s is being changed by %s; wait for it, or let this command wait with --lock-timeout 10m",
                           state->name, holder.data);
        if (told_ms && kp_mono_ms() >= told_ms) {
            fprintf(stderr, "Waiting for the lock of cluster %s, held by %s\n", state->name, holder.data);
            told_ms = 0;
        }
        kp_sleep_ms(POLL_MS);
    }
    return 0;
}

int state_lock(struct state *state, struct kp_error *error)
{
    char path[PATH_MAX];
    struct stat held, there;
    KP_AUTO_BUF struct kp_buf self = {0};
    snprintf(path, sizeof(path), "%s/lock", state->dir);
    state->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (state->lock_fd < 0)
        return errno == ENOENT ? KP_EAGAIN : kp_fail_errno(error, "open %s", path);
    int r = wait_for(state, state->lock_fd, error);
    if (r < 0)
        return r;
    /* The one waited for may have deleted the cluster: then this is the lock of nothing. */
    if (fstat(state->lock_fd, &held) < 0 || stat(path, &there) < 0 || held.st_ino != there.st_ino) {
        kp_close_fd(&state->lock_fd);
        return KP_EAGAIN;
    }
    describe_self(&self);
    if (ftruncate(state->lock_fd, 0) < 0 || pwrite(state->lock_fd, self.data, self.len, 0) != (ssize_t)self.len)
        return kp_fail_errno(error, "write %s", path);
    return 0;
}
