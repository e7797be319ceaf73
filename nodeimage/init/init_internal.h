/* The node's PID 1: what its files share. */
#ifndef KPROV_INIT_INTERNAL_H
#define KPROV_INIT_INTERNAL_H

#include <sys/types.h>

#include "base/base.h"

#define INIT_BOOTSTRAP_PATH "/run/kprov/bootstrap.json"
#define INIT_FW_CFG_PATH "/sys/firmware/qemu_fw_cfg/by_name/opt/kprov/bootstrap/raw"
#define INIT_BOOTSTRAP_MAX ((size_t)4 << 20)
#define INIT_LOG_DIR "/var/log/kprov"
#define INIT_SERVICES_MAX 8 /* of a config */
#define INIT_OWN_SERVICES_MAX 5 /* that init itself knows are needed */
#define INIT_ONCE_MAX 8
#define INIT_ONCE_DIR "/var/lib/kprov/once"
#define INIT_ONCE_MS_MAX (30LL * 60 * 1000)
#define INIT_FILES_MAX 1000
#define INIT_ARGS_MAX 256

/* ---- config.c: the bootstrap config, all in the arena it was decoded into */
struct init_file {
    const char *path;
    unsigned mode;
    const char *data;
    size_t len;
};
struct init_service {
    const char *name;
    const char *const *argv; /* NULL-terminated */
    const char *wait_for;    /* unix socket that must accept before it starts, or NULL */
    bool keeps_running;      /* its files are no part of a config that changes */
};
struct init_sysctl {
    const char *key, *value; /* "net.ipv4.ip_forward", "1" */
};
/* Done before the services start at one boot of the machine's life: once it has succeeded, its id is remembered on the data disk. */
struct init_once {
    const char *id; /* a file name */
    const char *const *argv; /* NULL-terminated */
};
#define INIT_TIME_SERVERS_MAX 8
struct init_time {
    bool wanted; /* the machine has a clock of its own, and nobody else keeps it */
    const char *servers[INIT_TIME_SERVERS_MAX]; /* the cluster file's: no others are asked */
    size_t n_servers;
    const char *cloud_servers[INIT_TIME_SERVERS_MAX];
    size_t n_cloud_servers;
};
struct init_config {
    const char *hostname;
    const char *interface, *address, *gateway; /* "eth0", "10.89.0.10/24", "10.89.0.1"; NULL: left alone */
    struct init_file *files;
    size_t n_files;
    struct init_sysctl *sysctls;
    size_t n_sysctls;
    struct init_time time;
    struct init_service services[INIT_SERVICES_MAX + INIT_OWN_SERVICES_MAX];
    size_t n_services;
    struct init_once once[INIT_ONCE_MAX];
    size_t n_once;
};
/* KP_EINVALID names the field and its line. */
int init_config_parse(const char *text, size_t len, struct kp_arena *arena, struct init_config *ret,
                      struct kp_error *error);

/* ---- source.c: where it comes from */
/* The driver's file, the emulator's (a container has none), or what the cloud was given for this machine - then its links have their addresses,
   and it comes back when there is something to read. Appends. */
int init_read_bootstrap(bool container, struct kp_buf *out, struct kp_error *error);
/* User data as clouds hand them over: the config itself, in gzip, or that in base64. Appends. Pure. */
int init_decode_user_data(const void *data, size_t len, struct kp_buf *out, struct kp_error *error);
/* By a device's first ISO 9660 volume descriptor and its boot sector, each as long as could be read. Pure. */
bool init_is_config_drive(const void *iso, size_t iso_len, const void *boot, size_t boot_len);

/* ---- dhcp.c */
/* Brings up every link that a DHCP server answers on; one is enough. Once. */
int init_dhcp(struct kp_error *error);
#define INIT_DHCP_TIME_PATH "/run/kprov/dhcp.time" /* the time servers that DHCP gave, separated by spaces */
/* What udhcpc was told, as lines "key=value", to commands of `ip -batch` and lines of resolv.conf. index: 0 for the first link. Appends. Pure. */
int init_dhcp_commands(const char *link, int index, const char *answer, struct kp_buf *batch, struct kp_buf *resolv_conf, struct kp_error *error);

/* ---- dhcp_follow.c: keeps what DHCP gave */
#define INIT_DHCP_LINKS_MAX 4
void init_dhcp_note(const char *link, int index); /* of one that has an address by DHCP */
/* A service for each link noted. */
void init_dhcp_prepare(struct init_config *config);
/* `kprov-init dhcp LINK INDEX`: the service. Does not return but with an error. */
int init_dhcp_follow(const char *link, const char *index, struct kp_error *error);

/* ---- mounts.c */
/* What the kernel and containers expect below "/"; whatever is mounted already stays. container: in namespaces of a host
   rather than on a kernel of its own. */
