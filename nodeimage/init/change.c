/* Another bootstrap config for a machine that runs: certificates and manifests are replaced without a boot. */
#include <unistd.h>

#include "init_internal.h"

#define MANIFESTS "/etc/kubernetes/manifests/"

#define MANIFEST_NEW "/etc/kubernetes/.manifest"

/* Every file in the kubelet's folder is a pod to it, one that is half written too. */
static int write_whole(const struct init_file *file, struct kp_error *error)
{
    if (!kp_starts_with(file->path, MANIFESTS))
        return kp_write_file(file->path, file->data, file->len, file->mode, error);
    int r = kp_write_file(MANIFEST_NEW, file->data, file->len, file->mode, error);
    if (r == 0 && rename(MANIFEST_NEW, file->path) < 0)
        r = kp_fail_errno(error, "rename %s to %s", MANIFEST_NEW, file->path);
    return r;
}

static int change_file(const struct init_file *file, bool *ret_changed, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf there = {0};
    *ret_changed = false;
    int r = kp_read_file(file->path, INIT_BOOTSTRAP_MAX, &there, error);
    if (r == 0 && there.len == file->len && (file->len == 0 || memcmp(there.data, file->data, file->len) == 0))
        return 0;
    if (r < 0 && r != KP_ENOTFOUND && r != KP_ETOOLARGE)
        return r;
    KP_AUTO_FREE char *parent = kp_strdup(file->path);
    *strrchr(parent, '/') = 0;
    r = *parent ? kp_mkdir_p(parent, 0755, error) : 0;
    *ret_changed = r == 0;
    return r < 0 ? r : write_whole(file, error);
}

int init_change(const struct init_config *config, size_t *ret_changed, struct kp_error *error)
{
    char name[65] = "";
    *ret_changed = 0;
    if (gethostname(name, sizeof(name) - 1) < 0)
        return kp_fail_errno(error, "ask for the host name");
    if (!kp_streq(name, config->hostname))
        return kp_fail(error, KP_EINVALID, "the config is for %s, this is %s", config->hostname, name);
    for (int manifests = 0; manifests < 2; manifests++) {
        for (size_t i = 0; i < config->n_files; i++) {
            const struct init_file *file = &config->files[i];
            bool changed = false;
            if (kp_starts_with(file->path, MANIFESTS) != (manifests == 1))
                continue;
            int r = change_file(file, &changed, error);
            if (r < 0)
                return r;
            *ret_changed += changed;
        }
    }
    return 0;
}

static int read_stdin(struct kp_buf *out, struct kp_error *error)
{
    char chunk[65536];
    for (ssize_t n; (n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0;) {
        if (n < 0)
            return kp_fail_errno(error, "read the config");
        kp_buf_append(out, chunk, (size_t)n);
        if (out->len > INIT_BOOTSTRAP_MAX)
            return kp_fail(error, KP_ETOOLARGE, "the config is larger than %zu bytes", INIT_BOOTSTRAP_MAX);
    }
    return 0;
}

int init_change_from_stdin(struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct init_config config;
    size_t changed = 0;
    int r = read_stdin(&text, error);
    if (r == 0)
        r = init_config_parse(text.data ? text.data : "", text.len, arena, &config, error);
    if (r == 0)
        r = init_change(&config, &changed, error);
    if (r == 0)
        printf("%zu files changed\n", changed);
    return r;
}
