/* The folder of snapshots: what is in it, and what has to go. */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "provisioner/keeper/keeper.h"

int keeper_list(const char *path, const char *machine, struct keeper_file files[KEEPER_FILES_MAX], size_t *ret_n, struct kp_error *error)
{
    *ret_n = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "list %s", path);
    for (struct dirent *entry; *ret_n < KEEPER_FILES_MAX && (entry = readdir(dir));) {
        struct snapshot_scheduled found;
        if (snapshot_scheduled_parse(entry->d_name, &found) < 0 || !kp_streq(found.machine, machine))
            continue; /* another's: a folder may be shared */
        struct keeper_file *file = &files[(*ret_n)++];
        snprintf(file->name, sizeof(file->name), "%s", entry->d_name);
        file->taken_s = found.taken_s;
    }
    closedir(dir);
    return 0;
}

int keeper_clean(const struct keeper_config *config, const char *machine, struct kp_error *error)
{
    struct keeper_file *files = kp_calloc(KEEPER_FILES_MAX, sizeof(*files));
    size_t n = 0;
    int r = keeper_list(config->dir, machine, files, &n, error);
    for (size_t i = r == 0 ? keeper_kept(config, files, n) : 0; r == 0 && i < n; i++) {
        KP_AUTO_FREE char *path = kp_asprintf("%s/%s", config->dir, files[i].name);
        if (unlink(path) < 0 && errno != ENOENT)
            r = kp_fail_errno(error, "remove %s", path);
    }
    free(files);
    KP_AUTO_FREE char *part = kp_asprintf("%s/.%s.part", config->dir, machine);
    if (r == 0 && unlink(part) < 0 && errno != ENOENT && errno != ENOTDIR)
        r = kp_fail_errno(error, "remove %s", part);
    return r;
}
