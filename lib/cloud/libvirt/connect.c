/* Reaching libvirt: starting its daemons where nobody else does. */
#include <grp.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"

#define START_WAIT_MS 10000
#define KVM_DEVICE "/dev/kvm"

static bool is_local_system(const char *uri)
{
    return kp_streq(uri, "qemu:///system");
}

/* What udev's rule does where it runs. While the group of qemu's user is shut out, libvirt trusts none of what it learnt of qemu:
   it learns with a capability that opens the device all the same, then asks as the user, and learns anew - seconds each time
   it starts a machine. */
static void open_kvm_to_its_group(void)
{
    const struct group *group = getgrnam("kvm");
    struct stat st;
    if (!group || stat(KVM_DEVICE, &st) < 0 || !S_ISCHR(st.st_mode) || (st.st_mode & 0060) == 0060)
        return;
    if (chown(KVM_DEVICE, (uid_t)-1, group->gr_gid) < 0 || chmod(KVM_DEVICE, st.st_mode | 0060) < 0)
        kp_warn("the group kvm stays shut out of " KVM_DEVICE ": starting machines is slow", NULL);
}

/* Without a service manager nobody starts them; with one it is the administrator's to say. */
static int start_daemons(struct kp_error *error)
{
    static const char *const daemons[][3] = {{"virtlogd", "-d", NULL}, {"libvirtd", "-d", NULL}};
    if (geteuid() != 0)
        return kp_fail(error, KP_EFORBIDDEN, "run kprov with sudo, or as a member of the group libvirt where libvirtd runs");
    if (kp_path_exists("/run/systemd/system"))
        return kp_fail(error, KP_EUNAVAILABLE, "libvirtd does not run: start it, as with systemctl start libvirtd");
    open_kvm_to_its_group();
    /* What whoever called kprov left open, a lock perhaps, is not for daemons that outlive it. */
    (void)close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    for (size_t i = 0; i < KP_ARRAY_LEN(daemons); i++) {
        KP_AUTO_BUF struct kp_buf complaint = {0};
        int status = 0;
        struct kp_error why = {0};
        /* One that runs already ends at once with an error: the connection tells in the end. */
        if (kp_run(daemons[i], START_WAIT_MS, NULL, &complaint, &status, &why) < 0)
            return kp_fail(error, KP_EUNAVAILABLE, "libvirt is not installed (%s): install libvirt-daemon-system and qemu-system-x86", why.message);
    }
    return 0;
}

int lv_connect(const char *uri, virConnectPtr *ret_conn, struct kp_error *error)
{
    struct kp_error first = {0};
    lv_silence();
    lv_events_loop();
    *ret_conn = virConnectOpen(uri);
    if (*ret_conn)
        return 0;
    int r = lv_fail(&first, "connect to %s", uri);
    if (r == KP_EFORBIDDEN || strstr(first.message, "Permission denied"))
        return kp_fail(error, KP_EFORBIDDEN, "%s: run kprov with sudo, or as a member of the group libvirt", first.message);
    if (!is_local_system(uri))
        return kp_fail(error, r, "%s: give a libvirt URI by --uri, spec.libvirt.uri or LIBVIRT_DEFAULT_URI, such as qemu:///system or qemu+ssh://root@host/system",
                       first.message);
    if (start_daemons(error) < 0)
        return kp_wrap(error, "%s", first.message);
    int64_t deadline_ms = kp_mono_ms() + START_WAIT_MS;
    while (!(*ret_conn = virConnectOpen(uri)) && kp_mono_ms() < deadline_ms)
        kp_sleep_ms(50);
    return *ret_conn ? 0 : lv_fail(error, "connect to %s", uri);
}
