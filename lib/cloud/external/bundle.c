/* Root trees as archives: made once beside the tree, sent once to a machine. Their names say what is in them. */
#include <fcntl.h>
#include <unistd.h>

#include "cloud/external/external_internal.h"

#define ARCHIVE_MS 600000
#define END_MARK ".kprov-bundle-end" /* the last member: an archive without it has come only in part */

static int make_archive(const char *tree, const char *path, bool zstd, struct kp_error *error)
{
    char mark_dir[] = "/tmp/kprov-bundle-XXXXXX";
    KP_AUTO_BUF struct kp_buf complaint = {0};
    if (!mkdtemp(mark_dir))
        return kp_fail_errno(error, "make a temporary folder");
    KP_AUTO_FREE char *mark = kp_asprintf("%s/" END_MARK, mark_dir);
    KP_AUTO_FREE char *temporary = kp_asprintf("%s.%d.tmp", path, (int)getpid());
    int status = 0;
    int r = kp_write_file(mark, "", 0, 0600, error);
    const char *const argv[] = {"tar", zstd ? "--use-compress-program=zstd -1 -T0" : "--use-compress-program=gzip -1",
                                "--numeric-owner", "--one-file-system", "-cf", temporary, "-C", tree, ".", "-C", mark_dir, END_MARK, NULL};
    if (r == 0)
        r = kp_run(argv, ARCHIVE_MS, NULL, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "pack %s: tar ended with %d: %s", tree, status, complaint.data ? complaint.data : "");
    if (r == 0 && rename(temporary, path) < 0)
        r = kp_fail_errno(error, "rename %s", temporary);
    unlink(temporary);
    struct kp_error ignored = {0}; /* a temporary folder that stays harms nobody */
    (void)!kp_remove_tree(mark_dir, &ignored);
    return r;
}

static int open_archive(struct external *external, const char *id, const char *tree, bool zstd, int *ret_fd, struct kp_error *error)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s/bundle.tar.%s", external->image_dir, id, zstd ? "zst" : "gz");
    int r = 0;
    pthread_mutex_lock(&external->bundle_lock);
    if (!kp_path_exists(path))
        r = make_archive(tree, path, zstd, error);
    pthread_mutex_unlock(&external->bundle_lock);
    if (r < 0)
        return r;
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? kp_fail_errno(error, "open %s", path) : 0;
}

int external_put_bundle(struct external *external, struct external_machine *machine, const char *id, const char *tree,
                        bool zstd, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0}, complaint = {0};
    KP_AUTO_CLOSE int fd = -1;
    struct sshc *ssh = NULL;
    int status = 0;
    const char *const ask[] = {"sh", EXTERNAL_SCRIPT, "has-bundle", id, NULL};
    const char *const put[] = {"sh", EXTERNAL_SCRIPT, "put-bundle", id, zstd ? "zstd" : "gzip", NULL};
    int r = external_connect(external, machine, &ssh, error);
    if (r < 0)
        return r;
    kp_buf_puts(&line, external_prefix(machine));
    sshc_quote_words(&line, ask);
    struct sshc_command command = {.line = line.data, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .err_out = &complaint,
                                   .timeout_ms = EXTERNAL_CALL_MS};
    r = sshc_run(ssh, &command, &status, error);
    if (r == 0 && status != 0) {
        r = open_archive(external, id, tree, zstd, &fd, error);
        line.len = 0;
        kp_buf_puts(&line, external_prefix(machine));
        sshc_quote_words(&line, put);
        command = (struct sshc_command){.line = line.data, .stdin_fd = fd, .stdout_fd = -1, .stderr_fd = -1, .err_out = &complaint,
                                        .timeout_ms = EXTERNAL_BUNDLE_MS};
        if (r == 0)
            r = sshc_run(ssh, &command, &status, error);
        if (r == 0 && status != 0)
            r = kp_fail(error, KP_EIO, "send %s to %s: %s", id, machine->config.address, complaint.len ? complaint.data : "no reason given");
    }
    if (r == 0)
        external_give_back(external, machine, ssh);
    else
        sshc_close(ssh);
    return r;
}
