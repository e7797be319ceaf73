/* Connections to the machines, and verbs of the script over them. */
#include "cloud/external/external_internal.h"

#include <unistd.h>

static const char *resolve_home(struct kp_arena *arena, const char *path)
{
    const char *home = getenv("HOME");
    return kp_starts_with(path, "~/") && !kp_empty(home) ? kp_arena_printf(arena, "%s%s", home, path + 1) : path;
}

int external_machine_prepare(struct external *external, const struct cloud_external_machine *config, struct external_machine *ret,
                             struct kp_error *error)
{
    struct kp_arena *arena = external->arena;
    KP_AUTO_BUF struct kp_buf known = {0};
    *ret = (struct external_machine){.config = {
        .address = kp_arena_strdup(arena, config->address), .port = config->port ? config->port : SSHC_PORT,
        .user = kp_arena_strdup(arena, kp_empty(config->user) ? "root" : config->user),
        .role = kp_arena_strdup(arena, config->role), .pool = kp_arena_strdup(arena, config->pool ? config->pool : ""),
    }};
    ret->key_file = kp_empty(config->key_file) ? NULL : resolve_home(arena, kp_arena_strdup(arena, config->key_file));
    if (!kp_empty(config->host_key)) {
        kp_buf_printf(&known, ret->config.port == SSHC_PORT ? "%s" : "[%s]:%d", ret->config.address, ret->config.port);
        kp_buf_printf(&known, " %s\n", config->host_key);
    } else {
        const char *path = resolve_home(arena, kp_empty(config->known_hosts) ? "~/.ssh/known_hosts" : config->known_hosts);
        int r = kp_read_file(path, SSHC_KNOWN_HOSTS_MAX, &known, error);
        if (r < 0)
            return kp_wrap(error, "machine %s: its hostKey is not given, so it must be in known hosts", config->address);
    }
    ret->known_hosts = kp_arena_strdup(arena, known.data ? known.data : "");
    return 0;
}

int external_connect(struct external *external, struct external_machine *machine, struct sshc **ret_ssh, struct kp_error *error)
{
    struct sshc *ssh = NULL;
    pthread_mutex_lock(&external->lock);
    if (machine->n_idle > 0)
        ssh = machine->idle[--machine->n_idle];
    pthread_mutex_unlock(&external->lock);
    if (ssh) {
        struct kp_error gone = {0};
        if (sshc_shell(ssh, ":", SSHC_CONNECT_MS, NULL, &gone) == 0) {
            *ret_ssh = ssh;
            return 0;
        }
        sshc_close(ssh); /* the machine was rebooted, or the server closes what is idle */
    }
    const struct sshc_target target = {
        .host = machine->config.address, .port = machine->config.port, .user = machine->config.user,
        .known_hosts = machine->known_hosts, .identity_file = machine->key_file, .agent = !machine->key_file || getenv("SSH_AUTH_SOCK"),
    };
    return sshc_connect(&target, ret_ssh, error);
}

void external_give_back(struct external *external, struct external_machine *machine, struct sshc *ssh)
{
    pthread_mutex_lock(&external->lock);
    if (machine->n_idle < EXTERNAL_IDLE_MAX) {
        machine->idle[machine->n_idle++] = ssh;
        ssh = NULL;
    }
    pthread_mutex_unlock(&external->lock);
    sshc_close(ssh);
}

void external_close_idle(struct external *external)
{
    for (size_t i = 0; i < external->n_machines; i++) {
        struct external_machine *machine = &external->machines[i];
        while (machine->n_idle > 0)
            sshc_close(machine->idle[--machine->n_idle]);
    }
}

const char *external_prefix(const struct external_machine *machine)
{
    return kp_streq(machine->config.user, "root") ? "" : "sudo -n ";
}

int external_run(struct external *external, struct external_machine *machine, const char *const *words, struct kp_buf *out,
                 int *ret_status, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf line = {0}, said = {0}, complaint = {0};
    struct sshc *ssh = NULL;
    int status = 0;
    kp_buf_printf(&line, "%ssh -s -- ", external_prefix(machine));
    sshc_quote_words(&line, words);
    struct sshc_command command = {.line = line.data, .input = external_script, .input_len = external_script_len(), .stdin_fd = -1,
                                   .stdout_fd = -1, .stderr_fd = -1, .out = out ? out : &said, .err_out = &complaint,
                                   .timeout_ms = EXTERNAL_CALL_MS};
    int r = external_connect(external, machine, &ssh, error);
    if (r == 0)
        r = sshc_run(ssh, &command, &status, error);
    if (r < 0) {
        sshc_close(ssh);
        return r;
    }
    external_give_back(external, machine, ssh);
    if (ret_status)
        *ret_status = status;
    if (status == 0 || (ret_status && status == EXTERNAL_TAKEN))
        return 0;
    while (complaint.len && complaint.data[complaint.len - 1] == '\n')
        complaint.data[--complaint.len] = 0;
    return kp_fail(error, KP_EIO, "%s on %s ended with %d: %s", words[0], machine->config.address, status,
                   complaint.len ? complaint.data : "it said nothing");
}
