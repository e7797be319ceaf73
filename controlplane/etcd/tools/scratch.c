/* Folders that are made aside, and a database in one of them. */
#include "controlplane/etcd/tools/tools_internal.h"

#include <fcntl.h>
#include <unistd.h>

#define IMPORT_BATCH_LIMIT INT64_MAX /* snapshot_import commits by bytes */
#define IMPORT_INTERVAL_MS 10000

/* The path without the slashes at its end. */
static char *trimmed(const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    return kp_strndup(path, len);
}

int scratch_beside(const char *path, const char *what, char **ret_path, struct kp_error *error)
{
    KP_AUTO_FREE char *base = trimmed(path);
    KP_AUTO_FREE char *scratch = kp_asprintf("%s.%s-XXXXXX", base, what);
    KP_AUTO_FREE char *parent = kp_strdup(base);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = '\0';
        int rc = kp_mkdir_p(parent, 0700, error);
        if (rc < 0)
            return rc;
    }
    if (!mkdtemp(scratch))
        return kp_fail_errno(error, "make a folder beside %s", base);
    *ret_path = KP_TAKE(scratch);
    return 0;
}

void scratch_remove(const char *path)
{
    struct kp_error error = {0};
    if (kp_remove_tree(path, &error) < 0)
        kp_warn("a scratch folder stays", "path", path, "err", error.message, NULL);
}

int sync_folder(const char *path, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? kp_fail_errno(error, "sync the folder %s", path) : 0;
}

int sync_parent(const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *parent = trimmed(path);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    return sync_folder(slash ? parent : ".", error);
}


int import_to(const char *path, struct snapshot_file *file, uint64_t bump, struct backend **ret_backend,
              struct kp_error *error)
{
    struct backend_options options = {
        .quota_bytes = -1, .batch_limit = IMPORT_BATCH_LIMIT, .batch_interval_ms = IMPORT_INTERVAL_MS};
    KP_AUTO(backend_close) struct backend *backend = NULL;
    int rc = backend_open(path, &options, &backend, error);
    if (rc < 0 || (rc = snapshot_import(file, backend, bump, error)) < 0)
        return rc;
    *ret_backend = KP_TAKE(backend);
    return 0;
}
