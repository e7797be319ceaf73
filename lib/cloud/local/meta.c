/* The driver's own notes on disk: key=value files, sorted folder listings, and the lock. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

#define META_BYTES_MAX 65536

void local_meta_add(struct local_meta *meta, const char *key, const char *value)
{
    KP_ASSERT(meta->len < KP_ARRAY_LEN(meta->keys));
    meta->keys[meta->len] = key;
    meta->values[meta->len++] = value ? value : "";
}

const char *local_meta_get(const struct local_meta *meta, const char *key)
{
    for (size_t i = 0; i < meta->len; i++) {
        if (kp_streq(meta->keys[i], key))
            return meta->values[i];
    }
    return "";
}

int local_meta_write(const char *path, const struct local_meta *meta, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    for (size_t i = 0; i < meta->len; i++) {
        if (strchr(meta->values[i], '\n'))
            return kp_fail(error, KP_EINVALID, "%s: a line break in %s", path, meta->keys[i]);
        kp_buf_printf(&text, "%s=%s\n", meta->keys[i], meta->values[i]);
    }
    return kp_write_file(path, text.data, text.len, 0644, error);
}

int local_meta_read(const char *path, struct kp_arena *arena, struct local_meta *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = kp_read_file(path, META_BYTES_MAX, &text, error);
    if (r < 0)
        return r;
    ret->len = 0;
    char *save = NULL, *copy = kp_arena_strndup(arena, text.data ? text.data : "", text.len);
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *equals = strchr(line, '=');
        if (!equals || ret->len == KP_ARRAY_LEN(ret->keys))
            return kp_fail(error, KP_ECORRUPT, "%s: not a list of key=value lines", path);
        *equals = 0;
        local_meta_add(ret, line, equals + 1);
    }
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int local_list_dir(const char *path, struct kp_strings *ret, struct kp_error *error)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "list %s", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!kp_streq(entry->d_name, ".") && !kp_streq(entry->d_name, ".."))
            kp_strings_add(ret, entry->d_name);
    }
    closedir(dir);
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), compare_names);
    return 0;
}

int local_lock(const struct local *local, int *ret_fd, struct kp_error *error)
{
    char path[PATH_MAX];
    int r = kp_mkdir_p(local->state_dir, 0755, error);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/lock", local->state_dir);
    KP_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return kp_fail_errno(error, "lock %s", path);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}