int init_mount_all(bool container, struct kp_error *error);
/* Decides from /proc/self/cgroup's text: the comma-separated controllers of each v1 hierarchy; none means cgroup v2. */
#define INIT_CGROUPS_MAX 32
size_t init_parse_cgroups(const char *text, char names[][64], size_t max);
/* Where overlayfs cannot lie on the root's file system, gives containerd a tmpfs, and fills it from the image. */
int init_prepare_containerd(struct kp_error *error);
#define INIT_CONTAINERD_ROOT "/var/lib/containerd"
#define INIT_CONTAINERD_PRELOADED "/usr/lib/kprov/containerd"
/* ---- preloaded.c: the image's store, used where it lies */
bool init_preloaded_is_fixed(void); /* on a read-only file system of its own */
int init_link_preloaded(struct kp_error *error);  /* once a store: everything but the layers' content */
int init_mount_preloaded(struct kp_error *error); /* at every boot: the layers */
/* Removes what a hard power cut leaves behind and would stop a program from starting. */
void init_remove_stale(void);

/* ---- setup.c: host name, addresses, sysctls, files */
/* What the node needs of a kernel of its own and nothing asks for by name: what is missing shows when it is used. */
void init_load_modules(void);
int init_apply(const struct init_config *config, struct kp_error *error);
/* ---- change.c: another config for a machine that runs */
/* Writes the files that differ, manifests of static pods last; *ret_changed of them. A config of another host name is refused. */
int init_change(const struct init_config *config, size_t *ret_changed, struct kp_error *error);
/* `kprov-init apply`: reads a config from stdin and changes the machine's files to it. SIGHUP has init start the kubelet anew with them:
   when the static pods are the new ones, for a kubelet that starts takes the old ones for somebody else's. */
int init_change_from_stdin(struct kp_error *error);
/* ---- once.c */
/* Runs what has not succeeded yet, in order; dir remembers (INIT_ONCE_DIR). The first failure ends it. */
int init_run_once(const struct init_config *config, const char *dir, struct kp_error *error);

/* ---- log_file.c: a log with a size bound: name.log and one older name.log.1 */
#define INIT_LOG_BYTES_MAX ((size_t)16 << 20)
struct init_log {
    char path[128];
    int fd;
    size_t size, size_max;
};
int init_log_open(struct init_log *log, const char *dir, const char *name, size_t size_max, struct kp_error *error);
void init_log_write(struct init_log *log, const void *data, size_t len);
void init_log_close(struct init_log *log);

/* ---- time.c: whom the machine asks for the time */
/* chrony's config. `dhcp`: addresses of option 42 separated by spaces, or ""; phc: the host's clock as a device, or NULL. Appends. Pure. */
void init_time_config(const struct init_time *time, const char *dhcp, const char *phc, struct kp_buf *out);
/* A host name or an address, and nothing else. Pure. */
bool init_is_time_server(const char *text);
/* Writes that config and adds the service, where the config wants time kept and the image has chrony. */
int init_time_prepare(struct init_config *config, struct kp_error *error);

/* ---- clock.c: a machine that was paused goes on where it was; its real-time clock tells how long that took. Pure. */
#define INIT_CLOCK_EVERY_S 10   /* from look to look; with an alarm, a pause longer than what is left of it is seen at once */
#define INIT_CLOCK_BACK_STEP_S 30 /* so far back is a step; less is made up for by a slower clock */
struct init_clock_look {
    int64_t rtc_s;        /* the real-time clock, in whole seconds */
    bool edge;            /* which has just become that second */
    int64_t real_ns;      /* the system's clock */
    int64_t mono_ns;      /* time that the machine ran for */
    bool synchronised;    /* somebody keeps the system's clock: chrony */
};
struct init_clock { /* begins zeroed */
    bool started, was_synchronised;
    struct init_clock_look last;
};
enum init_clock_verb { INIT_CLOCK_KEEP, INIT_CLOCK_STEP, INIT_CLOCK_SLEW };
struct init_clock_action {
    enum init_clock_verb verb;
    int64_t by_ns; /* > 0: the system's clock is late */
};
/* Nobody ever kept the system's clock: it follows the real-time clock. Else that counts only for what it went on by while the machine stood still. */
struct init_clock_action init_clock_decide(struct init_clock *clock, const struct init_clock_look *look);

/* ---- rtc.c: the device */
struct init_rtc {
    int fd; /* -1: the machine has none */
    bool can_alarm;
    bool alarm; /* set, at alarm_s */
    bool slewing;
    int64_t alarm_s, due_ms; /* by kp_mono_ms */
    struct init_clock clock;
};
void init_rtc_open(struct init_rtc *rtc, bool wanted);
/* Looks, sets the clock when that is due, and sets the alarm for the next look. */
void init_rtc_look(struct init_rtc *rtc);
void init_rtc_close(struct init_rtc *rtc);

/* ---- button.c */
int init_button_open(void); /* -1: the machine has none */
bool init_button_pressed(int fd); /* since the last time; fd may be -1 */

/* ---- supervisor.c: starts services, restarts them with back-off, reaps everything */
#define INIT_BACKOFF_MS_MIN 50
#define INIT_BACKOFF_MS_MAX 10000
#define INIT_STABLE_MS 10000 /* a run this long clears the back-off */
/* Milliseconds to wait before the next start of a service that ran for ran_ms after `failures` short runs in a row;
   updates *failures. */
int64_t init_backoff_ms(unsigned *failures, int64_t ran_ms);
/* Runs until a signal asks for power off; then everything has been stopped in order. Gives the signal. */
int init_supervise(const struct init_config *config, struct kp_error *error);

#endif
