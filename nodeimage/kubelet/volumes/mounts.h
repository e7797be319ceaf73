/* Mount points of volumes: what is mounted, options of mounts, unmounting, and the group that owns the files. */
#ifndef VOLUMES_MOUNTS_H
#define VOLUMES_MOUNTS_H

#include "lib/codec/codec.h"

/* Something is mounted on it; false when it does not exist. */
bool volumes_mounted(const char *path);
/* Unmounts everything below the folder, the deepest first. */
int volumes_unmount_below(const char *folder, struct kp_error *error) KP_NODISCARD;
/* The mount(2) flags of a volume's mountOptions; KP_EINVALID for one that a bind mount cannot have. Pure. */
int volumes_mount_flags(const struct kp_string_list *options, unsigned long *ret_flags, struct kp_error *error) KP_NODISCARD;
/* Binds the folder source to target, which is made, with flags as above. Does nothing when something is mounted there. */
int volumes_bind(const char *source, const char *target, unsigned long flags, struct kp_error *error) KP_NODISCARD;
/* Hands the tree to a group as fsGroup wants it; policy: fsGroupChangePolicy, may be NULL. Stays on one file system. */
int volumes_own(const char *path, int64_t gid, const char *policy, struct kp_error *error) KP_NODISCARD;

#endif
