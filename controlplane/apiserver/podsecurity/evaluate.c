/* What labels ask for, which checks that means, and what they say of a pod. */
#include "controlplane/apiserver/podsecurity/checks_internal.h"

#define NEWEST 36 /* the minor version that "latest" is here */
#define PREFIX "pod-security.kubernetes.io/"

/* ---- labels -------------------------------------------------------------------------------------------------------------------- */
static const char *const level_names[] = {
    [PODSECURITY_PRIVILEGED] = "privileged", [PODSECURITY_BASELINE] = "baseline", [PODSECURITY_RESTRICTED] = "restricted"};

/* False when the label is there and no level. */
static bool read_level(const struct kp_string_map *labels, const char *mode, struct podsecurity_rule *rule, bool *ret_there, struct field_errors *errors)
{
    KP_AUTO_FREE char *key = kp_asprintf(PREFIX "%s", mode);
    const char *value = kp_string_map_get(labels, key);
    *ret_there = value != NULL;
    for (size_t i = 0; value && i < KP_ARRAY_LEN(level_names); i++)
        if (kp_streq(value, level_names[i])) {
            rule->level = (enum podsecurity_level)i;
            return true;
        }
    if (value && errors)
        field_invalid(errors, value, "must be one of privileged, baseline, restricted", "metadata.labels[%s]", key);
    return !value;
}

static bool read_version(const struct kp_string_map *labels, const char *mode, struct podsecurity_rule *rule, struct field_errors *errors)
{
    KP_AUTO_FREE char *key = kp_asprintf(PREFIX "%s-version", mode);
    const char *value = kp_string_map_get(labels, key);
    int64_t minor = -1;
    if (!value)
        return false;
    bool numbered = kp_starts_with(value, "v1.") && strspn(value + 3, "0123456789") == strlen(value + 3) && (value[3] != '0' || !value[4]) &&
                    kp_parse_i64(value + 3, &minor) == 0;
    rule->minor = numbered ? (int)KP_MIN(minor, INT32_MAX) : PODSECURITY_LATEST;
    if (!numbered && !kp_streq(value, "latest") && errors)
        field_invalid(errors, value, "must be \"latest\" or \"v1.x\"", "metadata.labels[%s]", key);
    return true;
}

void podsecurity_policy_of(const struct kp_string_map *labels, struct podsecurity_policy *ret, struct field_errors *errors)
{
    static const struct podsecurity_rule open = {PODSECURITY_PRIVILEGED, PODSECURITY_LATEST};
    bool enforced, audited, warned;
    *ret = (struct podsecurity_policy){open, open, open};
    bool valid = read_level(labels, "enforce", &ret->enforce, &enforced, errors);
    if (!valid)
        ret->enforce.level = PODSECURITY_RESTRICTED;
    (void)read_version(labels, "enforce", &ret->enforce, errors);
    (void)read_level(labels, "audit", &ret->audit, &audited, errors);
    (void)read_version(labels, "audit", &ret->audit, errors);
    (void)read_level(labels, "warn", &ret->warn, &warned, errors);
    bool dated = read_version(labels, "warn", &ret->warn, errors);
    /* Who enforces also wants to be told of workloads whose pods will not come. */
    if (!warned && enforced && valid && ret->enforce.level > ret->warn.level) {
        ret->warn.level = ret->enforce.level;
        if (!dated)
            ret->warn.minor = ret->enforce.minor;
    }
}

const char *podsecurity_rule_text(struct podsecurity_rule rule, struct kp_arena *arena)
{
    if (rule.minor == PODSECURITY_LATEST)
        return kp_arena_printf(arena, "%s:latest", level_names[rule.level]);
    return kp_arena_printf(arena, "%s:v1.%d", level_names[rule.level], rule.minor);
}

bool podsecurity_same(struct podsecurity_rule a, struct podsecurity_rule b)
{
    return a.level == b.level && a.minor == b.minor;
}

/* ---- checks ---------------------------------------------------------------------------------------------------------------------- */
static const struct {
    psa_check_fn check;
    enum podsecurity_level level;
    int since, until;      /* minor versions it is asked for; until 0: all later ones */
    int overridden_since;  /* from this one on a check of restricted stands in for it; 0: never */
} checks[] = {
    {psa_app_armor, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_capabilities_baseline, PODSECURITY_BASELINE, 0, 0, 22},
    {psa_host_namespaces, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_host_paths, PODSECURITY_BASELINE, 0, 0, 1},
    {psa_host_ports, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_host_probes, PODSECURITY_BASELINE, 34, 0, 0},
    {psa_privileged, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_proc_mount_baseline, PODSECURITY_BASELINE, 0, 0, 35},
    {psa_se_linux, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_seccomp_annotations, PODSECURITY_BASELINE, 0, 18, 0},
    {psa_seccomp_baseline, PODSECURITY_BASELINE, 19, 0, 19},
    {psa_sysctls, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_host_process, PODSECURITY_BASELINE, 0, 0, 0},
    {psa_escalation, PODSECURITY_RESTRICTED, 8, 0, 0},
    {psa_capabilities_restricted, PODSECURITY_RESTRICTED, 22, 0, 0},
    {psa_proc_mount_restricted, PODSECURITY_RESTRICTED, 35, 0, 0},
    {psa_volumes, PODSECURITY_RESTRICTED, 0, 0, 0},
    {psa_non_root, PODSECURITY_RESTRICTED, 0, 0, 0},
    {psa_user, PODSECURITY_RESTRICTED, 23, 0, 0},
    {psa_seccomp_restricted, PODSECURITY_RESTRICTED, 19, 0, 0},
};

