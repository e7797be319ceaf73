/* Machines: domains that boot the node image's kernel directly, tagged in their metadata. */
#include "cloud/libvirt/libvirt_internal.h"

#include <libvirt/virterror.h>

/* SSE 4.2, AES and carry-less multiplication, and nothing that emulation pays for without use (AVX, five levels of page tables). */
/* Emulation has no side channels to guard, and each timer that is set costs it: those of less than a tick, which Go's runtime sets a thousand times a
   second while it is busy, wait for the tick (highres=off). Words that the kernel does not know become init's environment: Go's programs collect
   their garbage less often. */
#define EMULATED_ARGS " mitigations=off preempt=none audit=0 nokaslr norandmaps highres=off GOGC=400"
#define EMULATED_CPU "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>Westmere</model></cpu>"
#define CONTROL_PLANE_WEIGHT 4 /* times that of other machines */
#define SCHEDULER_PARAMETERS_MAX 32

struct size {
    const char *name;
    int vcpus, memory_mib;
};
static const struct size sizes[] = {{"", 1, 1024}, {"small", 1, 1024}, {"medium", 2, 2048}, {"large", 4, 4096}, {"xlarge", 8, 8192}};

static const struct size *find_size(const char *type)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(sizes); i++)
        if (kp_streq(sizes[i].name, type ? type : ""))
            return &sizes[i];
    return NULL;
}

static void tag(struct kp_buf *out, const char *name, const char *value)
{
    kp_buf_printf(out, " %s='", name);
    lv_xml_text(out, value ? value : "");
    kp_buf_putc(out, '\'');
}

void lv_domain_xml(const struct cloud_machine_spec *spec, const struct lv_paths *paths, const char *type, const char *network,
                   int64_t created_s, struct kp_arena *arena, struct kp_buf *out)
{
    const struct size *size = find_size(spec->machine_type);
    bool emulated = kp_streq(type, "qemu");
    kp_buf_printf(out, "<domain type='%s'><name>%s</name><metadata><kprov:machine xmlns:kprov='" LV_NAMESPACE "'", type, spec->name);
    tag(out, "cluster", spec->cluster_uid);
    tag(out, "name", spec->name);
    tag(out, "role", spec->role);
    tag(out, "pool", spec->pool);
    tag(out, "type", spec->machine_type);
    tag(out, "image", spec->image);
    tag(out, "address", spec->address);
    tag(out, "created", kp_arena_printf(arena, "%lld", (long long)created_s));
    kp_buf_printf(out,
                  "/></metadata><memory unit='MiB'>%d</memory><vcpu>%d</vcpu>"
                  "<sysinfo type='fwcfg'><entry name='opt/kprov/bootstrap' file='%s'/></sysinfo>"
                  "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel><initrd>%s</initrd>"
                  "<cmdline>console=ttyS0 quiet panic=-1%s</cmdline></os>"
                  "<features><acpi/><apic/></features>%s"
                  "<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash><devices>",
                  size->memory_mib, size->vcpus, paths->bootstrap, paths->kernel, paths->initrd,
                  emulated ? EMULATED_ARGS : "", emulated ? EMULATED_CPU : "<cpu mode='host-passthrough'/>");
    kp_buf_printf(out,
                  "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/>"
                  "<readonly/><shareable/></disk>"
                  "<disk type='file' device='disk'><driver name='qemu' type='raw' discard='unmap'/><source file='%s'/>"
                  "<target dev='vdb' bus='virtio'/></disk>",
                  paths->root, paths->data);
    kp_buf_printf(out,
                  "<interface type='network'><mac address='%s'/><source network='%s'/><model type='virtio'/></interface>"
                  "<serial type='file'><source path='%s' append='on'/><target port='0'/></serial>"
                  "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
                  "<controller type='usb' model='none'/><memballoon model='virtio'/></devices></domain>",
                  lv_mac_of(spec->address, arena), network, paths->console);
}

