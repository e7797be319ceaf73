/* One machine's node: what is there, checks, taking it, installing, commands in it. */
#include <sys/utsname.h>
#include <unistd.h>

#include "cloud/external/external_internal.h"

int external_status(struct external *external, struct external_machine *machine, struct kp_arena *arena,
                    struct external_status *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *const words[] = {"status", NULL};
    int64_t number = 0;
    memset(ret, 0, sizeof(*ret));
    if (external_run(external, machine, words, &text, NULL, error) < 0)
        return kp_wrap(error, "machine %s", machine->config.address);
    ret->uid = external_value(text.data, "uid", arena);
    ret->taken = *ret->uid != 0;
    ret->name = external_value(text.data, "name", arena);
    ret->role = external_value(text.data, "role", arena);
    ret->pool = external_value(text.data, "pool", arena);
    ret->image = external_value(text.data, "image", arena);
    ret->address = external_value(text.data, "address", arena);
    ret->created_s = kp_parse_i64(external_value(text.data, "created", arena), &number) == 0 ? number : 0;
    ret->pid = kp_parse_i64(external_value(text.data, "pid", arena), &number) == 0 ? number : 0;
    return 0;
}

static int may_be_root(struct external *external, struct external_machine *machine, bool *ret, struct kp_error *error)
{
    const struct sshc_command command = {.line = "sudo -n true", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1,
                                         .timeout_ms = EXTERNAL_CALL_MS};
    struct sshc *ssh = NULL;
    int status = 0;
    int r = external_connect(external, machine, &ssh, error);
    if (r == 0)
        r = sshc_run(ssh, &command, &status, error);
    *ret = status == 0;
    if (r == 0)
        external_give_back(external, machine, ssh);
    else
        sshc_close(ssh);
    return r;
}

int external_check(struct external *external, struct external_machine *machine, bool control_plane, struct kp_arena *arena,
                   struct kp_strings *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf facts = {0};
    const char *const words[] = {"facts", NULL};
    struct utsname own;
    bool root = true;
    int r = *external_prefix(machine) ? may_be_root(external, machine, &root, error) : 0;
    if (r < 0)
        return r;
    if (!root) {
        kp_strings_add(ret, kp_arena_printf(arena, "its user %s may not become root: let it use sudo without a password (NOPASSWD)",
                                            machine->config.user));
        return 0;
    }
    uname(&own);
    int64_t before = kp_now_s();
    r = external_run(external, machine, words, &facts, NULL, error);
    if (r < 0)
        return r;
    const struct external_wanted wanted = {
        .arch = own.machine, .control_plane = control_plane, .now_s = before, .clock_error_s = kp_now_s() - before};
    external_check_facts(facts.data, &wanted, arena, ret);
    return 0;
}

int external_claim(struct external *external, struct external_machine *machine, const char *uid, const char *name,
                   const char *role, const char *pool, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *const words[] = {"claim", uid, name, role, pool, NULL};
    int status = 0;
    int r = external_run(external, machine, words, &out, &status, error);
    if (r < 0)
        return r;
    return status == EXTERNAL_TAKEN ? kp_fail(error, KP_ECONFLICT, "machine %s is %s", machine->config.address, out.data ? out.data : "taken")
                                    : 0;
}

static int upload(struct external *external, struct external_machine *machine, const void *data, size_t len, const char *path,
                  unsigned mode, struct kp_error *error)
{
    struct sshc *ssh = NULL;
    int r = external_connect(external, machine, &ssh, error);
    if (r == 0)
        r = sshc_upload(ssh, external_prefix(machine), data, len, path, mode, EXTERNAL_CALL_MS, error);
    if (r == 0)
        external_give_back(external, machine, ssh);
    else
        sshc_close(ssh);
    return r;
}