static bool is_asked(size_t number, enum podsecurity_level level, int minor)
{
    if (checks[number].level > level || minor < checks[number].since || (checks[number].until && minor > checks[number].until))
        return false;
    /* That restricted volumes stand in for host paths holds from v1.0 on. */
    int overridden = checks[number].overridden_since;
    return !(level == PODSECURITY_RESTRICTED && overridden && (minor >= overridden || overridden == 1));
}

/* ---- a pod ---------------------------------------------------------------------------------------------------------------------------- */
static const struct k8s_security_context no_security;
static const struct k8s_pod_security_context no_pod_security;

#define VIEW(c)                                                                                                                                               \
    ((struct psa_container){.name = (c)->name,                                                                                                                \
                            .security = (c)->security_context ? (c)->security_context : &no_security,                                                         \
                            .ports = &(c)->ports,                                                                                                             \
                            .probes = {(c)->liveness_probe, (c)->readiness_probe, (c)->startup_probe},                                                        \
                            .lifecycle = (c)->lifecycle})

static struct psa_pod view_of(const struct k8s_object_meta *meta, const struct k8s_pod_spec *spec, int minor, struct kp_arena *arena)
{
    struct psa_container *all = KP_NEW_ARRAY(arena, struct psa_container, spec->init_containers.len + spec->containers.len + spec->ephemeral_containers.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < spec->init_containers.len; i++)
        all[n++] = VIEW(&spec->init_containers.items[i]);
    for (size_t i = 0; i < spec->containers.len; i++)
        all[n++] = VIEW(&spec->containers.items[i]);
    for (size_t i = 0; i < spec->ephemeral_containers.len; i++)
        all[n++] = VIEW(&spec->ephemeral_containers.items[i]);
    return (struct psa_pod){meta, spec, spec->security_context ? spec->security_context : &no_pod_security, all, n, minor, arena};
}

void podsecurity_evaluate(struct podsecurity_rule rule, const struct k8s_object_meta *meta, const struct k8s_pod_spec *spec, struct kp_arena *arena,
                          struct podsecurity_verdict *ret)
{
    KP_AUTO_BUF struct kp_buf reasons = {0}, details = {0};
    int minor = rule.minor == PODSECURITY_LATEST ? NEWEST : KP_MIN(rule.minor, NEWEST);
    *ret = (struct podsecurity_verdict){0};
    if (rule.level == PODSECURITY_PRIVILEGED)
        return;
    const struct psa_pod pod = view_of(meta, spec, minor, arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(checks); i++) {
        struct psa_finding finding = is_asked(i, rule.level, minor) ? checks[i].check(&pod) : (struct psa_finding){0};
        if (!finding.reason)
            continue;
        kp_buf_printf(&reasons, "%s%s", reasons.len ? ", " : "", finding.reason);
        kp_buf_printf(&details, "%s%s (%s)", details.len ? ", " : "", finding.reason, finding.detail);
    }
    if (!reasons.len)
        return;
    ret->reasons = kp_arena_strndup(arena, reasons.data, reasons.len);
    ret->details = kp_arena_strndup(arena, details.data, details.len);
}

static bool images_differ(const struct k8s_container_items *a, const struct k8s_container_items *b)
{
    if (a->len != b->len)
        return true;
    for (size_t i = 0; i < a->len; i++)
        if (!kp_streq(a->items[i].image, b->items[i].image))
            return true;
    return false;
}

bool podsecurity_update_matters(const struct k8s_pod *old, const struct k8s_pod *new)
{
    const struct k8s_ephemeral_container_items *before = &old->spec->ephemeral_containers, *after = &new->spec->ephemeral_containers;
    if (images_differ(&old->spec->containers, &new->spec->containers) || images_differ(&old->spec->init_containers, &new->spec->init_containers))
        return true;
    for (size_t i = 0; i < after->len; i++) {
        bool same = false;
        for (size_t k = 0; k < before->len; k++)
            same |= kp_streq(before->items[k].name, after->items[i].name) && kp_streq(before->items[k].image, after->items[i].image);
        if (!same)
            return true;
    }
    return false;
}
