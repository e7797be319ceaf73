/* Commands in a cluster's machines, whatever their driver can do. */
#include "provisioner/remote/remote.h"

int remote_connect(const struct state_cluster *cluster, const struct cloud_machine *machine, struct sshc **ret_ssh,
                   struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf identity = {0}, known_hosts = {0};
    struct remote_keys keys;
    struct sshc_key host;
    if (kp_empty(machine->address))
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s has no address", machine->name);
    int r = remote_keys_load(cluster->name, &keys, error);
    if (r < 0)
        return r;
    remote_host_key(&keys, machine->name, &host);
    sshc_key_host_line(&host, machine->address, SSHC_PORT, &known_hosts);
    sshc_key_private_text(&keys.identity, "", &identity);
    const struct sshc_target target = {.host = machine->address, .known_hosts = known_hosts.data, .identity = identity.data,
                                       .connect_timeout_ms = REMOTE_CONNECT_MS};
    if (sshc_connect(&target, ret_ssh, error) < 0)
        return kp_wrap(error, "machine %s", machine->name);
    return 0;
}

void remote_command_line(const char *const *argv, struct kp_buf *out)
{
    kp_buf_puts(out, "exec env PATH=/usr/lib/kprov/bin:/usr/sbin:/usr/bin:/sbin:/bin ");
    sshc_quote_words(out, argv);
}

int remote_ssh_exec(const struct state_cluster *cluster, const struct cloud_machine *machine, const struct cloud_exec *exec,
                    int *ret_status, struct kp_error *error)
{
    if (machine->power == CLOUD_POWER_OFF)
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s is off: kprov node start %s %s", machine->name, cluster->name,
                       machine->name);
    KP_AUTO(sshc_close) struct sshc *ssh = NULL;
    KP_AUTO_BUF struct kp_buf line = {0};
    remote_command_line(exec->argv, &line);
    const struct sshc_command command = {
        .line = line.data, .stdin_fd = exec->stdin_fd, .stdout_fd = exec->stdout_fd, .stderr_fd = exec->stderr_fd};
    int r = remote_connect(cluster, machine, &ssh, error);
    return r < 0 ? r : sshc_run(ssh, &command, ret_status, error);
}

int remote_exec(struct cloud *cloud, const struct state_cluster *cluster, const struct cloud_machine *machine,
                const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    if (cloud_can(cloud, CLOUD_CAN_EXEC))
        return cloud_machine_exec(cloud, cluster->uid, machine->name, exec, ret_status, error);
    return remote_ssh_exec(cluster, machine, exec, ret_status, error);
}
