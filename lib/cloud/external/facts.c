/* Whether a machine can be a node, from what it says of itself: every fault with its remedy. */
#include "cloud/external/external_internal.h"

#define DISK_MB_MIN 3000 /* both root trees unpacked, images, logs; etcd's own is extra */
#define MEMORY_MB_MIN 900
#define KERNEL_MAJOR_MIN 5
#define KERNEL_MINOR_MIN 10 /* nftables' maps as kube-proxy uses them */
#define CLOCK_S_MAX 30      /* certificates and leases bear a little; logs that disagree help nobody */

const char *external_value(const char *text, const char *key, struct kp_arena *arena)
{
    size_t len = strlen(key);
    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n');
        if (strncmp(line, key, len) == 0 && line[len] == '=') {
            const char *value = line + len + 1;
            while (end > value && end[-1] == ' ')
                end--;
            return kp_arena_strndup(arena, value, (size_t)(end - value));
        }
        line = *end ? end + 1 : end;
    }
    return "";
}

static void add(struct kp_strings *ret, struct kp_arena *arena, const char *format, ...) KP_PRINTF(3, 4);
static void add(struct kp_strings *ret, struct kp_arena *arena, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    kp_strings_add(ret, kp_arena_vprintf(arena, format, ap));
    va_end(ap);
}

static int64_t number(const char *facts, const char *key, struct kp_arena *arena)
{
    int64_t value = 0;
    return kp_parse_i64(external_value(facts, key, arena), &value) == 0 ? value : -1;
}

static bool kernel_is_old(const char *release)
{
    int major = 0, minor = 0;
    if (sscanf(release, "%d.%d", &major, &minor) != 2)
        return true;
    return major < KERNEL_MAJOR_MIN || (major == KERNEL_MAJOR_MIN && minor < KERNEL_MINOR_MIN);
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = len ? list : ""; *at && (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == 0))
            return true;
    return false;
}

static void check_ports(const char *facts, bool control_plane, struct kp_arena *arena, struct kp_strings *ret)
{
    static const struct {
        const char *port, *who;
        bool everywhere;
    } ports[] = {
        {"6443", "kube-apiserver", false}, {"2379", "etcd", false}, {"2380", "etcd", false},
        {"10257", "kube-controller-manager", false}, {"10259", "kube-scheduler", false},
        {"10250", "kubelet", true}, {"10248", "kubelet", true}, {"10256", "kube-proxy", true}, {"10246", "kprov-network", true},
    };
    const char *taken = external_value(facts, "ports", arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(ports); i++)
        if ((control_plane || ports[i].everywhere) && has_word(taken, ports[i].port))
            add(ret, arena, "port %s, which %s needs, is in use: stop what listens there (ss -lntp)", ports[i].port, ports[i].who);
}

static void check_kernel(const char *facts, const struct external_wanted *wanted, struct kp_arena *arena, struct kp_strings *ret)
{
    const char *arch = external_value(facts, "arch", arena), *kernel = external_value(facts, "kernel", arena);
    const char *features = external_value(facts, "missingFeatures", arena), *tools = external_value(facts, "missingTools", arena);
    const char *filesystem = external_value(facts, "filesystem", arena);
    if (!kp_streq(arch, wanted->arch))
        add(ret, arena, "its architecture is %s, the node image's %s: take another machine, or build the image on one of its kind", arch,
            wanted->arch);
    if (kernel_is_old(kernel))
        add(ret, arena, "its kernel is %s: at least %d.%d is needed, upgrade it", kernel, KERNEL_MAJOR_MIN, KERNEL_MINOR_MIN);
    if (*features)
        add(ret, arena, "its kernel lacks %s: load the modules, or install a distribution's full kernel", features);
    if (*tools)
        add(ret, arena, "the programs %s are missing: install util-linux, coreutils, tar, mawk, sed and findutils", tools);
    /* Overlayfs takes none of these as the place for its changes. */
    if (has_word("overlayfs overlay nfs nfs4 fuseblk fuse cifs smb2 9p", filesystem))
        add(ret, arena, EXTERNAL_HOME " would be on %s: mount a disk with ext4 or xfs there", filesystem);
}

void external_check_facts(const char *facts, const struct external_wanted *wanted, struct kp_arena *arena, struct kp_strings *ret)
{
    int64_t disk = number(facts, "diskMB", arena), memory = number(facts, "memoryMB", arena), now = number(facts, "now", arena);
    if (!kp_streq(external_value(facts, "root", arena), "0")) {
        add(ret, arena, "its user is not root and may not become it: let it use sudo without a password");
        return; /* what others see of a machine says little */
    }
    check_kernel(facts, wanted, arena, ret);
    check_ports(facts, wanted->control_plane, arena, ret);
    if (disk < DISK_MB_MIN)
        add(ret, arena, "/var/lib has %lld MB free, %d are needed: free some, or mount a disk at " EXTERNAL_HOME, (long long)disk,
            DISK_MB_MIN);
    if (memory < MEMORY_MB_MIN)
        add(ret, arena, "it has %lld MB of memory, %d are needed", (long long)memory, MEMORY_MB_MIN);
    uint64_t a = (uint64_t)now, b = (uint64_t)wanted->now_s, off = now > wanted->now_s ? a - b : b - a; /* any number may come */
    if (off > (uint64_t)(CLOCK_S_MAX + wanted->clock_error_s))
        add(ret, arena, "its clock is %llu s off: set it, and keep it by NTP (timedatectl set-ntp true)", (unsigned long long)off);
    const char *left = external_value(facts, "leftovers", arena);
    if (*left)
        add(ret, arena, "another cluster has left %s: remove that (kubeadm reset, ip link delete cni0), or take another machine", left);
}
