/* The static pods of a fake machine that matter to a provisioner, as plain processes. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/fake_cloud/machine.h"

#define WORDS_MAX 128
#define MANIFEST_MAX ((size_t)1 << 20)

static struct pod {
    const char *name;
    const char *argv[WORDS_MAX]; /* empty: this machine does not run it */
    pid_t pid;
} pods[] = {{.name = "etcd"}, {.name = "kube-apiserver"}};

/* Every `from` in the text becomes `to`. */
static const char *replace(struct machine *machine, const char *text, const char *from, const char *to)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (const char *found; (found = strstr(text, from)); text = found + strlen(from)) {
        kp_buf_append(&out, text, (size_t)(found - text));
        kp_buf_puts(&out, to);
    }
    kp_buf_puts(&out, text);
    return kp_arena_strndup(machine->arena, out.data, out.len);
}

/* Paths below the machine's root; one network namespace for all machines leaves each its address. */
static const char *translate(struct machine *machine, const char *word)
{
    word = replace(machine, word, "https://127.0.0.1:2379,", "");
    word = replace(machine, word, "127.0.0.1", machine->address);
    word = replace(machine, word, "=/etc/kubernetes/", kp_arena_printf(machine->arena, "=%s/etc/kubernetes/", machine->root));
    return replace(machine, word, "=/var/lib/etcd", kp_arena_printf(machine->arena, "=%s/var/lib/etcd", machine->root));
}

static int read_manifest(struct machine *machine, const char *name, const struct kp_value **ret_command, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value **documents = NULL;
    size_t count = 0;
    const char *path = kp_arena_printf(machine->arena, "%s/etc/kubernetes/manifests/%s.yaml", machine->root, name);
    *ret_command = NULL;
    if (!kp_path_exists(path))
        return 0;
    int r = kp_read_file(path, MANIFEST_MAX, &text, error);
    if (r == 0)
        r = kp_yaml_parse(text.data, text.len, machine->arena, &documents, &count, error);
    if (r == 0)
        *ret_command = kp_value_get(kp_value_at(kp_value_path(documents[0], "spec", "containers", NULL), 0), "command");
    return r < 0 ? kp_wrap(error, "%s", path) : 0;
}

static void start(struct machine *machine, struct pod *pod)
{
    pod->pid = fork();
    if (pod->pid != 0)
        return;
    execv(pod->argv[0], (char *const *)pod->argv);
    fprintf(stderr, "fake-machine: cannot run %s\n", pod->argv[0]);
    _exit(127);
}

int machine_pods_start(struct machine *machine, struct kp_error *error)
{
    const char *programs = getenv("FAKE_CLOUD_PROGRAMS");
    const struct kp_value *command = NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(pods); i++) {
        int r = read_manifest(machine, pods[i].name, &command, error);
        if (r < 0)
            return r;
        if (!command)
            continue;
        KP_ASSERT(command->array.len + 2 < WORDS_MAX);
        pods[i].argv[0] = kp_arena_printf(machine->arena, "%s/%s", programs ? programs : "", pods[i].name);
        for (size_t w = 1; w < command->array.len; w++)
            pods[i].argv[w] = translate(machine, kp_value_str(command->array.items[w]));
        if (kp_streq(pods[i].name, "kube-apiserver"))
            pods[i].argv[command->array.len] = kp_arena_printf(machine->arena, "--bind-address=%s", machine->address);
        start(machine, &pods[i]);
    }
    int r = read_manifest(machine, "kprov-vip", &command, error);
    for (size_t w = 0; r == 0 && command && w < command->array.len; w++)
        if (kp_starts_with(kp_value_str(command->array.items[w]), "--address="))
            machine->api_address = strchr(kp_value_str(command->array.items[w]), '=') + 1;
    return r;
}

void machine_pods_tend(struct machine *machine)
{
    int status = 0;
    for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (size_t i = 0; i < KP_ARRAY_LEN(pods); i++) {
            if (pods[i].pid != ended)
                continue;
            fprintf(stderr, "fake-machine %s: %s ended with status %x\n", machine->name, pods[i].name, (unsigned)status);
            start(machine, &pods[i]);
        }
    }
}
