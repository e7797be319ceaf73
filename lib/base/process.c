/* Runs a program to its end and collects what it prints. */
#include "lib/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_OUTPUT_MAX ((size_t)16 << 20)
#define RUN_CHUNK ((size_t)16384)

extern char **environ;

struct capture {
    int fd;             /* read end, non-blocking; -1 at the end */
    struct kp_buf *out; /* NULL: nothing is captured and fd is -1 */
    size_t start;       /* out->len before this run */
};

/* Reads what is there now. The output beyond the limit is read and dropped, so that the program does not block. */
static void capture_drain(struct capture *c)
{
    while (c->fd >= 0) {
        char chunk[RUN_CHUNK];
        ssize_t got = read(c->fd, chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            kp_close_fd(&c->fd);
            return;
        }
        size_t room = RUN_OUTPUT_MAX - KP_MIN(c->out->len - c->start, RUN_OUTPUT_MAX);
        kp_buf_append(c->out, chunk, KP_MIN((size_t)got, room));
    }
}

static int capture_open(struct capture *c, int *ret_write_fd, struct kp_error *error)
{
    if (!c->out)
        return 0;
    kp_buf_reserve(c->out, 0);
    c->start = c->out->len;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return kp_fail_errno(error, "pipe");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    c->fd = ends[0];
    *ret_write_fd = ends[1];
    return 0;
}

static int spawn(const char *const argv[], int out_fd, int err_fd, bool own_group, pid_t *ret_pid,
                 struct kp_error *error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (out_fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    if (err_fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, err_fd, 2);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (own_group) /* so that a time-out also reaches what the program started */
        flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setflags(&attributes, flags);
    posix_spawnattr_setpgroup(&attributes, 0);
    int number = posix_spawnp(ret_pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (number == 0)
        return 0;
    errno = number;
    return kp_fail_errno(error, "run %s", argv[0]);
}

/* Waits until the program ended, collecting output; false when the deadline came first. */
static bool collect(struct capture c[2], int pid_fd, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms ? deadline_ms - kp_mono_ms() : 60000;
        if (deadline_ms && left <= 0)
            return false;
        struct pollfd fds[3] = {
            {.fd = pid_fd, .events = POLLIN}, {.fd = c[0].fd, .events = POLLIN}, {.fd = c[1].fd, .events = POLLIN}};
        if (poll(fds, 3, (int)KP_MIN(left, (int64_t)60000)) < 0 && errno != EINTR)
            KP_ASSERT(!"poll failed");
        bool ended = fds[0].revents != 0;
        /* Only what is in the pipes when the program ends counts: a daemon it left may hold them open for ever. */
        capture_drain(&c[0]);
        capture_drain(&c[1]);
        if (ended)
            return true;
    }
}

static int reap(pid_t pid, int *ret_status, struct kp_error *error)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return kp_fail_errno(error, "wait for process %d", (int)pid);
    }
    *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 0;
}

int kp_run(const char *const argv[], int64_t timeout_ms, struct kp_buf *out, struct kp_buf *err_out, int *ret_status,
           struct kp_error *error)
{
    struct capture captures[2] = {{.fd = -1, .out = out}, {.fd = -1, .out = err_out}};
    KP_AUTO_CLOSE int out_fd = -1;
    KP_AUTO_CLOSE int err_fd = -1;
    KP_AUTO_CLOSE int pid_fd = -1;
    pid_t pid = 0;
    int rc = capture_open(&captures[0], &out_fd, error);
    if (rc == 0)
        rc = capture_open(&captures[1], &err_fd, error);
    if (rc == 0)
        rc = spawn(argv, out_fd, err_fd, timeout_ms > 0, &pid, error);
    if (rc < 0)
        goto out;
    kp_close_fd(&out_fd);
    kp_close_fd(&err_fd);
    bool ended = false;
    pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pid_fd < 0)
        rc = kp_fail_errno(error, "pidfd of %s", argv[0]);
    else
        ended = collect(captures, pid_fd, timeout_ms > 0 ? kp_mono_ms() + timeout_ms : 0);
    if (!ended)
        kill(timeout_ms > 0 ? -pid : pid, SIGKILL);
    int status = 0;
    if (rc == 0) {
        rc = reap(pid, &status, error);
    } else {
        int ignored;
        reap(pid, &ignored, NULL);
    }
    if (rc == 0 && !ended)
        rc = kp_fail(error, KP_ETIMEOUT, "run %s: killed, still running after %lld ms", argv[0],
                     (long long)timeout_ms);
    if (rc == 0 && ret_status)
        *ret_status = status;
out:
    kp_close_fd(&captures[0].fd);
    kp_close_fd(&captures[1].fd);
    return rc;
}
