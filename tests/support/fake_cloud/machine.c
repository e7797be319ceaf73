/* fake-machine DIR: a machine of the fake cloud as one process. It writes the files of its user data below DIR/root, runs what is to be run once
 * and the control plane's etcd and API server on its own loopback address, and plays the kubelet as far as a Node and its port go. Everything is in
 * its process group, which is killed when the power goes. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/fake_cloud/machine.h"

#define TICK_MS 20
#define NODE_EVERY_TICKS 10
#define USER_DATA_MAX ((size_t)4 << 20)
#define ONCE_MS_MAX 60000

/* The value of a flag in a command, or NULL. */
static const char *flag_of(const struct kp_value *command, const char *flag)
{
    size_t len = strlen(flag);
    for (size_t i = 0; command && i < command->array.len; i++) {
        const char *word = kp_value_str(command->array.items[i]);
        if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, flag, len) == 0 && word[len + 2] == '=')
            return word + len + 3;
    }
    return NULL;
}

static int write_files(struct machine *machine, const struct kp_value *files, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && files && i < files->array.len; i++) {
        const char *content = kp_value_str(kp_value_get(files->array.items[i], "content"));
        const char *path = kp_arena_printf(machine->arena, "%s%s", machine->root, kp_value_str(kp_value_get(files->array.items[i], "path")));
        bool coded = kp_streq(kp_value_str(kp_value_get(files->array.items[i], "encoding")), "base64");
        KP_AUTO_BUF struct kp_buf bytes = {0};
        if (coded && kp_base64_decode(&bytes, content, strlen(content)) < 0)
            return kp_fail(error, KP_EBADREQUEST, "%s is no base64", path);
        r = kp_mkdir_p(kp_arena_strndup(machine->arena, path, (size_t)(strrchr(path, '/') - path)), 0700, error);
        if (r == 0)
            r = kp_write_file(path, coded ? bytes.data : content, coded ? bytes.len : strlen(content), 0600, error);
    }
    return r;
}

/* A path of the machine as one of this host. */
static const char *translate(const struct machine *machine, const char *word)
{
    const char *programs = getenv("FAKE_CLOUD_PROGRAMS"), *lib = "/var/lib/", *bin = "/usr/lib/kprov/bin/";
    KP_AUTO_BUF struct kp_buf out = {0};
    while (*word) {
        if (kp_starts_with(word, lib)) {
            kp_buf_printf(&out, "%s%s", machine->root, lib);
            word += strlen(lib);
        } else if (kp_starts_with(word, bin)) {
            kp_buf_printf(&out, "%s/", programs ? programs : "");
            word += strlen(bin);
        } else {
            kp_buf_append(&out, word++, 1);
        }
    }
    return out.data ? kp_arena_strdup(machine->arena, out.data) : "";
}

/* As init does it: a command that has ended well is not run again. */
static int run_once(const struct machine *machine, const struct kp_value *list, struct kp_error *error)
{
    const char *dir = kp_arena_printf(machine->arena, "%s/var/lib/kprov/once", machine->root);
    int r = 0;
    for (size_t i = 0; r == 0 && list && i < list->array.len; i++) {
        const struct kp_value *command = kp_value_get(list->array.items[i], "command");
        const char **argv = KP_NEW_ARRAY(machine->arena, const char *, command->array.len + 1);
        const char *id = kp_value_str(kp_value_get(list->array.items[i], "id")), *done = kp_arena_printf(machine->arena, "%s/%s", dir, id);
        int status = 0;
        if (kp_path_exists(done))
            continue;
        for (size_t w = 0; w < command->array.len; w++)
            argv[w] = translate(machine, kp_value_str(command->array.items[w]));
        KP_AUTO_BUF struct kp_buf complaint = {0};
        r = kp_run(argv, ONCE_MS_MAX, NULL, &complaint, &status, error);
        if (r == 0 && status)
            r = kp_fail(error, KP_EIO, "%s ended with %d: %s", id, status, complaint.data ? complaint.data : "");
        if (r == 0)
            r = kp_mkdir_p(dir, 0700, error);
        if (r == 0)
            r = kp_write_file(done, "", 0, 0600, error);
    }
    return r;
}

