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

static int read_manifest(struct machine *machine, const char *name, const struct kp_value **ret_container, const char **ret_stamp, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value **documents = NULL;
    size_t count = 0;
    const char *path = kp_arena_printf(machine->arena, "%s/etc/kubernetes/manifests/%s.yaml", machine->root, name);
    *ret_container = NULL;
    if (!kp_path_exists(path))
        return 0;
    int r = kp_read_file(path, MANIFEST_MAX, &text, error);
    if (r == 0)
        r = kp_yaml_parse(text.data, text.len, machine->arena, &documents, &count, error);
    if (r < 0)
        return kp_wrap(error, "%s", path);
    const char *stamp = kp_value_str(kp_value_path(documents[0], "metadata", "annotations", "kprov.dev/files", NULL));
    *ret_container = kp_value_at(kp_value_path(documents[0], "spec", "containers", NULL), 0);
    *ret_stamp = stamp ? stamp : "";
    return 0;
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

static struct pod *find_pod(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(pods); i++)
        if (kp_streq(pods[i].name, name))
            return &pods[i];
    return NULL;
}

static void run(struct machine *machine, struct pod *pod, const struct kp_value *command)
{
    const char *programs = getenv("FAKE_CLOUD_PROGRAMS");
    KP_ASSERT(command->array.len + 2 < WORDS_MAX);
    pod->argv[0] = kp_arena_printf(machine->arena, "%s/%s", programs ? programs : "", pod->name);
    for (size_t w = 1; w < command->array.len; w++)
        pod->argv[w] = translate(machine, kp_value_str(command->array.items[w]));
    if (kp_streq(pod->name, "kube-apiserver"))
        pod->argv[command->array.len] = kp_arena_printf(machine->arena, "--bind-address=%s", machine->address);
    start(machine, pod);
}

int machine_pods_start(struct machine *machine, struct kp_error *error)
{
    static const char *const names[] = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kprov-vip"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        const struct kp_value *container = NULL;
        const char *stamp = "";
        int r = read_manifest(machine, names[i], &container, &stamp, error);
        if (r < 0)
            return r;
        if (!container)
            continue;
        const struct kp_value *command = kp_value_get(container, "command");
        machine->pods[machine->n_pods].name = names[i];
        machine->pods[machine->n_pods].stamp = stamp;
        machine->pods[machine->n_pods++].image = kp_value_str(kp_value_get(container, "image"));
        if (find_pod(names[i]))
            run(machine, find_pod(names[i]), command);
        for (size_t w = 0; kp_streq(names[i], "kprov-vip") && w < command->array.len; w++)
            if (kp_starts_with(kp_value_str(command->array.items[w]), "--address="))
                machine->api_address = strchr(kp_value_str(command->array.items[w]), '=') + 1;
    }
    return 0;
}

int machine_pods_reload(struct machine *machine, struct kp_error *error)
{
    for (size_t i = 0; i < machine->n_pods; i++) {
        const struct kp_value *container = NULL;
        const char *stamp = "";
        int r = read_manifest(machine, machine->pods[i].name, &container, &stamp, error);
        if (r < 0)
            return r;
        struct pod *pod = find_pod(machine->pods[i].name);
        if (container && pod && !kp_streq(stamp, machine->pods[i].stamp))
            kill(pod->pid, SIGTERM); /* its end is seen, and it starts again */
        machine->pods[i].stamp = stamp;
    }
    return 0;
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
