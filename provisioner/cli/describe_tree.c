/* The description of a cluster as a tree of lines. Pure. */
#include "provisioner/cli/describe_internal.h"

#define DEPTH_MAX 8

/* Where a line hangs: at each depth whether more follow below. */
struct branch {
    bool more[DEPTH_MAX];
    size_t depth;
};

static void line(struct kp_buf *out, const struct branch *at, const char *format, ...) KP_PRINTF(3, 4);
static void line(struct kp_buf *out, const struct branch *at, const char *format, ...)
{
    va_list ap;
    for (size_t i = 0; i < at->depth; i++) {
        bool last = i + 1 == at->depth;
        kp_buf_puts(out, at->more[i] ? (last ? "├─ " : "│  ") : (last ? "└─ " : "   "));
    }
    va_start(ap, format);
    KP_AUTO_FREE char *text = NULL;
    if (vasprintf(&text, format, ap) >= 0)
        kp_buf_puts(out, text);
    va_end(ap);
    kp_buf_putc(out, '\n');
}

static struct branch below(const struct branch *at, bool more)
{
    struct branch child = *at;
    KP_ASSERT(child.depth < DEPTH_MAX);
    child.more[child.depth++] = more;
    return child;
}

static const char *text(const struct kp_value *object, const char *key)
{
    const char *s = kp_value_str(kp_value_get(object, key));
    return kp_empty(s) ? "-" : s;
}

static long long number(const struct kp_value *object, const char *key)
{
    const struct kp_value *value = kp_value_get(object, key);
    return value && value->kind == KP_VALUE_INT ? (long long)value->integer : 0;
}

static bool truth(const struct kp_value *object, const char *key)
{
    const struct kp_value *value = kp_value_get(object, key);
    return value && value->kind == KP_VALUE_BOOL && value->boolean;
}

static size_t count(const struct kp_value *array)
{
    return array && array->kind == KP_VALUE_ARRAY ? array->array.len : 0;
}

/* Only a clock that is off is worth a word. */
static const char *clock_text(const struct kp_value *machine, char out[48])
{
    const struct kp_value *value = kp_value_get(machine, "clockOffsetSeconds");
    double off = !value ? 0 : value->kind == KP_VALUE_INT ? (double)value->integer : value->kind == KP_VALUE_DOUBLE ? value->number : 0;
    *out = 0;
    if (off > 2 || off < -2)
        snprintf(out, 48, "  clock %.1f s %s", off < 0 ? -off : off, off < 0 ? "slow" : "fast");
    return out;
}

static void machine_line(struct kp_buf *out, const struct branch *at, const struct kp_value *machine)
{
    const struct kp_value *etcd = kp_value_get(machine, "etcd"), *pods = kp_value_get(machine, "staticPods");
    char clock[48];
    line(out, at, "%s  %s  %s  %s%s  %s%s%s%s", text(machine, "name"), text(machine, "address"), text(machine, "power"), text(machine, "ready"),
         truth(machine, "unschedulable") ? " (cordoned)" : "", text(machine, "version"), kp_streq(text(machine, "type"), "-") ? "" : "  ",
         kp_streq(text(machine, "type"), "-") ? "" : text(machine, "type"), clock_text(machine, clock));
    if (etcd) {
        struct branch child = below(at, count(pods) > 0);
        line(out, &child, "etcd member %s: %s%s%s, %lld KiB%s%s", text(etcd, "id"), truth(etcd, "healthy") ? "healthy" : "unhealthy",
             truth(etcd, "leader") ? ", leader" : "", truth(etcd, "learner") ? ", learner" : "", number(etcd, "dbSizeBytes") / 1024,
             kp_streq(text(etcd, "problem"), "-") ? "" : ": ", kp_streq(text(etcd, "problem"), "-") ? "" : text(etcd, "problem"));
    }
    for (size_t i = 0; i < count(pods); i++) {
        const struct kp_value *pod = pods->array.items[i];
        struct branch child = below(at, i + 1 < count(pods));
        line(out, &child, "%s  %s%s, %lld restarts", text(pod, "name"), text(pod, "state"), truth(pod, "ready") ? "" : ", not ready",
             number(pod, "restarts"));
    }
}