/* What /proc has of the kubelet's process, for who looks at its command there. */
static int write_kubelet_process(const struct machine *machine, const struct kp_value *command, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    const char *dir = kp_arena_printf(machine->arena, "%s/proc/100", machine->root), *exe = kp_arena_printf(machine->arena, "%s/exe", dir);
    for (size_t i = 0; i < command->array.len; i++)
        kp_buf_append(&line, kp_value_str(command->array.items[i]), strlen(kp_value_str(command->array.items[i])) + 1);
    int r = kp_mkdir_p(dir, 0700, error);
    if (r == 0)
        r = kp_write_file(kp_arena_printf(machine->arena, "%s/cmdline", dir), line.data, line.len, 0600, error);
    return r == 0 && symlink("/usr/bin/kubelet", exe) < 0 && errno != EEXIST ? kp_fail_errno(error, "make %s", exe) : r;
}

static int read_user_data(struct machine *machine, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    int r = kp_read_file(kp_arena_printf(machine->arena, "%s/user-data", machine->dir), USER_DATA_MAX, &text, error);
    if (r == 0)
        r = kp_value_parse(text.data ? text.data : "", text.len, machine->arena, NULL, &root, error);
    if (r < 0)
        return r;
    machine->name = kp_value_str(kp_value_get(root, "hostname"));
    const char *address = kp_value_str(kp_value_path(root, "network", "address", NULL));
    machine->address = kp_arena_strndup(machine->arena, address, strcspn(address, "/"));
    const struct kp_value *services = kp_value_get(root, "services");
    for (size_t i = 0; i < services->array.len; i++) {
        const struct kp_value *command = kp_value_get(services->array.items[i], "command");
        if (!kp_streq(kp_value_str(kp_value_get(services->array.items[i], "name")), "kubelet"))
            continue;
        machine->node_labels = flag_of(command, "node-labels");
        machine->node_taints = flag_of(command, "register-with-taints");
        r = write_kubelet_process(machine, command, error);
        if (r < 0)
            return r;
    }
    r = write_files(machine, kp_value_get(root, "files"), error);
    return r < 0 ? r : run_once(machine, kp_value_get(root, "once"), error);
}

static int apply(struct machine *machine, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    int r = kp_read_file(path, USER_DATA_MAX, &text, error);
    if (r == 0)
        r = kp_value_parse(text.data ? text.data : "", text.len, machine->arena, NULL, &root, error);
    if (r == 0)
        r = write_files(machine, kp_value_get(root, "files"), error);
    machine_files_changed();
    return r < 0 ? r : machine_pods_reload(machine, error);
}

/* What exec.c leaves to be done; whether it was anything that changes pods. */
static bool obey(struct machine *machine)
{
    char new_files[PATH_MAX], restart[PATH_MAX];
    struct kp_error error = {0};
    snprintf(new_files, sizeof(new_files), "%s/apply", machine->dir);
    snprintf(restart, sizeof(restart), "%s/hup", machine->dir);
    bool applied = kp_path_exists(new_files);
    if (applied && apply(machine, new_files, &error) < 0)
        fprintf(stderr, "fake-machine %s: new files: %s\n", machine->name, error.message);
    if (applied)
        unlink(new_files);
    unlink(restart); /* who reads files anew at each handshake has nothing to do */
    return applied;
}

static void tend(struct machine *machine)
{
    struct machine_node *node = machine_node_new(machine);
    struct kp_error error = {0};
    for (unsigned tick = 0;; tick++) {
        machine_pods_tend(machine);
        if (obey(machine))
            machine_node_look(node);
        int r = 0;
        /* Often until the Node is there, then now and then. */
        static bool registered;
        if (!registered || tick % NODE_EVERY_TICKS == 0) {
            r = machine_node_tend(node, &error);
            registered |= r == 0;
        }
        if (r < 0 && tick % 50 == 0)
            fprintf(stderr, "fake-machine %s: %s\n", machine->name, error.message);
        kp_sleep_ms(TICK_MS);
    }
}

int main(int argc, char **argv)
{
    struct machine machine = {.arena = kp_arena_new(0)};
    struct kp_error error = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: fake-machine DIR\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    machine.dir = argv[1];
    machine.root = kp_arena_printf(machine.arena, "%s/root", machine.dir);
    int r = read_user_data(&machine, &error);
    if (r == 0)
        r = machine_pods_start(&machine, &error);
    if (r < 0) {
        fprintf(stderr, "fake-machine: %s\n", error.message);
        return 1;
    }
    machine_kubelet_start(&machine);
    if (machine.api_address) {
        machine_vip_start(&machine);
        machine_leases_start(&machine);
    }
    tend(&machine);
}
