/* The security settings of a container, from the pod's and its own contexts. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

static void seccomp_from(const struct k8s_seccomp_profile *profile, struct cri_security *security)
{
    if (!profile)
        return;
    if (kp_streq(profile->type, "RuntimeDefault"))
        security->seccomp = CRI_SECCOMP_RUNTIME_DEFAULT;
    else if (kp_streq(profile->type, "Localhost"))
        security->seccomp = CRI_SECCOMP_LOCALHOST;
    else
        security->seccomp = CRI_SECCOMP_UNCONFINED;
    security->seccomp_localhost = profile->localhost_profile;
}

static void groups_from(const struct k8s_pod_security_context *context, struct kp_arena *arena, struct cri_security *security)
{
    size_t n = context->supplemental_groups.len + (context->has_fs_group ? 1 : 0);
    int64_t *groups = KP_NEW_ARRAY(arena, int64_t, n + 1);
    size_t len = 0;
    for (size_t i = 0; i < context->supplemental_groups.len; i++)
        groups[len++] = context->supplemental_groups.items[i];
    if (context->has_fs_group)
        groups[len++] = context->fs_group;
    security->supplemental_groups = groups;
    security->n_supplemental_groups = len;
}

static void from_container(const struct k8s_security_context *own, struct cri_security *security)
{
    if (own->has_run_as_user) {
        security->has_run_as_user = true;
        security->run_as_user = own->run_as_user;
    }
    if (own->has_run_as_group) {
        security->has_run_as_group = true;
        security->run_as_group = own->run_as_group;
    }
    security->privileged = own->has_privileged && own->privileged;
    security->readonly_rootfs = own->has_read_only_root_filesystem && own->read_only_root_filesystem;
    security->no_new_privs =
        own->has_allow_privilege_escalation && !own->allow_privilege_escalation && !security->privileged;
    seccomp_from(own->seccomp_profile, security);
    security->mask_proc = !security->privileged && !kp_streq(own->proc_mount, "Unmasked");
    if (own->capabilities) {
        security->add_capabilities =
            (struct cri_strings){.items = own->capabilities->add.items, .len = own->capabilities->add.len};
        security->drop_capabilities =
            (struct cri_strings){.items = own->capabilities->drop.items, .len = own->capabilities->drop.len};
    }
}

/* runAsNonRoot: the user that will run must be known to be another than 0. */
static int check_non_root(const struct k8s_pod *pod, const struct k8s_container *container, const struct cri_image *image,
                          const struct cri_security *security, struct kp_error *error)
{
    const struct k8s_pod_security_context *context = pod->spec->security_context;
    const struct k8s_security_context *own = container->security_context;
    bool wanted = context && context->has_run_as_non_root && context->run_as_non_root;
    if (own && own->has_run_as_non_root)
        wanted = own->run_as_non_root;
    if (!wanted)
        return 0;
    if (security->has_run_as_user) {
        if (security->run_as_user == 0)
            return kp_fail(error, KP_EINVALID, "container's runAsUser breaks non-root policy (pod: \"%s_%s(%s)\", container: %s)",
                           pod->metadata->name, pod->metadata->namespace, pod->metadata->uid, container->name);
        return 0;
    }
    if (image && image->has_uid && image->uid == 0)
        return kp_fail(error, KP_EINVALID,
                       "container has runAsNonRoot and image will run as root (pod: \"%s_%s(%s)\", container: %s)",
                       pod->metadata->name, pod->metadata->namespace, pod->metadata->uid, container->name);
    if (image && !image->has_uid && !kp_empty(image->username))
        return kp_fail(error, KP_EINVALID,
                       "container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root "
                       "(pod: \"%s_%s(%s)\", container: %s)",
                       image->username, pod->metadata->name, pod->metadata->namespace, pod->metadata->uid, container->name);
    return 0;
}

int kubelet_container_security(const struct k8s_pod *pod, const struct k8s_container *container, const struct cri_image *image,
                               const char *target_id, struct kp_arena *arena, struct cri_security *ret_security,
                               struct kp_error *error)
{
    const struct k8s_pod_spec *spec = pod->spec;
    const struct k8s_pod_security_context *context = spec->security_context;
    struct cri_security security = {.mask_proc = true, .seccomp = CRI_SECCOMP_UNCONFINED};
    security.network = spec->host_network ? CRI_NS_NODE : CRI_NS_POD;
    security.ipc = spec->host_ipc ? CRI_NS_NODE : CRI_NS_POD;
    bool share = spec->has_share_process_namespace && spec->share_process_namespace;
    security.pid = spec->host_pid ? CRI_NS_NODE : share ? CRI_NS_POD : CRI_NS_CONTAINER;
    if (!kp_empty(target_id)) {
        security.pid = CRI_NS_TARGET;
        security.target_id = target_id;
    }
    if (context) {
        security.has_run_as_user = context->has_run_as_user;
        security.run_as_user = context->run_as_user;
        security.has_run_as_group = context->has_run_as_group;
        security.run_as_group = context->run_as_group;
        groups_from(context, arena, &security);
        seccomp_from(context->seccomp_profile, &security);
    }
    if (container->security_context)
        from_container(container->security_context, &security);
    int rc = check_non_root(pod, container, image, &security, error);
    if (rc < 0)
        return rc;
    /* The runtime needs a user to go with a group; the image's own is spelled out then. */
    if (!security.has_run_as_user && image) {
        if (image->has_uid) {
            security.has_run_as_user = true;
            security.run_as_user = image->uid;
        } else if (!kp_empty(image->username)) {
            security.run_as_username = image->username;
        }
    }
    *ret_security = security;
    return 0;
}
