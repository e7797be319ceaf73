/* A disk image over SSH to the disk of a machine in Hetzner's rescue system: compressed on the way, read back and compared there. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/hetzner/hetzner_internal.h"
#include "ssh/ssh.h"
#include "tls/tls.h"

#define BOOT_MS 300000   /* that the rescue system may take to answer */
#define RETRY_MS 3000
#define WRITE_MS 1200000 /* for the whole disk */

extern char **environ;

static int digest_of(const char *path, char hex[TLS_SHA256_HEX_BYTES], int64_t *ret_bytes, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? kp_fail_errno(error, "%s", path) : tls_sha256_fd_hex(fd, path, hex, ret_bytes, error);
}

/* gzip reads the file and writes to *ret_fd; every rescue system can undo it. */
static int start_gzip(const char *path, pid_t *ret_pid, int *ret_fd, struct kp_error *error)
{
    char *const argv[] = {"gzip", "-1", "-c", (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return kp_fail_errno(error, "make a pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    errno = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (errno) {
        close(ends[0]);
        return kp_fail_errno(error, "start gzip");
    }
    *ret_fd = ends[0];
    return 0;
}

/* Its host key was made when it booted, and no other way tells it: whatever answers is taken for it. */
static int log_in(const char *address, const char *identity, struct sshc **ret, struct kp_error *error)
{
    const struct sshc_target target = {.host = address, .identity = identity, .first_use = true};
    for (int64_t until = kp_mono_ms() + BOOT_MS;; kp_sleep_ms(RETRY_MS)) {
        int r = sshc_connect(&target, ret, error);
        if (r == 0 || kp_mono_ms() > until)
            return r < 0 ? kp_wrap(error, "the rescue system does not let in") : 0;
    }
}

/* What was on the disk goes first: the snapshot shall not have it, nor a machine take it for data. A disk in use is no rescue system's. */
static const char script[] =
    "set -e; disk=/dev/sda; [ -e $disk ]; if grep -q \"^$disk\" /proc/mounts; then echo \"$disk is in use\" >&2; exit 1; fi; "
    "blkdiscard -f $disk 2>/dev/null || true; gzip -dc | dd of=$disk bs=4M iflag=fullblock conv=notrunc,fsync 2>/dev/null; "
    "dd if=/dev/zero of=$disk bs=1M seek=%lld count=16 conv=notrunc,fsync 2>/dev/null; sync; blockdev --flushbufs $disk 2>/dev/null || true; "
    "head -c %lld $disk | sha256sum";

static int send_disk(struct sshc *ssh, const char *path, long long bytes, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0}, said = {0};
    pid_t pid = 0;
    int fd = -1, status = 0, packed = 0;
    int r = start_gzip(path, &pid, &fd, error);
    if (r < 0)
        return r;
    kp_buf_printf(&line, script, (bytes + (1 << 20) - 1) >> 20, bytes);
    const struct sshc_command command = {.line = line.data, .stdin_fd = fd, .stdout_fd = -1, .stderr_fd = -1, .out = out, .err_out = &said, .timeout_ms = WRITE_MS};
    r = sshc_run(ssh, &command, &status, error);
    close(fd);
    while (waitpid(pid, &packed, 0) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return r;
    if (status != 0 || packed != 0)
        return kp_fail(error, KP_EIO, "writing the disk in the rescue system ended with status %d: %.200s", status ? status : packed, said.data ? said.data : "");
    return 0;
}

int hz_rescue_write(const char *address, const char *identity, const char *path, struct kp_error *error)
{
    KP_AUTO(sshc_close) struct sshc *ssh = NULL;
    KP_AUTO_BUF struct kp_buf out = {0};
    char wanted[TLS_SHA256_HEX_BYTES];
    int64_t bytes = 0;
    int r = digest_of(path, wanted, &bytes, error);
    if (r == 0)
        r = log_in(address, identity, &ssh, error);
    if (r == 0)
        r = send_disk(ssh, path, bytes, &out, error);
    if (r == 0 && (!out.data || strncmp(out.data, wanted, sizeof(wanted) - 1) != 0))
        r = kp_fail(error, KP_ECORRUPT, "what was written is not what was sent: its digest is %.64s, not %s", out.data ? out.data : "", wanted);
    return r;
}