static void machine_lines(struct kp_buf *out, const struct branch *at, const struct kp_value *machines)
{
    for (size_t i = 0; i < count(machines); i++) {
        struct branch child = below(at, i + 1 < count(machines));
        machine_line(out, &child, machines->array.items[i]);
    }
}

static void network_lines(struct kp_buf *out, const struct branch *at, const struct kp_value *network)
{
    struct branch more = below(at, true), last = below(at, false);
    line(out, at, "network");
    line(out, &more, "machines  %s, gateway %s", text(network, "machineCIDR"), text(network, "gateway"));
    line(out, &more, "pods      %s", text(network, "podCIDR"));
    line(out, &more, "services  %s", text(network, "serviceCIDR"));
    line(out, &last, "domain    %s", text(network, "dnsDomain"));
}

static void certificate_lines(struct kp_buf *out, const struct branch *at, const struct kp_value *certificates)
{
    const struct kp_value *first = kp_value_at(certificates, 0);
    if (!first) {
        line(out, at, "certificates  none");
        return;
    }
    line(out, at, "certificates  %zu, the first ends in %lld days at %s: %s", count(certificates), number(first, "days"), text(first, "notAfter"),
         text(first, "where"));
}

static void add_on_lines(struct kp_buf *out, const struct branch *at, const struct kp_value *add_ons)
{
    line(out, at, "add-ons");
    for (size_t i = 0; i < count(add_ons); i++) {
        const struct kp_value *item = add_ons->array.items[i];
        struct branch child = below(at, i + 1 < count(add_ons));
        line(out, &child, "%s %s  %lld of %lld ready", text(item, "kind"), text(item, "name"), number(item, "ready"), number(item, "wanted"));
    }
}

void describe_tree(const struct kp_value *cluster, struct kp_buf *out)
{
    const struct branch root = {0};
    const struct kp_value *problems = kp_value_get(cluster, "problems"), *pools = kp_value_get(cluster, "pools");
    const struct kp_value *control_plane = kp_value_get(cluster, "controlPlane");
    struct branch more = below(&root, true), certificates = below(&root, count(problems) > 0), last = below(&root, false);
    line(out, &root, "cluster %s  %s%s", text(cluster, "name"), text(cluster, "phase"), truth(cluster, "deletionProtection") ? "  protected" : "");
    line(out, &more, "provider  %s, uid %s, created %s", text(cluster, "provider"), text(cluster, "uid"), text(cluster, "createdAt"));
    line(out, &more, "version   %s, image %s", text(cluster, "version"), text(cluster, "image"));
    line(out, &more, "endpoint  %s", text(cluster, "endpoint"));
    network_lines(out, &more, kp_value_get(cluster, "network"));
    line(out, &more, "control plane  %zu of %lld machines", count(kp_value_get(control_plane, "machines")), number(control_plane, "replicas"));
    machine_lines(out, &more, kp_value_get(control_plane, "machines"));
    for (size_t i = 0; i < count(pools); i++) {
        const struct kp_value *pool = pools->array.items[i];
        line(out, &more, "pool %s  %zu of %lld machines", text(pool, "name"), count(kp_value_get(pool, "machines")), number(pool, "replicas"));
        machine_lines(out, &more, kp_value_get(pool, "machines"));
    }
    add_on_lines(out, &more, kp_value_get(cluster, "addOns"));
    certificate_lines(out, &certificates, kp_value_get(cluster, "certificates"));
    if (!count(problems))
        return;
    line(out, &last, "not known");
    for (size_t i = 0; i < count(problems); i++) {
        struct branch child = below(&last, i + 1 < count(problems));
        line(out, &child, "%s", kp_value_str(problems->array.items[i]));
    }
}
