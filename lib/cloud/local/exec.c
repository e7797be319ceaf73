/* Runs a command inside a machine: joins its cgroups and every namespace of its init. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

static _Noreturn void run_inside(const struct cloud_exec *exec)
{
    static char *const environment[] = {"container=kprov", "HOME=/root",
                                        "PATH=/usr/lib/kprov/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", NULL};
    if (chdir("/") < 0 || dup2(exec->stdin_fd, 0) < 0 || dup2(exec->stdout_fd, 1) < 0 || dup2(exec->stderr_fd, 2) < 0)
        _exit(126);
    environ = (char **)environment;
    execvp(exec->argv[0], (char *const *)exec->argv);
    dprintf(2, "kprov: run %s: %s\n", exec->argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static int wait_status(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int local_exec(pid_t pid, const struct local_cgroups *cgroups, const char *uid, const char *name,
               const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    int fds[2];
    KP_AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return kp_fail_errno(error, "open process %d", (int)pid);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return kp_fail_errno(error, "make a pipe");
    pid_t child = fork();
    if (child == 0) {
        char go = 0;
        close(fds[1]);
        if (read(fds[0], &go, 1) != 1)
            _exit(126);
        if (setns(pidfd, CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS) < 0)
            _exit(126);
        /* Only a child of this one is in the PID namespace (pid_namespaces(7)). */
        pid_t inside = fork();
        if (inside == 0)
            run_inside(exec);
        _exit(inside < 0 ? 126 : wait_status(inside));
    }
    close(fds[0]);
    int r = child < 0 ? kp_fail_errno(error, "fork") : local_cgroup_enter(cgroups, uid, name, child, error);
    if (r == 0 && write(fds[1], "g", 1) != 1)
        r = kp_fail_errno(error, "start the command");
    close(fds[1]);
    if (child > 0) {
        int status = wait_status(child);
        if (r == 0)
            *ret_status = status;
    }
    return r;
}