int external_put_image(struct external *external, struct external_machine *machine, const char *image, struct kp_arena *arena,
                       const char **ret_base, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf facts = {0};
    char target[256];
    const char *const ask[] = {"facts", NULL};
    const char *dir = kp_arena_printf(arena, "%s/%s", external->image_dir, image);
    ssize_t n = readlink(kp_arena_printf(arena, "%s/base", dir), target, sizeof(target) - 1);
    if (n <= 0)
        return kp_fail(error, KP_ENOTFOUND, "node image \"%s\" is not in %s: run kprov image build", image, external->image_dir);
    target[n] = 0;
    const char *base = *ret_base = kp_arena_strdup(arena, strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
    int r = external_run(external, machine, ask, &facts, NULL, error);
    bool zstd = r == 0 && kp_streq(external_value(facts.data, "zstd", arena), "yes");
    if (r == 0)
        r = upload(external, machine, external_script, external_script_len(), EXTERNAL_SCRIPT, 0755, error);
    if (r == 0)
        r = external_put_bundle(external, machine, base, kp_arena_printf(arena, "%s/%s/rootfs", external->image_dir, base), zstd, error);
    return r < 0 ? r : external_put_bundle(external, machine, image, kp_arena_printf(arena, "%s/rootfs", dir), zstd, error);
}

int external_install(struct external *external, struct external_machine *machine, const struct cloud_machine_spec *spec,
                     struct kp_arena *arena, struct kp_error *error)
{
    static const char *const start[] = {"start", NULL};
    const char *base = NULL;
    int r = external_put_image(external, machine, spec->image, arena, &base, error);
    const char *const install[] = {"install", spec->image, base, spec->address, NULL};
    if (r == 0)
        r = upload(external, machine, spec->user_data, spec->user_data_len, EXTERNAL_HOME "/node/user-data", 0600, error);
    if (r == 0)
        r = external_run(external, machine, install, NULL, NULL, error);
    return r < 0 ? r : external_run(external, machine, start, NULL, NULL, error);
}

/* Beside the one that is in use; *ret_name of the file, in the arena. */
static int put_config(struct external *external, struct external_machine *machine, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                      const char **ret_name, struct kp_error *error)
{
    static const char *const ask[] = {"config-file", NULL};
    KP_AUTO_BUF struct kp_buf name = {0};
    int r = external_run(external, machine, ask, &name, NULL, error);
    if (r < 0)
        return r;
    *ret_name = kp_arena_strndup(arena, name.data ? name.data : "", name.data ? strcspn(name.data, "\n") : 0);
    if (!kp_streq(*ret_name, "user-data") && !kp_streq(*ret_name, "user-data.2"))
        return kp_fail(error, KP_ECORRUPT, "machine %s names \"%s\" for its bootstrap config", machine->config.address, *ret_name);
    return upload(external, machine, spec->user_data, spec->user_data_len, kp_arena_printf(arena, EXTERNAL_HOME "/node/%s", *ret_name), 0600, error);
}

/* All that takes time comes before the node is turned off. */
int external_reimage(struct external *external, struct external_machine *machine, const struct cloud_machine_spec *spec,
                     struct kp_arena *arena, struct kp_error *error)
{
    static const char *const stop[] = {"stop", NULL}, *const start[] = {"start", NULL};
    const char *base = NULL, *config = NULL;
    int r = external_put_image(external, machine, spec->image, arena, &base, error);
    if (r == 0)
        r = put_config(external, machine, spec, arena, &config, error);
    if (r < 0)
        return r;
    const char *const configure[] = {"configure", config, NULL}, *const reimage[] = {"reimage", spec->image, base, config, NULL};
    if (spec->at_next_boot)
        return external_run(external, machine, configure, NULL, NULL, error);
    r = external_run(external, machine, stop, NULL, NULL, error);
    if (r == 0)
        r = external_run(external, machine, reimage, NULL, NULL, error);
    return r < 0 ? r : external_run(external, machine, start, NULL, NULL, error);
}

int external_exec(struct external *external, struct external_machine *machine, int64_t pid, const struct cloud_exec *exec,
                  int *ret_status, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    struct sshc *ssh = NULL;
    kp_buf_printf(&line,
                  "%snsenter --target %lld --mount --uts --ipc --pid --cgroup -- /usr/bin/env -i container=kprov HOME=/root TERM=linux "
                  "PATH=/usr/lib/kprov/bin:/usr/sbin:/usr/bin:/sbin:/bin ",
                  external_prefix(machine), (long long)pid);
    sshc_quote_words(&line, exec->argv);
    const struct sshc_command command = {
        .line = line.data, .stdin_fd = exec->stdin_fd, .stdout_fd = exec->stdout_fd, .stderr_fd = exec->stderr_fd};
    int r = external_connect(external, machine, &ssh, error);
    if (r == 0)
        r = sshc_run(ssh, &command, ret_status, error);
    if (r == 0)
        external_give_back(external, machine, ssh);
    else
        sshc_close(ssh);
    return r;
}
