/* kprov-snapshots: puts this control plane's etcd database on its own disk, again and again. Supervised by the machine's init. */
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/version.h"
#include "provisioner/keeper/keeper.h"

#define CONFIG_PATH "/etc/kubernetes/etcd-snapshots.json"

struct keeper {
    const char *config_path;
    char machine[SNAPSHOT_MACHINE_MAX];
    struct kp_buf told; /* the config's text that was last said to be read */
    struct keeper_clock clock;
};

static void tell_config(struct keeper *keeper, const struct kp_buf *text, const struct keeper_config *config)
{
    char every[24], keep[24];
    if (keeper->told.len == text->len && memcmp(keeper->told.data, text->data, text->len) == 0)
        return;
    keeper->told.len = 0;
    kp_buf_append(&keeper->told, text->data, text->len);
    snprintf(every, sizeof(every), "%lld", (long long)config->every_s);
    snprintf(keep, sizeof(keep), "%lld", (long long)config->keep);
    kp_info("snapshots of etcd", "everySeconds", every, "keep", keep, "dir", config->dir, NULL);
    keeper->clock.failed_s = 0; /* another folder may do better at once */
}

static void take(struct keeper *keeper, const struct keeper_config *config)
{
    char name[SNAPSHOT_NAME_MAX];
    struct kp_error error = {0};
    const int64_t start_ms = kp_mono_ms();
    int r = keeper_take(config, keeper->machine, keeper->clock.now_s, name, &error);
    keeper->clock.failed_s = r < 0 ? keeper->clock.now_s : 0;
    if (r < 0) {
        kp_warn("no snapshot was taken", "error", error.message, NULL);
        return;
    }
    char took[24];
    snprintf(took, sizeof(took), "%lld", (long long)(kp_mono_ms() - start_ms));
    kp_info("snapshot taken", "file", name, "milliseconds", took, NULL);
}

/* Reads the config, does what is due, and gives how long to wait. */
static int look(struct keeper *keeper, int64_t *ret_wait_s, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct keeper_config config;
    size_t n = 0;
    *ret_wait_s = KEEPER_LOOK_S;
    int r = kp_read_file(keeper->config_path, KEEPER_CONFIG_MAX, &text, error);
    if (r == 0)
        r = keeper_config_parse(text.data ? text.data : "", text.len, arena, &config, error);
    if (r < 0)
        return kp_wrap(error, "%s", keeper->config_path);
    tell_config(keeper, &text, &config);
    if (config.every_s == 0)
        return 0;
    struct keeper_file *files = kp_arena_alloc(arena, KEEPER_FILES_MAX * sizeof(*files));
    r = keeper_list(config.dir, keeper->machine, files, &n, error);
    if (r < 0)
        return r;
    keeper->clock.now_s = kp_now_s();
    int64_t due_s = keeper_due_s(&config, files, n, &keeper->clock);
    if (due_s <= keeper->clock.now_s) {
        take(keeper, &config);
        due_s = keeper->clock.now_s + 1;
    }
    *ret_wait_s = KP_MAX(1, KP_MIN(KEEPER_LOOK_S, due_s - keeper->clock.now_s));
    return keeper_clean(&config, keeper->machine, error);
}

int main(int argc, char **argv)
{
    struct keeper keeper = {.config_path = CONFIG_PATH};
    struct kp_error error = {0};
    struct kp_strings rest = {0};
    bool help = false, version = false;
    const struct kp_flag flags[] = {
        {"config", 0, KP_FLAG_STRING, &keeper.config_path, "what to do (" CONFIG_PATH "); looked at again every few seconds", NULL},
        {"version", 0, KP_FLAG_BOOL, &version, "print the version", NULL},
        {0},
    };
    if (kp_flags_parse(flags, argc, argv, &rest, &help, &error) < 0 || rest.len) {
        fprintf(stderr, "kprov-snapshots: %s\n", error.code ? error.message : "takes no words");
        return kp_code_info(KP_EUSAGE)->exit_status;
    }
    if (version)
        printf("kprov-snapshots %s\n", kp_version);
    if (help) {
        printf("kprov-snapshots puts etcd's database on this machine's disk, as its config says. It takes:\n");
        kp_flags_print(flags, stdout);
    }
    if (version || help)
        return 0;
    kp_log_init("kprov-snapshots", KP_LOG_INFO);
    if (gethostname(keeper.machine, sizeof(keeper.machine) - 1) < 0) {
        kp_error_log("the machine has no name", NULL);
        return 1;
    }
    (void)setpriority(PRIO_PROCESS, 0, 10); /* those that are asked come first */
    keeper.clock.started_s = kp_now_s();
    for (bool failed = false;;) {
        int64_t wait_s = KEEPER_LOOK_S;
        struct kp_error why = {0};
        const bool fails = look(&keeper, &wait_s, &why) < 0;
        if (fails && !failed)
            kp_warn("snapshots of etcd do not go on", "error", why.message, NULL);
        failed = fails;
        kp_sleep_ms(wait_s * 1000);
    }
}
