/* PID 1 of a node: mounts, applies the bootstrap config, supervises containerd and the kubelet, powers off. */
#include <sys/reboot.h>
#include <unistd.h>

#include "base/version.h"
#include "init_internal.h"

static _Noreturn void power_off(void)
{
    sync();
    /* Inside a PID namespace this ends the namespace (reboot(2)); on a kernel of its own, the machine. */
    if (reboot(RB_POWER_OFF) < 0)
        kp_error_log("cannot power off", NULL);
    _exit(1);
}

/* An init that ends panics a machine's kernel without a word: say why, give the console time, power off. */
static _Noreturn void give_up(const struct kp_error *error)
{
    kp_error_log("the node cannot start", "error", error->message, NULL);
    power_off();
}

int main(int argc, char **argv)
{
    if (argc > 1 && kp_streq(argv[1], "--version")) {
        printf("kprov-init %s\n", kp_version);
        return 0;
    }
    kp_log_init("kprov-init", KP_LOG_INFO);
    struct kp_error error = {0};
    if (argc > 1 && kp_streq(argv[1], "apply")) {
        int r = init_change_from_stdin(&error);
        if (r < 0)
            fprintf(stderr, "kprov-init: %s\n", error.message);
        return r < 0 ? kp_code_info(r)->exit_status : 0;
    }
    if (argc == 4 && kp_streq(argv[1], "dhcp")) {
        int r = init_dhcp_follow(argv[2], argv[3], &error);
        kp_error_log("the lease is not kept", "link", argv[2], "error", error.message, NULL);
        return r < 0 ? kp_code_info(r)->exit_status : 0;
    }
    if (getpid() != 1) {
        fprintf(stderr, "kprov-init: this is a node's PID 1; beside that: kprov-init apply < CONFIG, kprov-init dhcp LINK INDEX\n");
        return kp_code_info(KP_EUSAGE)->exit_status;
    }
    int64_t start_ms = kp_mono_ms();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    if (init_mount_all(getenv("container") != NULL, &error) < 0)
        give_up(&error);

    if (!getenv("container"))
        init_load_modules();
    struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct init_config config;
    if (init_read_bootstrap(getenv("container") != NULL, &text, &error) < 0 ||
        init_config_parse(text.data, text.len, arena, &config, &error) < 0)
        give_up(&error);
    kp_buf_done(&text);
    if (init_apply(&config, &error) < 0 || init_time_prepare(&config, &error) < 0 || init_prepare_containerd(&error) < 0 || init_run_once(&config, INIT_ONCE_DIR, &error) < 0)
        give_up(&error);
    /* No container outlives a boot, so neither do the addresses they were given. */
    if (kp_remove_tree("/var/lib/cni/networks", &error) < 0)
        kp_warn("stale pod addresses stay reserved", "error", error.message, NULL);

    char took[24];
    snprintf(took, sizeof(took), "%lld", (long long)(kp_mono_ms() - start_ms));
    kp_info("machine up", "hostname", config.hostname, "milliseconds", took, NULL);
    init_dhcp_prepare(&config);
    if (init_supervise(&config, &error) < 0)
        give_up(&error);
    kp_arena_free(arena);
    kp_info("machine off", "hostname", config.hostname, NULL);
    power_off();
}
