/* kprov ssh: a login on a machine, by the user's own ssh with the cluster's key and the machine's pinned host key. */
#include <errno.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"
#include "provisioner/remote/remote.h"

#define KEY_FILE "ssh_key"
#define KNOWN_HOSTS_FILE "ssh_known_hosts"
#define ARGS_MAX 48

struct login {
    struct kp_arena *arena;
    struct cloud *cloud;
    struct state_cluster cluster;
    struct cloud_machine machine;
    const char *key_file, *known_hosts_file;
    const char *argv[ARGS_MAX];
    size_t n_args;
};

/* The files that ssh reads: the same bytes whoever writes them, so nobody need hold the cluster's lock. */
static int write_files(struct login *login, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf identity = {0}, known_hosts = {0};
    struct remote_keys keys;
    struct cloud_machine_list machines;
    const char *name = login->cluster.name;
    int r = remote_keys_load(name, &keys, error);
    if (r == 0)
        r = cli_state_path(name, KEY_FILE, login->arena, &login->key_file, error);
    if (r == 0)
        r = cli_state_path(name, KNOWN_HOSTS_FILE, login->arena, &login->known_hosts_file, error);
    if (r == 0)
        r = cloud_machine_list(login->cloud, login->cluster.uid, login->arena, &machines, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < machines.len; i++) {
        struct sshc_key host;
        remote_host_key(&keys, machines.items[i].name, &host);
        sshc_key_host_line(&host, machines.items[i].name, SSHC_PORT, &known_hosts);
    }
    sshc_key_private_text(&keys.identity, kp_arena_printf(login->arena, "kprov-%s", name), &identity);
    r = kp_write_file(login->key_file, identity.data, identity.len, 0600, error);
    return r < 0 ? r : kp_write_file(login->known_hosts_file, known_hosts.data ? known_hosts.data : "", known_hosts.len, 0600, error);
}

static void add(struct login *login, const char *arg)
{
    KP_ASSERT(login->n_args + 1 < ARGS_MAX);
    login->argv[login->n_args++] = arg;
}

static void add_option(struct login *login, const char *option)
{
    add(login, "-o");
    add(login, option);
}

/* ssh expands % in file names, and splits them at spaces outside of quotes (ssh_config(5)). */
static const char *file_option(struct login *login, const char *option, const char *path)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "%s=\"", option);
    for (; *path; path++)
        kp_buf_printf(&out, "%s%c", *path == '%' ? "%" : "", *path);
    kp_buf_putc(&out, '"');
    return kp_arena_strndup(login->arena, out.data, out.len);
}

/* Nothing of the user's own configuration: the same key, host key and algorithms whoever calls. */
static void make_command(struct login *login, const char *const *words, bool terminal)
{
    add(login, "ssh");
    add(login, "-F");
    add(login, "none");
    add_option(login, file_option(login, "IdentityFile", login->key_file));
    add_option(login, "IdentitiesOnly=yes");
    add_option(login, "IdentityAgent=none");
    add_option(login, file_option(login, "UserKnownHostsFile", login->known_hosts_file));
    add_option(login, "GlobalKnownHostsFile=/dev/null");
    add_option(login, "StrictHostKeyChecking=yes");
    add_option(login, kp_arena_printf(login->arena, "HostKeyAlias=%s", login->machine.name));
    add_option(login, "PreferredAuthentications=publickey");
    add_option(login, "ConnectTimeout=20");
    add_option(login, "ServerAliveInterval=5");
    add_option(login, "LogLevel=ERROR");
    if (words && terminal)
        add(login, "-t");
    add(login, kp_arena_printf(login->arena, "root@%s", login->machine.address));
    if (words) {
        KP_AUTO_BUF struct kp_buf line = {0};
        remote_command_line(words, &line);
        add(login, kp_arena_strndup(login->arena, line.data, line.len));
    }
}

static int print_command(const struct login *login)
{
    KP_AUTO_BUF struct kp_buf line = {0};
    sshc_quote_words(&line, login->argv);
    printf("%s\n", line.data);
    return 0;
}

