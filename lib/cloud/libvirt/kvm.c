/* Whether libvirt's machine can virtualise: asked by booting something, for the device alone promises nothing. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"

#define TRIAL_MS 4000 /* with KVM a kernel gets to its panic in less than one second */
#define REMEMBERED "/run/kprov/libvirt-kvm" /* gone at the next boot, as what it tells may be */

/* Asking the kernel takes no time; starting a domain that cannot run may take libvirt long. */
static bool kernel_makes_machines(void)
{
    KP_AUTO_CLOSE int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    KP_AUTO_CLOSE int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    return vm >= 0;
}

/* The nodes' kernel without a root panics, which ends the domain: as much of a boot as it takes to prove that one works. */
static bool trial_boots(struct lv *lv, const char *kernel)
{
    KP_AUTO_FREE char *xml = kp_asprintf(
        "<domain type='kvm'><name>kprov-trial-%d</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel><cmdline>quiet panic=-1</cmdline></os>"
        "<features><acpi/><apic/></features><cpu mode='host-passthrough'/>"
        "<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>"
        "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        (int)getpid(), kernel);
    virDomainPtr domain = virDomainCreateXML(lv->conn, xml, VIR_DOMAIN_START_AUTODESTROY);
    if (!domain)
        return false;
    bool ended = lv_wait_off(lv->events, domain, TRIAL_MS);
    if (!ended)
        (void)virDomainDestroy(domain); /* else it goes with the connection */
    virDomainFree(domain);
    return ended;
}

static bool recall(bool *ret_works)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (kp_read_file(REMEMBERED, 16, &text, NULL) < 0 || !text.data)
        return false;
    *ret_works = kp_streq(text.data, "yes");
    return *ret_works || kp_streq(text.data, "no");
}

static void remember(bool works)
{
    const char *text = works ? "yes" : "no";
    struct kp_error error = {0};
    if (kp_mkdir_p("/run/kprov", 0755, &error) < 0 || kp_write_file(REMEMBERED, text, strlen(text), 0644, &error) < 0)
        kp_warn("the next cluster tries KVM again", "error", error.message, NULL);
}

bool lv_has_kvm(struct lv *lv, const char *kernel)
{
    bool works = false;
    if (lv->kvm >= 0)
        return lv->kvm;
    if (!lv->test && !(lv->here && recall(&works))) {
        works = (!lv->here || kernel_makes_machines()) && trial_boots(lv, kernel);
        if (lv->here)
            remember(works);
    }
    lv->kvm = works;
    if (!works && !lv->test)
        kp_warn("KVM does not work on libvirt's machine: machines are emulated, which is slow", NULL);
    return works;
}
