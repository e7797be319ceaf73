/* kprov with the fake cloud: the shipped provisioner, with calls replaced by the linker's --wrap (see the Makefile). */
#include "base/version.h"
#include "tests/faults/inspect.h"
#include "tests/support/fake_cloud/fake_cloud.h"

int __real_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error);
int __wrap_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error);
const char *const *__wrap_cloud_driver_names(void);
int __wrap_cli_image_ensure(struct kp_arena *arena, const char **ret_id, struct kp_error *error);
int __wrap_cli_image_version(const char *id, struct kp_arena *arena, const char **ret_version, struct kp_error *error);
int __real_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error);
int __wrap_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error);
int __real_state_journal_end(struct state *state, const char *intent, const char *object, int result, struct kp_error *error);
int __wrap_state_journal_end(struct state *state, const char *intent, const char *object, int result, struct kp_error *error);
int __real_kp_write_file(const char *path, const void *data, size_t len, unsigned mode, struct kp_error *error);
int __wrap_kp_write_file(const char *path, const void *data, size_t len, unsigned mode, struct kp_error *error);

int __wrap_cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
{
    if (kp_streq(name, cloud_driver_fake.name)) /* $FAKE_CLOUD_API: one with sizes, images, public addresses and load balancers */
        return cloud_open_driver(getenv("FAKE_CLOUD_API") ? &cloud_driver_fake_api : &cloud_driver_fake, options, ret_cloud, error);
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

int __wrap_cli_image_version(const char *id, struct kp_arena *arena, const char **ret_version, struct kp_error *error)
{
    *ret_version = kp_version;
    return 0;
}

int __wrap_state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error)
{
    struct fake_call call;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = fake_call_begin("journal", kp_arena_printf(arena, "%s %s", intent, object), &call, error);
    return r < 0 ? r : fake_call_end(&call, __real_state_journal(state, intent, object, error), error);
}

int __wrap_state_journal_end(struct state *state, const char *intent, const char *object, int result, struct kp_error *error)
{
    struct fake_call call;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = fake_call_begin("outcome", kp_arena_printf(arena, "%s %s", intent, object), &call, error);
    return r < 0 ? r : fake_call_end(&call, __real_state_journal_end(state, intent, object, result, error), error);
}

/* Files of the state: the disk is full, or the process is killed with half a file written, or right after it is in its place. */
int __wrap_kp_write_file(const char *path, const void *data, size_t len, unsigned mode, struct kp_error *error)
{
    const char *root = getenv("KPROV_STATE_DIR"), *name = strrchr(path, '/');
    struct fake_call call;
    if (kp_empty(root) || !kp_starts_with(path, root) || !name)
        return __real_kp_write_file(path, data, len, mode, error);
    int r = fake_call_begin("state_file", name + 1, &call, error);
    if (r < 0)
        return r;
    if (call.fault == FAKE_HALF) {
        KP_AUTO_FREE char *temporary = kp_asprintf("%s.Hal1Ft", path);
        r = __real_kp_write_file(temporary, data, len / 2, mode, error);
        KP_ASSERT(r == 0);
        fake_call_half(&call);
    }
    return fake_call_end(&call, __real_kp_write_file(path, data, len, mode, error), error);
}

int main(int argc, char **argv)
{
    struct kp_error error = {0};
    int r = 0;
    if (argc == 3 && kp_streq(argv[1], "inspect"))
        r = inspect(argv[2], &error);
    else if (argc == 4 && kp_streq(argv[1], "add-pod"))
        r = inspect_add_pod(argv[2], argv[3], &error);
    else
        return cli_main(argc, argv);
    if (r < 0)
        fprintf(stderr, "kprov: %s\n", error.message);
    return r < 0;
}
