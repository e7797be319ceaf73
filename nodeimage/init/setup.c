/* Turns a booted machine into the node its bootstrap config names: host name, addresses, sysctls, files. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init_internal.h"

static int write_files(const struct init_config *config, struct kp_error *error)
{
    for (size_t i = 0; i < config->n_files; i++) {
        const struct init_file *file = &config->files[i];
        char *parent = kp_strdup(file->path);
        *strrchr(parent, '/') = 0;
        int r = *parent ? kp_mkdir_p(parent, 0755, error) : 0;
        free(parent);
        if (r < 0)
            return r;
        /* Plain writes: the bootstrap config writes them all again at the next boot, so no fsync is worth waiting for. */
        KP_AUTO_CLOSE int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, file->mode);
        if (fd < 0)
            return kp_fail_errno(error, "create %s", file->path);
        if (fchmod(fd, file->mode) < 0)
            return kp_fail_errno(error, "set the mode of %s", file->path);
        for (size_t done = 0; done < file->len;) {
            ssize_t n = write(fd, file->data + done, file->len - done);
            if (n < 0 && errno != EINTR)
                return kp_fail_errno(error, "write %s", file->path);
            done += n > 0 ? (size_t)n : 0;
        }
    }
    return 0;
}

static int write_sysctl(const struct init_sysctl *sysctl, struct kp_error *error)
{
    char path[256];
    snprintf(path, sizeof(path), "/proc/sys/%s", sysctl->key);
    for (char *p = path + strlen("/proc/sys/"); *p; p++)
        *p = *p == '.' ? '/' : *p;
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    if (write(fd, sysctl->value, strlen(sysctl->value)) < 0)
        return kp_fail_errno(error, "write \"%s\" to %s", sysctl->value, path);
    return 0;
}

static int configure_network(const struct init_config *config, struct kp_error *error)
{
    static const char *const batch_path = "/run/kprov-network.batch";
    KP_AUTO_BUF struct kp_buf batch = {0};
    kp_buf_puts(&batch, "link set lo up\n");
    if (config->interface) {
        kp_buf_printf(&batch, "address replace %s dev %s\n", config->address, config->interface);
        kp_buf_printf(&batch, "link set %s up\n", config->interface);
        if (config->gateway)
            kp_buf_printf(&batch, "route replace default via %s dev %s\n", config->gateway, config->interface);
    }
    int r = kp_write_file(batch_path, batch.data, batch.len, 0600, error);
    if (r < 0)
        return r;
    const char *const argv[] = {"ip", "-batch", batch_path, NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    r = kp_run(argv, 10000, NULL, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "set addresses: ip ended with %d: %s", status, complaint.data ? complaint.data : "");
    return r;
}

void init_load_modules(void)
{
    /* Bridges for sysctls that are set before there is one; the others in one go instead of a modprobe each when pods ask for them. */
    static const char *const argv[] = {"modprobe", "-a", "-q", "br_netfilter", "veth", "nft_chain_nat", "nft_masq", "nft_nat", "nft_reject_ipv4",
                                       "nft_fib_ipv4", "nft_ct", "nft_numgen", NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    struct kp_error error = {0};
    int status = 0;
    if (kp_run(argv, 10000, NULL, &complaint, &status, &error) < 0 || status != 0)
        kp_warn("kernel modules not loaded", "error", error.code ? error.message : complaint.data, NULL);
}

int init_apply(const struct init_config *config, struct kp_error *error)
{
    if (sethostname(config->hostname, strlen(config->hostname)) < 0)
        return kp_fail_errno(error, "set the host name to %s", config->hostname);
    int r = configure_network(config, error);
    if (r == 0)
        r = write_files(config, error);
    for (size_t i = 0; r == 0 && i < config->n_sysctls; i++)
        r = write_sysctl(&config->sysctls[i], error);
    return r;
}