/* Our element in a domain's metadata as a machine. False when it has none: somebody else's. */
static bool describe(virDomainPtr domain, struct kp_arena *arena, struct cloud_machine *ret)
{
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    struct kp_error ignored = {0};
    char *text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, LV_NAMESPACE, VIR_DOMAIN_AFFECT_CURRENT);
    if (!text)
        return false;
    int r = lv_xml_parse(text, &doc, &ignored);
    free(text);
    if (r < 0)
        return false;
    xmlNodePtr machine = xmlDocGetRootElement(doc);
    const char *uid = lv_xml_attr(machine, "cluster", arena), *name = lv_xml_attr(machine, "name", arena);
    const char *created = lv_xml_attr(machine, "created", arena);
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    if (!uid || !name || virDomainGetUUIDString(domain, uuid) < 0)
        return false;
    *ret = (struct cloud_machine){
        .id = kp_arena_strdup(arena, uuid), .provider_id = kp_arena_printf(arena, "libvirt://%s/%s", uid, name),
        .name = name, .cluster_uid = uid, .role = lv_xml_attr(machine, "role", arena), .pool = lv_xml_attr(machine, "pool", arena),
        .machine_type = lv_xml_attr(machine, "type", arena), .image = lv_xml_attr(machine, "image", arena),
        .address = lv_xml_attr(machine, "address", arena), .region = "", .zone = "",
        .power = virDomainIsActive(domain) == 1 ? CLOUD_POWER_ON : CLOUD_POWER_OFF,
    };
    if (!created || kp_parse_i64(created, &ret->created_s) < 0)
        ret->created_s = 0;
    return ret->role && ret->pool && ret->machine_type && ret->image && ret->address;
}

static int find_domain(struct lv *lv, const char *uid, const char *name, struct kp_arena *arena, virDomainPtr *ret_domain,
                       struct cloud_machine *ret, struct kp_error *error)
{
    virDomainPtr domain = virDomainLookupByName(lv->conn, name);
    if (!domain)
        return lv_fail(error, "machine %s", name);
    if (!describe(domain, arena, ret) || !kp_streq(ret->cluster_uid, uid)) {
        virDomainFree(domain);
        return kp_fail(error, KP_ENOTFOUND, "machine %s: the domain of that name is not of cluster %s", name, uid);
    }
    *ret_domain = domain;
    return 0;
}

/* A name that another's domain has would be taken for ours by everybody who looks. */
static int check_name(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_error *error)
{
    virDomainPtr domain = virDomainLookupByName(lv->conn, spec->name);
    if (!domain)
        return 0;
    virDomainFree(domain);
    return kp_fail(error, KP_ECONFLICT, "libvirt has a domain %s that is not of this cluster: rename or delete it, or name the cluster otherwise",
                   spec->name);
}

/* What a domain needs before it is defined. One machine at a time: they share images, pool and trial. */
static int prepare(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct lv_paths *paths, const char **ret_type,
                   struct kp_error *error)
{
    pthread_mutex_lock(&lv->shared);
    int r = lv_image_ensure(lv, spec->image, arena, paths, error);
    if (r == 0)
        r = lv_disks_ensure(lv, spec, arena, paths, error);
    if (r == 0 && !lv->test)
        *ret_type = lv_has_kvm(lv, paths->kernel) ? "kvm" : "qemu";
    pthread_mutex_unlock(&lv->shared);
    return r;
}

/* A control plane gets more of a busy host's processors than other machines, as much at each start: what workers do must not cost the API its
   leases. Where libvirt has no weights, as in sessions, all are alike. */
static void weigh(virDomainPtr domain)
{
    virTypedParameter params[SCHEDULER_PARAMETERS_MAX];
    int n = 0;
    char *type = virDomainGetSchedulerType(domain, &n);
    bool readable = type && n > 0 && n <= SCHEDULER_PARAMETERS_MAX &&
                    virDomainGetSchedulerParametersFlags(domain, params, &n, VIR_DOMAIN_AFFECT_LIVE) == 0;
    free(type);
    for (int i = 0; readable && i < n; i++) {
        if (!kp_streq(params[i].field, VIR_DOMAIN_SCHEDULER_CPU_SHARES) || params[i].type != VIR_TYPED_PARAM_ULLONG)
            continue;
        params[i].value.ul *= CONTROL_PLANE_WEIGHT;
        (void)virDomainSetSchedulerParametersFlags(domain, &params[i], 1, VIR_DOMAIN_AFFECT_LIVE);
    }
    if (readable)
        virTypedParamsClear(params, n);
}

static int start_domain(virDomainPtr domain, const char *role, const char *name, struct kp_error *error)
{
    if (virDomainCreate(domain) < 0)
        return lv_fail(error, "start machine %s", name);
    if (kp_streq(role, "control-plane"))
        weigh(domain);
    return 0;
}

