/* kprov with the fake cloud: the shipped provisioner, with calls replaced by the linker's --wrap (see the Makefile). */
#include "provisioner/cli/cli.h"
#include "tests/support/fake_cloud/fake_cloud.h"

int __real_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error);
int __wrap_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error);
const char *const *__wrap_cloud_driver_names(void);
int __wrap_cli_image_ensure(struct kp_arena *arena, const char **ret_id, struct kp_error *error);
int __real_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error);
int __wrap_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error);

int __wrap_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
{
    if (kp_streq(name, cloud_driver_fake.name))
        return cloud_open_driver(&cloud_driver_fake, options, ret_cloud, error);
    return __real_cloud_open(name, options, ret_cloud, error);
}

const char *const *__wrap_cloud_driver_names(void)
{
    static const char *const names[] = {"fake", NULL};
    return names;
}

/* Machines of the fake cloud boot from no image. */
int __wrap_cli_image_ensure(struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    *ret_id = "node-fake";
    return 0;
}

int __wrap_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error)
{
    struct fake_call call;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = fake_call_begin("journal", kp_arena_printf(arena, "%s %s", intent, object), &call, error);
    return r < 0 ? r : fake_call_end(&call, __real_state_journal(state, intent, object, error), error);
}

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
