/* Where the bootstrap config comes from: the driver's file, the emulator's, a config drive, or the cloud's metadata service. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init_internal.h"
#include "lib/archive/archive.h"
#include "lib/metadata/metadata.h"

#define DRIVE_DIR "/run/kprov/config-drive"
#define DRIVE_USER_DATA DRIVE_DIR "/openstack/latest/user_data"
#define ISO_VOLUME 32768 /* ECMA-119: the volume descriptor, its identifier at 1, the volume's name at 40 */
#define RETRY_MS_MIN 500
#define RETRY_MS_MAX 10000
#define ASK_MS 20000

/* Without blanks and line ends around it, which some clouds add. */
static void trim(const char **text, size_t *len)
{
    while (*len && strchr(" \t\r\n", **text))
        (*text)++, (*len)--;
    while (*len && strchr(" \t\r\n", (*text)[*len - 1]))
        (*len)--;
}

int init_decode_user_data(const void *data, size_t len, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf bytes = {0};
    const char *text = data;
    if (archive_is_gzip(data, len))
        return archive_gunzip(data, len, INIT_BOOTSTRAP_MAX, out, error);
    trim(&text, &len);
    if (len && *text == '{') {
        kp_buf_append(out, text, len);
        return 0;
    }
    if (len == 0 || kp_base64_decode(&bytes, text, len) < 0 || !archive_is_gzip(bytes.data, bytes.len))
        return kp_fail(error, KP_EINVALID, "the user data are neither a bootstrap config nor one in gzip");
    return archive_gunzip(bytes.data, bytes.len, INIT_BOOTSTRAP_MAX, out, error);
}

bool init_is_config_drive(const void *iso, size_t iso_len, const void *boot, size_t boot_len)
{
    static const size_t fat_labels[] = {43, 71}; /* FAT16, FAT32 */
    const char *volume = iso, *sector = boot;
    if (iso_len >= 72 && memcmp(volume + 1, "CD001", 5) == 0)
        return strncasecmp(volume + 40, "config-2", 8) == 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(fat_labels); i++)
        if (boot_len >= 512 && (unsigned char)sector[510] == 0x55 && (unsigned char)sector[511] == 0xaa &&
            strncasecmp(sector + fat_labels[i], "config-2", 8) == 0)
            return true;
    return false;
}

/* The drivers of what the machine has: nothing else asks for them by name where no udev runs. What fails to load is no device of ours. */
static void load_drivers(void)
{
    static const char script[] = "sort -u /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias /sys/bus/scsi/devices/*/modalias "
                                 "/sys/bus/xen/devices/*/modalias /sys/bus/vmbus/devices/*/modalias 2>/dev/null | xargs -r modprobe -a -b -q; "
                                 "modprobe -a -b -q sr_mod isofs; exit 0";
    static const char *const argv[] = {"sh", "-c", script, NULL};
    KP_AUTO_BUF struct kp_buf said = {0};
    struct kp_error error = {0};
    int status = 0;
    if (kp_run(argv, 30000, NULL, &said, &status, &error) < 0)
        kp_warn("drivers not loaded", "error", error.message, NULL);
}

static bool is_drive(const char *device)
{
    char iso[2048], boot[512];
    KP_AUTO_CLOSE int fd = open(device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t iso_len = pread(fd, iso, sizeof(iso), ISO_VOLUME), boot_len = pread(fd, boot, sizeof(boot), 0);
    return init_is_config_drive(iso, iso_len < 0 ? 0 : (size_t)iso_len, boot, boot_len < 0 ? 0 : (size_t)boot_len);
}

static int read_drive(const char *device, struct kp_buf *out, struct kp_error *error)
{
    static const char *const types[] = {"iso9660", "vfat"};
    int r = kp_mkdir_p(DRIVE_DIR, 0700, error), mounted = -1;
    for (size_t i = 0; r == 0 && mounted < 0 && i < KP_ARRAY_LEN(types); i++)
        mounted = mount(device, DRIVE_DIR, types[i], MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (r == 0 && mounted < 0)
        r = kp_fail_errno(error, "mount the config drive %s", device);
    if (r < 0)
        return r;
    r = kp_path_exists(DRIVE_USER_DATA) ? kp_read_file(DRIVE_USER_DATA, INIT_BOOTSTRAP_MAX, out, error)
                                        : kp_fail(error, KP_ENOTFOUND, "the config drive %s has no user data", device);
    if (umount(DRIVE_DIR) < 0)
        kp_warn("the config drive stays mounted", "device", device, NULL);
    return r;
}

/* KP_ENOTFOUND: the machine has none. */
static int ask_drive(struct kp_buf *out, struct kp_error *error)
{
    DIR *dir = opendir("/sys/class/block");
    int r = KP_ENOTFOUND;
    if (!dir)
        return kp_fail_errno(error, "list block devices");
    for (struct dirent *entry; r == KP_ENOTFOUND && (entry = readdir(dir));) {
        char device[300];
        snprintf(device, sizeof(device), "/dev/%s", entry->d_name);
        if (entry->d_name[0] != '.' && is_drive(device))
            r = read_drive(device, out, error);
    }
    closedir(dir);
    return r;
}

/* For as long as it takes: without its config the machine is nothing, and the console tells why it waits. A container has no devices, and its
   links have the addresses that who made it gave them. */
static int ask_cloud(bool container, struct kp_buf *out, struct kp_error *error)
{
    int64_t pause_ms = RETRY_MS_MIN;
    if (!container)
        load_drivers();
    int r = container ? KP_ENOTFOUND : ask_drive(out, error);
    if (r < 0 && r != KP_ENOTFOUND)
        kp_warn("config drive not read", "error", error->message, NULL);
    for (;;) {
        struct kp_error failure = {0};
        const char *manner = "config drive";
        int up = container ? 0 : init_dhcp(&failure);
        if (up == 0 && r == 0)
            return 0;
        if (up == 0 && metadata_user_data(NULL, ASK_MS, out, &manner, &failure) == 0) {
            signal(SIGPIPE, SIG_DFL); /* the loop that asked ignores it, and services would inherit that */
            kp_info("user data read", "from", manner, NULL);
            return 0;
        }
        kp_warn("no user data yet", "error", failure.message, NULL);
        kp_sleep_ms(pause_ms);
        pause_ms = KP_MIN(pause_ms * 2, (int64_t)RETRY_MS_MAX);
    }
}

int init_read_bootstrap(bool container, struct kp_buf *out, struct kp_error *error)
{
    const char *path = kp_path_exists(INIT_BOOTSTRAP_PATH) || container ? INIT_BOOTSTRAP_PATH : INIT_FW_CFG_PATH;
    KP_AUTO_BUF struct kp_buf data = {0};
    if (kp_path_exists(path))
        return kp_read_file(path, INIT_BOOTSTRAP_MAX, out, error);
    int r = ask_cloud(container, &data, error);
    return r < 0 ? r : init_decode_user_data(data.data, data.len, out, error);
}