int lv_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                      struct kp_error *error)
{
    struct lv *lv = state;
    struct lv_paths paths = {0};
    struct kp_error why = {0};
    virDomainPtr domain = NULL;
    if (!find_size(spec->machine_type))
        return kp_fail(error, KP_EINVALID, "machine type \"%s\": known are small, medium, large and xlarge", spec->machine_type);
    int r = find_domain(lv, spec->cluster_uid, spec->name, arena, &domain, ret, &why);
    if (r == 0)
        virDomainFree(domain);
    if (r != KP_ENOTFOUND)
        return r < 0 ? kp_fail(error, r, "%s", why.message) : 0;
    const char *type = "test";
    if (check_name(lv, spec, error) < 0 || prepare(lv, spec, arena, &paths, &type, error) < 0)
        return kp_wrap(error, "machine %s", spec->name);
    KP_AUTO_BUF struct kp_buf xml = {0};
    lv_domain_xml(spec, &paths, type, lv_network_name(spec->cluster_uid, arena), kp_now_s(), arena, &xml);
    domain = virDomainDefineXML(lv->conn, xml.data);
    if (!domain)
        return lv_fail(error, "define machine %s", spec->name);
    r = start_domain(domain, spec->role, spec->name, error);
    if (r == 0) {
        (void)virDomainSetAutostart(domain, 1); /* session drivers may not have it */
        if (!describe(domain, arena, ret))
            r = kp_fail(error, KP_ECORRUPT, "machine %s lost its tags", spec->name);
    }
    virDomainFree(domain);
    return r;
}

static int stop_domain(struct lv *lv, virDomainPtr domain, bool kill, struct kp_error *error)
{
    if (!kill && virDomainShutdown(domain) == 0 && lv_wait_off(lv->events, domain, LV_STOP_MS)) /* the power button */
        return 0;
    if (virDomainIsActive(domain) == 1 && virDomainDestroy(domain) < 0 && virDomainIsActive(domain) == 1)
        return lv_fail(error, "power off %s", virDomainGetName(domain));
    return 0;
}

/* libvirt changes a stored domain when it is defined again with the same name and identity. */
static int redefine(struct lv *lv, const char *uuid, const char *document, struct kp_arena *arena, virDomainPtr *ret, struct kp_error *error)
{
    const char *after_name = strstr(document, "</name>");
    KP_ASSERT(after_name);
    after_name += strlen("</name>");
    const char *xml = kp_arena_printf(arena, "%.*s<uuid>%s</uuid>%s", (int)(after_name - document), document, uuid, after_name);
    *ret = virDomainDefineXML(lv->conn, xml);
    return *ret ? 0 : lv_fail(error, "define the machine again");
}

/* QEMU has read the config that it was started with; the file is for its next start. */
static int change_later(struct lv *lv, const struct cloud_machine_spec *spec, const struct cloud_machine *machine, struct kp_arena *arena,
                        struct kp_error *error)
{
    if (!kp_streq(machine->image, spec->image))
        return kp_fail(error, KP_EINVALID, "machine %s runs: it gets another image only when it is turned off", spec->name);
    return lv_config_put(lv, spec, arena, error);
}

/* The data disk stays, and its layer over the image with it (initrd-init.sh makes that anew for another image). */
int lv_machine_reimage(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                       struct kp_error *error)
{
    struct lv *lv = state;
    struct lv_paths paths = {0};
    struct cloud_machine machine;
    virDomainPtr domain = NULL, changed = NULL;
    const char *type = "test";
    int r = find_domain(lv, spec->cluster_uid, spec->name, arena, &domain, &machine, error);
    if (r < 0)
        return r;
    if (spec->at_next_boot) {
        *ret = machine;
        virDomainFree(domain);
        return change_later(lv, spec, &machine, arena, error);
    }
    struct cloud_machine_spec wanted = *spec;
    wanted.role = machine.role;
    wanted.pool = machine.pool;
    wanted.machine_type = machine.machine_type;
    wanted.address = machine.address;
    r = stop_domain(lv, domain, false, error);
    if (r == 0)
        r = prepare(lv, &wanted, arena, &paths, &type, error);
    KP_AUTO_BUF struct kp_buf xml = {0};
    if (r == 0) {
        lv_domain_xml(&wanted, &paths, type, lv_network_name(spec->cluster_uid, arena), machine.created_s, arena, &xml);
        r = redefine(lv, machine.id, xml.data, arena, &changed, error);
    }
    if (r == 0)
        r = start_domain(changed, machine.role, spec->name, error);
    if (r == 0 && !describe(changed, arena, ret))
        r = kp_fail(error, KP_ECORRUPT, "machine %s lost its tags", spec->name);
    virDomainFree(domain);
    if (changed)
        virDomainFree(changed);
    return r;
}

