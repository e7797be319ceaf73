/* Machines of the fake cloud that are on: processes that outlive the one who started them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/fake_cloud/fake_cloud.h"

#define KILL_MS_MAX 10000

/* All processes of a machine share an open file, and with it a lock that ends with the last of them. */
static int open_alive(const char *dir, int flags, struct kp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/alive", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
    return fd < 0 ? kp_fail_errno(error, "open %s", path) : fd;
}

bool fake_machine_runs(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/on", dir);
    KP_AUTO_CLOSE int fd = open_alive(dir, 0, NULL);
    return kp_path_exists(path) || (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0);
}

/* By the machine itself: the one who starts it may be killed at any time. */
static bool write_pid(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/pid", dir);
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return fd >= 0 && dprintf(fd, "%d\n", (int)getpid()) > 0;
}

static _Noreturn void become_machine(const char *program, const char *dir, int alive)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/console.log", dir);
    setsid();
    if (!write_pid(dir))
        _exit(1);
    int null = open("/dev/null", O_RDONLY), console = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (null < 0 || console < 0 || dup2(null, 0) < 0 || dup2(console, 1) < 0 || dup2(console, 2) < 0 || dup2(alive, 3) < 0)
        _exit(1);
    close_range(4, ~0U, 0);
    execl(program, program, dir, (char *)NULL);
    _exit(1);
}

/* Started by a child that ends at once, so that init reaps the machine. */
int fake_machine_start(const char *dir, struct kp_error *error)
{
    const char *program = getenv("FAKE_CLOUD_MACHINE");
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/on", dir);
    if (kp_empty(program))
        return kp_write_file(path, "", 0, 0600, error);
    KP_AUTO_CLOSE int alive = open_alive(dir, O_CREAT, error);
    if (alive < 0)
        return alive;
    if (flock(alive, LOCK_EX | LOCK_NB) < 0)
        return 0;
    int status = -1;
    pid_t middle = fork();
    if (middle == 0) {
        pid_t machine = fork();
        if (machine == 0)
            become_machine(program, dir, alive);
        _exit(machine < 0);
    }
    if (middle < 0 || waitpid(middle, &status, 0) != middle || status != 0)
        return kp_fail(error, KP_EIO, "the machine's process did not start");
    return 0;
}

/* The process group of a machine that runs, or 0. */
static pid_t read_pid(const char *dir)
{
    char path[PATH_MAX];
    int pid = 0;
    KP_AUTO_BUF struct kp_buf text = {0};
    snprintf(path, sizeof(path), "%s/pid", dir);
    return kp_read_file(path, 64, &text, NULL) == 0 && text.data && sscanf(text.data, "%d", &pid) == 1 && pid > 1 ? pid : 0;
}

int fake_machine_kill(const char *dir, struct kp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/on", dir);
    if (unlink(path) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "remove %s", path);
    for (int64_t deadline_ms = kp_mono_ms() + KILL_MS_MAX; fake_machine_runs(dir); kp_sleep_ms(2)) {
        pid_t pid = read_pid(dir);
        if (pid && kill(-pid, SIGKILL) < 0 && errno != ESRCH)
            return kp_fail_errno(error, "kill the machine's processes");
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "the machine's process %d does not end", (int)pid);
    }
    return 0;
}
