/* The checks of the level restricted: what a hardened pod has to say of itself. */
#include "controlplane/apiserver/podsecurity/checks_internal.h"

static const struct psa_finding fine;

/* Since v1.25: of Windows pods nothing is asked that Windows does not have. */
static bool is_windows(const struct psa_pod *pod)
{
    return pod->minor >= 25 && pod->spec->os && kp_streq(pod->spec->os->name, "windows");
}

/* Since v1.35: with users of its own, root of the pod is nobody on the node. */
static bool has_own_users(const struct psa_pod *pod)
{
    return pod->minor >= 35 && pod->spec->has_host_users && !pod->spec->host_users;
}

struct psa_finding psa_escalation(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0};
    for (size_t i = 0; i < pod->n; i++) {
        const struct k8s_security_context *security = pod->containers[i].security;
        if (!security->has_allow_privilege_escalation || security->allow_privilege_escalation)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    }
    if (!bad.len || is_windows(pod))
        return fine;
    return (struct psa_finding){"allowPrivilegeEscalation != false",
                                kp_arena_printf(pod->arena, "%s must set securityContext.allowPrivilegeEscalation=false", psa_containers(&bad, pod->arena))};
}

struct psa_finding psa_capabilities_restricted(const struct psa_pod *pod)
{
    struct kp_string_list kept = {0}, adding = {0}, added = {0}, details = {0};
    for (size_t i = 0; i < pod->n; i++) {
        const struct k8s_capabilities *capabilities = pod->containers[i].security->capabilities;
        bool forbidden = false;
        if (!capabilities || !kp_string_list_has(&capabilities->drop, "ALL"))
            kp_string_list_add(pod->arena, &kept, pod->containers[i].name);
        for (size_t k = 0; capabilities && k < capabilities->add.len; k++) {
            if (kp_streq(capabilities->add.items[k], "NET_BIND_SERVICE"))
                continue;
            forbidden = true;
            psa_add_sorted(&added, capabilities->add.items[k], pod->arena);
        }
        if (forbidden)
            kp_string_list_add(pod->arena, &adding, pod->containers[i].name);
    }
    if (kept.len)
        kp_string_list_add(pod->arena, &details,
                           kp_arena_printf(pod->arena, "%s must set securityContext.capabilities.drop=[\"ALL\"]", psa_containers(&kept, pod->arena)));
    if (adding.len)
        kp_string_list_add(pod->arena, &details, kp_arena_printf(pod->arena, "%s must not include %s in securityContext.capabilities.add",
                                                                 psa_containers(&adding, pod->arena), psa_quoted(&added, pod->arena)));
    if (!details.len || is_windows(pod))
        return fine;
    return (struct psa_finding){"unrestricted capabilities", psa_joined(&details, "; ", pod->arena)};
}

/* The source's name when it is not among those that are harmless; NULL when it is. */
static const char *restricted_source(const struct k8s_volume *v)
{
    const struct {
        const void *source;
        const char *name;
    } sources[] = {
        {v->host_path, "hostPath"},
        {v->gce_persistent_disk, "gcePersistentDisk"},
        {v->aws_elastic_block_store, "awsElasticBlockStore"},
        {v->git_repo, "gitRepo"},
        {v->nfs, "nfs"},
        {v->iscsi, "iscsi"},
        {v->glusterfs, "glusterfs"},
        {v->rbd, "rbd"},
        {v->flex_volume, "flexVolume"},
        {v->cinder, "cinder"},
        {v->cephfs, "cephfs"},
        {v->flocker, "flocker"},
        {v->fc, "fc"},
        {v->azure_file, "azureFile"},
        {v->vsphere_volume, "vsphereVolume"},
        {v->quobyte, "quobyte"},
        {v->azure_disk, "azureDisk"},
        {v->photon_persistent_disk, "photonPersistentDisk"},
        {v->portworx_volume, "portworxVolume"},
        {v->scale_io, "scaleIO"},
        {v->storageos, "storageos"},
    };
    if (v->config_map || v->csi || v->downward_api || v->empty_dir || v->ephemeral || v->image || v->persistent_volume_claim || v->projected || v->secret)
        return NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(sources); i++)
        if (sources[i].source)
            return sources[i].name;
    return "unknown";
}

struct psa_finding psa_volumes(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0}, types = {0};
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const char *source = restricted_source(&pod->spec->volumes.items[i]);
        if (!source)
            continue;
        kp_string_list_add(pod->arena, &bad, pod->spec->volumes.items[i].name);
        psa_add_sorted(&types, source, pod->arena);
    }
    if (!bad.len)
        return fine;
    return (struct psa_finding){"restricted volume types",
                                kp_arena_printf(pod->arena, "%s %s %s %s %s", bad.len == 1 ? "volume" : "volumes", psa_quoted(&bad, pod->arena),
                                                bad.len == 1 ? "uses" : "use", types.len == 1 ? "restricted volume type" : "restricted volume types",
                                                psa_quoted(&types, pod->arena))};
}

struct psa_finding psa_non_root(const struct psa_pod *pod)
{
    static const char reason[] = "runAsNonRoot != true";
    struct kp_string_list said = {0}, silent = {0};
    bool of_pod = pod->security->has_run_as_non_root, pod_wrong = of_pod && !pod->security->run_as_non_root;
    if (has_own_users(pod))
        return fine;
    for (size_t i = 0; i < pod->n; i++) {
        const struct k8s_security_context *security = pod->containers[i].security;
        if (security->has_run_as_non_root && !security->run_as_non_root)
            kp_string_list_add(pod->arena, &said, pod->containers[i].name);
        else if (!security->has_run_as_non_root && !(of_pod && !pod_wrong))
            kp_string_list_add(pod->arena, &silent, pod->containers[i].name);
    }
    if (pod_wrong || said.len)
        return (struct psa_finding){reason, kp_arena_printf(pod->arena, "%s must not set securityContext.runAsNonRoot=false", psa_setters(pod_wrong, &said, pod->arena))};
    if (silent.len)
        return (struct psa_finding){reason, kp_arena_printf(pod->arena, "pod or %s must set securityContext.runAsNonRoot=true", psa_containers(&silent, pod->arena))};
    return fine;
}

struct psa_finding psa_user(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0};
    bool of_pod = pod->security->has_run_as_user && pod->security->run_as_user == 0;
    for (size_t i = 0; i < pod->n; i++)
        if (pod->containers[i].security->has_run_as_user && pod->containers[i].security->run_as_user == 0)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    if ((!of_pod && !bad.len) || has_own_users(pod))
        return fine;
    return (struct psa_finding){"runAsUser=0", kp_arena_printf(pod->arena, "%s must not set runAsUser=0", psa_setters(of_pod, &bad, pod->arena))};
}

struct psa_finding psa_seccomp_restricted(const struct psa_pod *pod)
{
    struct kp_string_list silent = {0};
    struct psa_finding wrong = psa_seccomp_baseline(pod);
    if (is_windows(pod))
        return fine;
    if (wrong.reason)
        return wrong;
    for (size_t i = 0; i < pod->n; i++)
        if (!pod->containers[i].security->seccomp_profile && !pod->security->seccomp_profile)
            kp_string_list_add(pod->arena, &silent, pod->containers[i].name);
    if (!silent.len)
        return fine;
    return (struct psa_finding){"seccompProfile", kp_arena_printf(pod->arena, "pod or %s must set securityContext.seccompProfile.type to \"RuntimeDefault\" or "
                                                                              "\"Localhost\"", psa_containers(&silent, pod->arena))};
}
