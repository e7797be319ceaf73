/* Files over SSH as the streams of a shell: a whole file under its name, or none. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh/ssh_internal.h"

#define NOT_THERE 44 /* exit status by which the script says that there is no such file */

/* The bytes are counted before the file gets its name: a connection that breaks looks like the end of the input there. */
static void upload_line(const char *prefix, const char *path, unsigned mode, size_t len, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf script = {0}, quoted = {0};
    char size[24], bits[8];
    snprintf(size, sizeof(size), "%zu", len);
    snprintf(bits, sizeof(bits), "%04o", mode);
    sshc_quote(&quoted, path);
    kp_buf_printf(&script,
                  "umask 077; f=%s; t=$f.$$.tmp; trap 'rm -f \"$t\"' EXIT; cat > \"$t\" || exit 1; n=$(wc -c < \"$t\"); "
                  "[ \"$n\" -eq %s ] || { echo \"only $n of %s bytes came\" >&2; exit 1; }; "
                  "chmod %s \"$t\" && mv -f \"$t\" \"$f\"",
                  quoted.data, size, size, bits);
    kp_buf_printf(out, "%ssh -c ", prefix ? prefix : "");
    sshc_quote(out, script.data);
}

static int run_copy(struct sshc *ssh, struct sshc_command *command, const char *what, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    command->err_out = &complaint;
    int r = sshc_run(ssh, command, &status, error);
    if (r < 0)
        return kp_wrap(error, "%s %s", what, path);
    while (complaint.len && complaint.data[complaint.len - 1] == '\n')
        complaint.data[--complaint.len] = 0;
    if (status == NOT_THERE)
        return kp_fail(error, KP_ENOTFOUND, "ssh %s: %s %s: there is no such file", ssh->name, what, path);
    if (status != 0)
        return kp_fail(error, KP_EIO, "ssh %s: %s %s: %s", ssh->name, what, path, complaint.len ? complaint.data : "it failed");
    return 0;
}

int sshc_upload(struct sshc *ssh, const char *prefix, const void *data, size_t len, const char *path, unsigned mode,
                int64_t timeout_ms, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    upload_line(prefix, path, mode, len, &line);
    struct sshc_command command = {.line = line.data, .input = len ? data : "", .input_len = len, .stdin_fd = -1, .stdout_fd = -1,
                                   .stderr_fd = -1, .timeout_ms = timeout_ms};
    return run_copy(ssh, &command, "write", path, error);
}

int sshc_upload_fd(struct sshc *ssh, const char *prefix, int fd, const char *path, unsigned mode, int64_t timeout_ms,
                   struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    struct stat st;
    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return kp_fail_errno(error, "copy to %s: look at the file", path);
    if (!S_ISREG(st.st_mode))
        return kp_fail(error, KP_EINVALID, "copy to %s: only regular files have a size to check", path);
    upload_line(prefix, path, mode, (size_t)st.st_size, &line);
    struct sshc_command command = {.line = line.data, .stdin_fd = fd, .stdout_fd = -1, .stderr_fd = -1, .timeout_ms = timeout_ms};
    return run_copy(ssh, &command, "write", path, error);
}

int sshc_download(struct sshc *ssh, const char *prefix, const char *path, size_t max, int64_t timeout_ms, struct kp_buf *out,
                  struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0}, script = {0}, quoted = {0};
    size_t limit = KP_MIN(max, SSHC_OUTPUT_MAX - 1);
    sshc_quote(&quoted, path);
    /* One byte more than allowed tells that there is more. */
    kp_buf_printf(&script, "f=%s; [ -e \"$f\" ] || exit %d; [ -r \"$f\" ] && exec head -c %zu -- \"$f\"; echo \"may not be read\" >&2; exit 1",
                  quoted.data, NOT_THERE, limit + 1);
    kp_buf_printf(&line, "%ssh -c ", prefix ? prefix : "");
    sshc_quote(&line, script.data);
    KP_AUTO_BUF struct kp_buf content = {0};
    struct sshc_command command = {
        .line = line.data, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .out = &content, .timeout_ms = timeout_ms};
    int r = run_copy(ssh, &command, "read", path, error);
    if (r == 0 && content.len > limit)
        return kp_fail(error, KP_ETOOLARGE, "ssh %s: read %s: it has more than %zu bytes", ssh->name, path, limit);
    if (r == 0 && content.len)
        kp_buf_append(out, content.data, content.len);
    return r;
}
