/* What the files of the fake cloud's driver share: the world as folders, and the calls beyond machines. */
#ifndef TEST_FAKE_CLOUD_INTERNAL_H
#define TEST_FAKE_CLOUD_INTERNAL_H

#include <limits.h>

#include "tests/support/fake_cloud/fake_cloud.h"

struct world {
    char dir[PATH_MAX / 2];
};

/* ---- fake_cloud.c */
int fake_lock(const struct world *world, int *ret_fd, struct kp_error *error); /* until the descriptor is closed */
/* <dir>/<uid>[/<folder>[/<name>]] */
void fake_path(const struct world *world, const char *uid, const char *folder, const char *name, char out[PATH_MAX]);
/* The names in a folder, sorted; a folder that is not there has none. */
int fake_list(const char *path, struct kp_strings *ret, struct kp_error *error);
int fake_read_network(const struct world *world, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int fake_read_machine(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret,
                      struct kp_error *error);
/* The address that is kept for the name, a free one when there is none yet, or the one wanted (KP_EINVALID when somebody else has it). Under the lock. */
int fake_address_keep(const struct world *world, const char *uid, const char *name, const char *wanted, struct kp_arena *arena, const char **ret,
                      struct kp_error *error);
int fake_remove(const char *path, struct kp_error *error); /* a file; one that is not there is fine */

/* ---- services.c */
int fake_check_type(const char *type, struct kp_error *error); /* "" is the default */
int fake_check(void *state, const struct cloud_wish *wish, struct kp_error *error);
int fake_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error);
int fake_image_ensure(void *state, const char *image, struct kp_error *error);
int fake_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);
int fake_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret, struct kp_error *error);
int fake_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error);
int fake_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error);
int fake_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);
int fake_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error);
int fake_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);

/* ---- exec.c */
int fake_machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error);

/* ---- balancers.c */
int fake_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int fake_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int fake_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                         struct kp_error *error);
int fake_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error);
int fake_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error);

#endif