static int without_ssh(struct login *login, const char *const *words, struct kp_error *error)
{
    const struct cloud_exec exec = {words, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    int status = 0;
    if (!words)
        return kp_fail(error, KP_ENOTFOUND,
                       "there is no program ssh on this machine: install openssh-client, or give a command after --");
    int r = remote_ssh_exec(&login->cluster, &login->machine, &exec, &status, error);
    return r < 0 ? r : status;
}

/* A machine that was there before has a user, keys and a host key of its own. */
static const struct config_external_machine *external_machine(const struct login *login)
{
    for (size_t i = 0; i < login->cluster.config.external.n_machines; i++)
        if (kp_streq(login->cluster.config.external.machines[i].address, login->machine.address))
            return &login->cluster.config.external.machines[i];
    return NULL;
}

static int write_external_files(struct login *login, const struct config_external_machine *machine, struct kp_error *error)
{
    const char *home = getenv("HOME");
    login->key_file = machine->key_file;
    if (kp_starts_with(login->key_file, "~/") && !kp_empty(home))
        login->key_file = kp_arena_printf(login->arena, "%s%s", home, login->key_file + 1);
    login->known_hosts_file = *machine->known_hosts ? machine->known_hosts : "~/.ssh/known_hosts";
    if (kp_empty(machine->host_key))
        return 0;
    const char *line = machine->port == SSHC_PORT
                           ? kp_arena_printf(login->arena, "%s %s\n", machine->address, machine->host_key)
                           : kp_arena_printf(login->arena, "[%s]:%lld %s\n", machine->address, (long long)machine->port, machine->host_key);
    int r = cli_state_path(login->cluster.name, kp_arena_printf(login->arena, KNOWN_HOSTS_FILE ".%s", machine->address), login->arena,
                           &login->known_hosts_file, error);
    return r < 0 ? r : kp_write_file(login->known_hosts_file, line, strlen(line), 0600, error);
}

static void make_external_command(struct login *login, const struct config_external_machine *machine, const char *const *words, bool terminal)
{
    add(login, "ssh");
    add(login, "-F");
    add(login, "none");
    if (*login->key_file)
        add_option(login, file_option(login, "IdentityFile", login->key_file));
    add_option(login, file_option(login, "UserKnownHostsFile", login->known_hosts_file));
    add_option(login, "StrictHostKeyChecking=yes");
    add_option(login, "ConnectTimeout=20");
    add_option(login, "ServerAliveInterval=5");
    add_option(login, "LogLevel=ERROR");
    add(login, "-p");
    add(login, kp_arena_printf(login->arena, "%lld", (long long)machine->port));
    if (words && terminal)
        add(login, "-t");
    add(login, kp_arena_printf(login->arena, "%s@%s", machine->user, machine->address));
    if (words) {
        KP_AUTO_BUF struct kp_buf line = {0};
        sshc_quote_words(&line, words);
        add(login, kp_arena_strndup(login->arena, line.data, line.len));
    }
}

static int run_external(struct login *login, const struct config_external_machine *machine, const char *const *words, bool print,
                        struct kp_error *error)
{
    int r = write_external_files(login, machine, error);
    if (r < 0)
        return r;
    make_external_command(login, machine, words, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
    if (print)
        return print_command(login);
    fflush(NULL);
    execvp("ssh", (char *const *)(uintptr_t)login->argv);
    return kp_fail_errno(error, "run ssh: is openssh-client installed? kprov exec needs no ssh");
}

static int run(struct login *login, const char *const *words, bool print, struct kp_error *error)
{
    const struct config_external_machine *external = external_machine(login);
    if (external)
        return run_external(login, external, words, print, error);
    int r = write_files(login, error);
    if (r < 0)
        return r;
    if (login->machine.power == CLOUD_POWER_OFF)
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s is off: kprov node start %s %s", login->machine.name,
                       login->cluster.name, login->machine.name);
    make_command(login, words, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
    if (print)
        return print_command(login);
    fflush(NULL);
    execvp("ssh", (char *const *)(uintptr_t)login->argv);
    return errno == ENOENT ? without_ssh(login, words, error) : kp_fail_errno(error, "run ssh");
}

int cli_ssh(int argc, char **argv, struct kp_error *error)
{
    bool print = false, help = false;
    const struct kp_flag flags[] = {
        {"print", 0, KP_FLAG_BOOL, &print, "print the command of ssh instead of running it, for scp, rsync and the like", NULL}, {0}};
    struct kp_strings rest = {0};
    struct login login = {.arena = kp_arena_new(0)};
    int r = cli_parse("ssh", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("ssh", &rest, 2, (size_t)argc, error);
    if (r == 0 && !help)
        r = cli_cluster_open(rest.items[0], login.arena, &login.cluster, &login.cloud, error);
    if (r == 0 && !help)
        r = cli_find_machine(login.cloud, &login.cluster, rest.items[1], login.arena, &login.machine, error);
    if (r == 0 && !help) {
        const char **words = KP_NEW_ARRAY(login.arena, const char *, rest.len); /* the last stays NULL */
        for (size_t i = 2; i < rest.len; i++)
            words[i - 2] = rest.items[i];
        r = run(&login, rest.len > 2 ? words : NULL, print, error);
    }
    cloud_close(login.cloud);
    kp_strings_done(&rest);
    kp_arena_free(login.arena);
    return r;
}
