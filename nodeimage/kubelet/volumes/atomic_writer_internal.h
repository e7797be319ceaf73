/* Writing a set of files into a volume so that readers see the old set or the new one, never a mixture. */
#ifndef VOLUMES_ATOMIC_WRITER_INTERNAL_H
#define VOLUMES_ATOMIC_WRITER_INTERNAL_H

#include "lib/base/base.h"

#define VOLUMES_FILES_MAX 10000
struct volumes_file {
    const char *path; /* relative to the volume, no "..", no leading "/" */
    struct kp_bytes data;
    uint32_t mode;
    int64_t uid; /* owner; -1: root */
};
struct volumes_files {
    struct volumes_file *items;
    size_t len;
};
/* True when path may be projected: relative, no ".." component, no first component that starts with "..". */
bool volumes_path_valid(const char *path);
/* Makes dir hold exactly these files: a new time-stamped folder, then the symlink "..data" swapped to it. Does nothing when
   the content is there already. gid -1: root's. *ret_changed may be NULL. */
int volumes_atomic_write(const char *dir, const struct volumes_files *files, int64_t gid, bool *ret_changed,
                         struct kp_error *error) KP_NODISCARD;

#endif
