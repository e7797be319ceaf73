/* Reaching libvirt: starting its daemons where nobody else does, and finding out what its machine can do. */
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"

#define START_WAIT_MS 10000
#define TRIAL_MS 300
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
    if (kp_path_exists("/run/systemd/system") || geteuid() != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "libvirtd does not run: start it, as with systemctl start libvirtd");
    open_kvm_to_its_group();
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
    *ret_conn = virConnectOpen(uri);
    if (*ret_conn)
        return 0;
    int r = lv_fail(&first, "connect to %s", uri);
    if (!is_local_system(uri) || r == KP_EFORBIDDEN)
        return kp_fail(error, r, "%s", first.message);
    if (start_daemons(error) < 0)
        return kp_wrap(error, "%s", first.message);
    int64_t deadline_ms = kp_mono_ms() + START_WAIT_MS;
    while (!(*ret_conn = virConnectOpen(uri)) && kp_mono_ms() < deadline_ms)
        kp_sleep_ms(50);
    return *ret_conn ? 0 : lv_fail(error, "connect to %s", uri);
}

/* Asking the kernel takes no time; starting a domain that cannot run takes libvirt up to a minute. */
static bool kernel_makes_machines(void)
{
    KP_AUTO_CLOSE int kvm = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    KP_AUTO_CLOSE int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    return vm >= 0;
}

bool lv_has_kvm(struct lv *lv)
{
    static const char *const format =
        "<domain type='kvm'><name>kprov-trial-%d</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
        "<cpu mode='host-passthrough'/><devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>";
    if (lv->kvm >= 0)
        return lv->kvm;
    KP_AUTO_FREE char *xml = kp_asprintf(format, (int)getpid());
    bool possible = !lv->test && (!lv->here || kernel_makes_machines());
    virDomainPtr domain = !possible ? NULL : virDomainCreateXML(lv->conn, xml, VIR_DOMAIN_START_AUTODESTROY);
    lv->kvm = 0;
    if (domain) {
        kp_sleep_ms(TRIAL_MS);
        int state = VIR_DOMAIN_SHUTOFF;
        lv->kvm = virDomainGetState(domain, &state, NULL, 0) == 0 && state == VIR_DOMAIN_RUNNING;
        (void)virDomainDestroy(domain);
        virDomainFree(domain);
    }
    if (!lv->kvm)
        kp_warn("KVM does not work on libvirt's machine: machines are emulated, which is slow", NULL);
    return lv->kvm;
}
