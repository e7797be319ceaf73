/* What the cluster file's reader shares with its tables. */
#ifndef KPROV_CONFIG_INTERNAL_H
#define KPROV_CONFIG_INTERNAL_H

#include "provisioner/config/config.h"

struct config_reader {
    struct kp_arena *arena;
    const char *source;
    struct kp_error *error;
};
struct config_field {
    const char *name;
    int (*read)(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest);
    size_t offset;
    bool required;
};

/* ---- external.c */
int config_check_external(const struct config *config, struct kp_error *error);
struct kp_value *config_external_value(const struct config *config, struct kp_arena *arena);

/* ---- cloud.c */
void config_default_cloud(struct config_cloud *ret);
int config_check_cloud(const struct config *config, struct kp_error *error);
struct kp_value *config_cloud_value(const struct config *config, struct kp_arena *arena);

/* ---- snapshots.c */
int config_check_snapshots(const struct config *config, struct kp_error *error);
struct kp_value *config_etcd_value(const struct config *config, struct kp_arena *arena);

/* ---- time.c */
int config_check_time(const struct config *config, struct kp_error *error);

/* ---- audit.c */
int config_check_audit(const char *policy, const char *path, struct kp_error *error); /* KP_EINVALID with path and the field below it */
struct kp_value *config_audit_value(const struct config *config, struct kp_arena *arena);

/* ---- libvirt.c */
int config_check_libvirt(const struct config *config, struct kp_error *error);
struct kp_value *config_libvirt_value(const struct config *config, struct kp_arena *arena);

#endif
