/* Between clone and exec: a new machine's namespaces, root and devices. Runs system calls only, since the process that
   was cloned may have had other threads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

static _Noreturn void fail_child(int report, const char *what, const char *on)
{
    int saved = errno;
    dprintf(report, "%s %s: %s", what, on, strerror(saved));
    _exit(1);
}

/* Copies the bootstrap config into the machine: a file of its own, gone with its /run. */
static void copy_user_data(const struct local_spawn *spawn, int report)
{
    char chunk[65536];
    int from = open(spawn->user_data, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        fail_child(report, "open", spawn->user_data);
    if (mkdir("run/kprov", 0700) < 0 && errno != EEXIST)
        fail_child(report, "create", "/run/kprov");
    int to = open("run/kprov/bootstrap.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        fail_child(report, "create", "/run/kprov/bootstrap.json");
    for (ssize_t n; (n = read(from, chunk, sizeof(chunk))) != 0;) {
        if (n < 0 || write(to, chunk, (size_t)n) != n)
            fail_child(report, "copy", spawn->user_data);
    }
    close(from);
    close(to);
}

static void make_root(const struct local_spawn *spawn, int report)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail_child(report, "make private", "/");
    if (mount("overlay", spawn->root, "overlay", 0, spawn->overlay_options) < 0)
        fail_child(report, "mount the image on", spawn->root);
    if (chdir(spawn->root) < 0)
        fail_child(report, "enter", spawn->root);
    for (size_t i = 0; i < spawn->n_binds; i++) {
        if (mkdir(spawn->binds[i].target, 0755) < 0 && errno != EEXIST)
            fail_child(report, "create", spawn->binds[i].target);
        if (mount(spawn->binds[i].source, spawn->binds[i].target, NULL, MS_BIND, NULL) < 0)
            fail_child(report, "bind", spawn->binds[i].source);
    }
    if (mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
        fail_child(report, "mount a tmpfs on", "/run");
    copy_user_data(spawn, report);
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        fail_child(report, "mount", "/proc");
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        fail_child(report, "pivot to", spawn->root);
    /* The old root now lies over the new one at "/" (pivot_root(2), "pivot_root(".", ".")"). */
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        fail_child(report, "let go of", "the host's root");
}

static void set_stdio(const struct local_spawn *spawn, int report)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int console = open(spawn->console, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (null < 0 || console < 0)
        fail_child(report, "open", spawn->console);
    if (dup2(null, 0) < 0 || dup2(console, 1) < 0 || dup2(console, 2) < 0)
        fail_child(report, "redirect to", spawn->console);
}

/* Both ends included; descriptors below 3 stay. */
static void close_from_to(unsigned first, unsigned last, int report)
{
    first = KP_MAX(first, 3u);
    if (first <= last && syscall(SYS_close_range, first, last, 0) < 0)
        fail_child(report, "close", "inherited descriptors");
}

static void close_all_but(int release, int report)
{
    unsigned low = (unsigned)KP_MIN(release, report), high = (unsigned)KP_MAX(release, report);
    if (low > 0)
        close_from_to(0, low - 1, report);
    close_from_to(low + 1, high - 1, report);
    close_from_to(high + 1, ~0U, report);
}

static _Noreturn void child(const struct local_spawn *spawn, int release, int report)
{
    static char *const environment[] = {"container=kprov", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", NULL};
    char go = 0;
    sigset_t none;
    for (int signum = 1; signum < NSIG; signum++)
        signal(signum, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* First of all what other threads had open: the pipes by which other machines are released, whose children would wait for this one as
       this one for them when kprov is killed, and locks. */
    close_all_but(release, report);
    /* End of file: the one who made this machine died before it was whole. */
    if (read(release, &go, 1) != 1)
        _exit(1);
    setsid();
    umask(022);
    set_stdio(spawn, report);
    if (unshare(CLONE_NEWCGROUP) < 0)
        fail_child(report, "make", "a cgroup namespace");
    make_root(spawn, report);
    char *const argv[] = {(char *)spawn->init, NULL};
    execve(spawn->init, argv, environment);
    fail_child(report, "run", spawn->init);
}

int local_spawn(const struct local_spawn *spawn, pid_t *ret_pid, int *ret_release, int *ret_report,
                struct kp_error *error)
{
    int release[2], report[2];
    if (pipe2(release, O_CLOEXEC) < 0)
        return kp_fail_errno(error, "make a pipe");
    if (pipe2(report, O_CLOEXEC) < 0) {
        int r = kp_fail_errno(error, "make a pipe");
        close(release[0]);
        close(release[1]);
        return r;
    }
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        close(release[1]);
        close(report[0]);
        child(spawn, release[0], report[1]);
    }
    int r = pid < 0 ? kp_fail_errno(error, "make a machine's namespaces") : 0;
    close(release[0]);
    close(report[1]);
    if (r < 0) {
        close(release[1]);
        close(report[0]);
        return r;
    }
    *ret_pid = pid;
    *ret_release = release[1];
    *ret_report = report[0];
    return 0;
}