int lv_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret,
                   struct kp_error *error)
{
    struct lv *lv = state;
    virDomainPtr domain = NULL;
    int r = find_domain(lv, uid, name, arena, &domain, ret, error);
    if (domain)
        virDomainFree(domain);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_machine *)a)->name, ((const struct cloud_machine *)b)->name);
}

int lv_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct lv *lv = state;
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(lv->conn, &domains, 0);
    if (n < 0)
        return lv_fail(error, "list domains");
    *ret = (struct cloud_machine_list){.items = KP_NEW_ARRAY(arena, struct cloud_machine, (size_t)n + 1)};
    for (int i = 0; i < n; i++) {
        struct cloud_machine machine;
        if (describe(domains[i], arena, &machine) && (!uid || kp_streq(machine.cluster_uid, uid)))
            ret->items[ret->len++] = machine;
        virDomainFree(domains[i]);
    }
    free(domains);
    if (ret->len)
        qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

int lv_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    struct lv *lv = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine machine;
    virDomainPtr domain = NULL;
    int r = find_domain(lv, uid, name, arena, &domain, &machine, error);
    if (r < 0)
        return r;
    if (action != CLOUD_POWER_START)
        r = stop_domain(lv, domain, action == CLOUD_POWER_KILL, error);
    else if (machine.power == CLOUD_POWER_OFF)
        r = start_domain(domain, machine.role, name, error);
    virDomainFree(domain);
    return r;
}

int lv_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct lv *lv = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine machine;
    struct kp_error why = {0};
    virDomainPtr domain = NULL;
    int r = find_domain(lv, uid, name, arena, &domain, &machine, &why);
    if (r == 0) {
        bool stored = virDomainIsPersistent(domain) == 1; /* any other is gone when it is off */
        r = stop_domain(lv, domain, true, error);
        if (r == 0 && stored && virDomainUndefine(domain) < 0)
            r = lv_fail(error, "delete machine %s", name);
        virDomainFree(domain);
    } else if (r != KP_ENOTFOUND) {
        return kp_fail(error, r, "%s", why.message);
    } else {
        r = 0;
    }
    return r < 0 ? r : lv_disks_delete(lv, uid, name, error);
}

static void add_uid(struct kp_strings *uids, const char *uid)
{
    for (size_t i = 0; i < uids->len; i++)
        if (kp_streq(uids->items[i], uid))
            return;
    kp_strings_add(uids, uid);
}

/* "kprov-<uid>", as networks and pools are named. */
static void add_named(struct kp_strings *uids, const char *name)
{
    if (name && kp_starts_with(name, "kprov-") && strlen(name) == strlen("kprov-") + 36)
        add_uid(uids, name + strlen("kprov-"));
}

int lv_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    struct lv *lv = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_list machines;
    virNetworkPtr *networks = NULL;
    virStoragePoolPtr *pools = NULL;
    int r = lv_machine_list(lv, NULL, arena, &machines, error);
    for (size_t i = 0; r == 0 && i < machines.len; i++)
        add_uid(ret_uids, machines.items[i].cluster_uid);
    int n = r == 0 ? virConnectListAllNetworks(lv->conn, &networks, 0) : 0;
    if (n < 0)
        r = lv_fail(error, "list networks");
    for (int i = 0; i < n; i++) {
        add_named(ret_uids, virNetworkGetName(networks[i]));
        virNetworkFree(networks[i]);
    }
    free(networks);
    n = r == 0 ? virConnectListAllStoragePools(lv->conn, &pools, 0) : 0;
    if (n < 0)
        r = lv_fail(error, "list storage pools");
    for (int i = 0; i < n; i++) {
        add_named(ret_uids, virStoragePoolGetName(pools[i]));
        virStoragePoolFree(pools[i]);
    }
    free(pools);
    return r;
}
