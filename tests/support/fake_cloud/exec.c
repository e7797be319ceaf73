/* Commands in machines of the fake cloud. What changes a machine that runs is handed to the machine's process as a file, which it takes away when
 * it is done; anything else runs on this host, with the machine's folders. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/fake_cloud/fake_cloud_internal.h"

#define DONE_MS_MAX 20000
#define POLL_MS 5
#define INPUT_MAX CLOUD_USER_DATA_MAX

static int read_input(int fd, struct kp_buf *out, struct kp_error *error)
{
    char chunk[65536];
    for (ssize_t n; (n = read(fd, chunk, sizeof(chunk))) != 0;) {
        if (n < 0)
            return kp_fail_errno(error, "read the command's input");
        if (out->len + (size_t)n > INPUT_MAX)
            return kp_fail(error, KP_ETOOLARGE, "the command's input is too long");
        kp_buf_append(out, chunk, (size_t)n);
    }
    return 0;
}

/* kp_write_file writes beside the place and renames: the machine sees it whole. */
static int hand_over(const char *dir, const char *file, int input, struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf data = {0};
    snprintf(path, sizeof(path), "%.3900s/%s", dir, file);
    int r = input < 0 ? 0 : read_input(input, &data, error);
    if (r == 0)
        r = kp_write_file(path, data.data ? data.data : "", data.len, 0600, error);
    for (int64_t deadline_ms = kp_mono_ms() + DONE_MS_MAX; r == 0 && kp_path_exists(path); kp_sleep_ms(POLL_MS)) {
        if (!fake_machine_runs(dir))
            r = kp_fail(error, KP_EUNAVAILABLE, "the machine has gone off");
        else if (kp_mono_ms() > deadline_ms)
            r = kp_fail(error, KP_ETIMEOUT, "the machine does not take %s", file);
    }
    return r;
}

/* The machine's own folders are below its root: what the words say of them is said of those. Programs are this host's. */
static const char *translate(const char *dir, const char *word, struct kp_arena *arena)
{
    static const char *const folders[] = {"/etc/", "/var/", "/run/", "/proc/"};
    KP_AUTO_BUF struct kp_buf out = {0};
    for (const char *at = word; *at;) {
        size_t f = 0;
        while (f < KP_ARRAY_LEN(folders) && !kp_starts_with(at, folders[f]))
            f++;
        if (f < KP_ARRAY_LEN(folders) && (at == word || !isalnum((unsigned char)at[-1]))) {
            kp_buf_printf(&out, "%s/root%s", dir, folders[f]);
            at += strlen(folders[f]);
        } else {
            kp_buf_append(&out, at++, 1);
        }
    }
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

/* What the command says, with the machine's own paths again. */
static int pass_output(const char *dir, int from, int to, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf said = {0}, out = {0};
    char root[PATH_MAX];
    snprintf(root, sizeof(root), "%.4000s/root/", dir);
    int r = read_input(from, &said, error);
    for (const char *at = said.data, *end = said.data + said.len; r == 0 && at < end;) {
        const char *found = memmem(at, (size_t)(end - at), root, strlen(root)), *until = found ? found : end;
        kp_buf_append(&out, at, (size_t)(until - at));
        if (found)
            kp_buf_putc(&out, '/');
        at = found ? found + strlen(root) : end;
    }
    for (size_t done = 0; r == 0 && done < out.len;) {
        ssize_t n = write(to, out.data + done, out.len - done);
        if (n < 0)
            return kp_fail_errno(error, "pass on what the command says");
        done += (size_t)n;
    }
    return r;
}

static int run(const char *dir, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    size_t n = 1;
    int status = 0;
    while (exec->argv[n])
        n++;
    const char **argv = KP_NEW_ARRAY(arena, const char *, n + 1);
    argv[0] = exec->argv[0];
    for (size_t i = 1; i < n; i++)
        argv[i] = translate(dir, exec->argv[i], arena);
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return kp_fail_errno(error, "make a pipe");
    KP_AUTO_CLOSE int from = pipes[0], to = pipes[1];
    pid_t pid = fork();
    if (pid < 0)
        return kp_fail_errno(error, "fork");
    if (pid == 0) {
        if (dup2(exec->stdin_fd, 0) >= 0 && dup2(to, 1) >= 0 && dup2(exec->stderr_fd, 2) >= 0)
            execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    kp_close_fd(&to);
    int r = pass_output(dir, from, exec->stdout_fd, error);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return kp_fail_errno(error, "wait for %s", exec->argv[0]);
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}

static int exec_now(const struct world *world, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    char dir[PATH_MAX];
    fake_path(world, uid, "machines", name, dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    if (!fake_machine_runs(dir))
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s is off", name);
    *ret_status = 0;
    if (kp_ends_with(exec->argv[0], "/kprov-init") && kp_streq(exec->argv[1], "apply"))
        return hand_over(dir, "apply", exec->stdin_fd, error);
    if (kp_streq(exec->argv[0], "sh") && kp_streq(exec->argv[1], "-c") && kp_streq(exec->argv[2], "kill -HUP 1"))
        return hand_over(dir, "hup", -1, error);
    return run(dir, exec, ret_status, error);
}

int fake_machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_exec", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, exec_now(state, uid, name, exec, ret_status, error), error);
}
