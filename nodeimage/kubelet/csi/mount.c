/* Bringing a driver's volume into a pod: attached, reported in use, staged on the node, published in the pod. */
#include "nodeimage/kubelet/csi/csi_internal.h"
#include "nodeimage/kubelet/volumes/mounts.h"

#include <unistd.h>

#define LOG "kubernetes.io/csi: " /* upstream's prefix */

struct mounting {
    struct csi *csi;
    const struct csi_volume *volume;
    const struct kubelet_getter *getter;
    struct kp_arena *arena;
    const struct k8s_csi_driver *object; /* NULL: there is none */
    struct csi_driver *driver;
    const char *driver_name, *key, *folder;
    struct csi_data data;
    struct csi_request request;
    const char *step; /* upstream's name of what failed */
};

static int get_object(struct mounting *m, struct kp_error *error)
{
    void *object = NULL;
    int rc = m->getter->object ? m->getter->object(m->getter->arg, &k8s_csidrivers_resource, NULL, m->driver_name, &object, error) : KP_ENOTFOUND;
    m->object = object;
    return rc == KP_ENOTFOUND ? 0 : rc < 0 ? kp_wrap(error, LOG "get CSIDriver %s", m->driver_name) : 0;
}

static int check_lifecycle(struct mounting *m, struct kp_error *error)
{
    const char *mode = m->volume->ephemeral ? "Ephemeral" : "Persistent";
    if (!m->object)
        return m->volume->ephemeral ? kp_fail(error, KP_EINVALID, "volume mode \"%s\" not supported by driver %s (no CSIDriver object)", mode,
                                              m->driver_name)
                                    : 0;
    const struct kp_string_list *modes = &m->object->spec->volume_lifecycle_modes;
    if (kp_string_list_has(modes, mode))
        return 0;
    return kp_fail(error, KP_EINVALID, "volume mode \"%s\" not supported by driver %s (only supports [\"%s\"])", mode, m->driver_name,
                   modes->len > 0 ? modes->items[0] : "Persistent");
}

static bool needs_attachment(const struct mounting *m)
{
    return m->volume->persistent && m->csi->config.client && !(m->object && m->object->spec->has_attach_required && !m->object->spec->attach_required);
}

static void describe(struct mounting *m)
{
    const struct csi_volume *v = m->volume;
    const struct k8s_pod_security_context *security = v->pod->spec->security_context;
    const char *uid = v->pod->metadata->uid, *root = m->csi->config.root_dir;
    struct csi_request *r = &m->request;
    const char *handle = v->ephemeral ? csi_ephemeral_handle(uid, v->name, m->arena) : v->persistent->spec->csi->volume_handle;
    m->folder = csi_pod_folder(root, uid, v->name, m->arena);
    m->key = csi_volume_key(m->driver_name, handle, m->arena);
    r->handle = handle;
    r->target_path = kp_arena_printf(m->arena, "%s/mount", m->folder);
    r->access_mode = "ReadWriteOnce";
    r->read_only = v->read_only;
    if (v->ephemeral) {
        r->fs_type = v->ephemeral->fs_type;
        r->volume_context = v->ephemeral->volume_attributes;
    } else {
        const struct k8s_persistent_volume_spec *spec = v->persistent->spec;
        r->fs_type = spec->csi->fs_type;
        r->volume_context = spec->csi->volume_attributes;
        r->mount_flags = spec->mount_options;
        if (spec->access_modes.len > 0)
            r->access_mode = spec->access_modes.items[0];
    }
    if (security && security->has_fs_group)
        r->mount_group = kp_arena_printf(m->arena, "%lld", (long long)security->fs_group);
    m->data = (struct csi_data){.spec_name = v->name, .handle = handle, .driver = m->driver_name, .node = m->csi->config.node_name,
                                .lifecycle = v->ephemeral ? "Ephemeral" : "Persistent"};
    if (needs_attachment(m))
        m->data.attachment = csi_attachment_name(handle, m->driver_name, m->csi->config.node_name, m->arena);
}

/* From now on the volume is this pod's on the disk: whatever happens, it will be taken down. */
static int claim_folder(struct mounting *m, struct kp_error *error)
{
    struct csi_data there;
    struct kp_error ignored = {0};
    bool known = csi_data_load(m->folder, m->arena, &there, &ignored) == 0;
    m->data.attaching = known ? there.attaching : true;
    const struct k8s_persistent_volume *pv = m->volume->persistent;
    if (pv && kp_string_list_has(&pv->spec->access_modes, "ReadWriteOncePod") &&
        csi_used(m->csi->config.root_dir, m->driver_name, m->request.handle, m->volume->pod->metadata->uid, m->arena))
        return kp_fail(error, KP_ECONFLICT, "volume uses the ReadWriteOncePod access mode and is already in use by another pod");
    if (known && kp_streq(there.attachment, m->data.attachment) && kp_streq(there.driver, m->data.driver) && kp_streq(there.handle, m->data.handle))
        return 0; /* as long as it is waited for, nothing changes */
    int rc = csi_data_save(m->folder, &m->data, error);
    if (rc == 0 && m->data.attachment && m->csi->config.node.changed)
        m->csi->config.node.changed(m->csi->config.node.arg);
    return rc;
}

/* KP_EAGAIN until the volume is the node's: nobody may detach it any more, and it is attached. */
static int wait_for_attachment(struct mounting *m, struct kp_error *error)
{
    if (!m->data.attachment)
        return 0;
    const struct csi_node *node = &m->csi->config.node;
    const char *name = kp_arena_printf(m->arena, "kubernetes.io/csi/%s", m->key);
    if (node->has_volume && !node->has_volume(node->arg, name))
        return kp_fail(error, KP_EAGAIN, "volume %s is not in the node's status yet, in use and attached", name);
    void *object = NULL;
    int rc = m->getter->object(m->getter->arg, &k8s_volumeattachments_resource, NULL, m->data.attachment, &object, error);
    const struct k8s_volume_attachment *attachment = object;
    if (rc == KP_ENOTFOUND || rc == KP_EFORBIDDEN) /* the authoriser hides what is not there */
        return kp_fail(error, KP_EAGAIN, "volume %s is not attached yet", name);
    if (rc < 0)
        return kp_wrap(error, LOG "mounter.SetUpAt failed to fetch publishContext");
    if (attachment->metadata->deletion_timestamp.set || !attachment->status->attached)
        return kp_fail(error, KP_EAGAIN, "volume %s is not attached yet", name);
    m->request.publish_context = attachment->status->attachment_metadata;
    return 0;
}

static int stage(struct mounting *m, struct kp_error *error)
{
    const char *root = m->csi->config.root_dir;
    const char *folder = csi_stage_folder(root, m->driver_name, m->request.handle, m->arena);
    const struct k8s_secret_reference *secret = m->volume->persistent->spec->csi->node_stage_secret_ref;
    struct csi_request request = m->request;
    struct csi_data data = {.handle = m->request.handle, .driver = m->driver_name, .attachment = m->data.attachment};
    bool final = false;
    m->request.staging_path = request.staging_path = kp_arena_printf(m->arena, "%s/globalmount", folder);
    if (csi_staged(m->csi, m->key))
        return 0;
    int rc = secret ? csi_secrets(m->getter, secret->namespace, secret->name, m->arena, &request.secrets, error) : 0;
    if (rc < 0)
        return kp_wrap(error, "fetching NodeStageSecretRef %s/%s failed", secret->namespace, secret->name);
    rc = kp_mkdir_p(request.staging_path, 0750, error);
    if (rc == 0)
        rc = csi_data_save(folder, &data, error);
    if (rc == 0)
        rc = csi_call_stage(m->driver, &request, &final, error);
    if (rc == 0)
        csi_set_staged(m->csi, m->key, true);
    else if (final && !volumes_mounted(request.staging_path) && kp_remove_tree(folder, NULL) < 0)
        kp_warn("removing a staging folder failed", "folder", folder, NULL);
    return rc;
}

static int publish(struct mounting *m, struct kp_error *error)
{
    const struct csi_volume *v = m->volume;
    const char *ns = v->pod->metadata->namespace, *name = NULL;
    bool final;
    if (v->ephemeral && v->ephemeral->node_publish_secret_ref) {
        name = v->ephemeral->node_publish_secret_ref->name;
    } else if (v->persistent && v->persistent->spec->csi->node_publish_secret_ref) {
        ns = v->persistent->spec->csi->node_publish_secret_ref->namespace;
        name = v->persistent->spec->csi->node_publish_secret_ref->name;
    }
    int rc = name ? csi_secrets(m->getter, ns, name, m->arena, &m->request.secrets, error) : 0;
    if (rc < 0)
        return kp_wrap(error, "fetching NodePublishSecretRef %s/%s failed", ns, name);
    rc = csi_pod_context(v, m->object, m->getter, m->arena, &m->request, error);
    if (rc < 0)
        return kp_wrap(error, "kubernetes.io/csi");
    m->data.attaching = false;
    rc = csi_data_save(m->folder, &m->data, error);
    if (rc == 0)
        rc = csi_call_publish(m->driver, &m->request, &final, error);
    return rc;
}

static int set_group(struct mounting *m, struct kp_error *error)
{
    const struct k8s_pod_security_context *security = m->volume->pod->spec->security_context;
    if (csi_driver_can(m->driver, CSI_CAN_MOUNT_GROUP) || !csi_wants_group(m->volume, m->object))
        return 0;
    int rc = volumes_own(m->request.target_path, security->fs_group, security->fs_group_change_policy, error);
    return rc < 0 ? kp_wrap(error, "applyFSGroup failed for vol %s", m->request.handle) : 0;
}

/* With the driver, and alone with the volume. */
static int mount_with_driver(struct mounting *m, struct kp_error *error)
{
    m->step = m->volume->persistent ? "MountVolume.MountDevice" : "MountVolume.SetUp";
    int rc = csi_driver_find(m->csi, m->driver_name, &m->driver, error);
    if (rc < 0)
        return kp_wrap(error, LOG "%s", m->volume->persistent ? "attacher.MountDevice failed to create newCsiDriverClient"
                                                              : "mounter.SetUpAt failed to get CSI client");
    rc = csi_call_capabilities(m->driver, error);
    if (rc < 0)
        return rc;
    if (!csi_driver_can(m->driver, CSI_CAN_MOUNT_GROUP))
        m->request.mount_group = NULL;
    if (m->volume->persistent && csi_driver_can(m->driver, CSI_CAN_STAGE))
        rc = stage(m, error);
    if (rc < 0)
        return rc;
    m->step = "MountVolume.SetUp";
    rc = publish(m, error);
    return rc < 0 ? rc : set_group(m, error);
}

static int mount_steps(struct mounting *m, struct kp_error *error)
{
    int rc = get_object(m, error);
    if (rc == 0)
        rc = check_lifecycle(m, error);
    if (rc < 0)
        return rc;
    describe(m);
    csi_volume_lock(m->csi, m->key);
    rc = claim_folder(m, error);
    if (rc == 0)
        rc = wait_for_attachment(m, error);
    if (rc == 0)
        rc = mount_with_driver(m, error);
    csi_volume_unlock(m->csi, m->key);
    csi_driver_unref(m->driver);
    return rc;
}

int csi_mount(struct csi *csi, const struct csi_volume *volume, const struct kubelet_getter *getter, struct kp_arena *arena,
              const char **ret_path, bool *ret_republish, struct kp_error *error)
{
    struct mounting m = {.csi = csi, .volume = volume, .getter = getter, .arena = arena, .step = "MountVolume.SetUp",
                         .driver_name = volume->ephemeral ? volume->ephemeral->driver : volume->persistent->spec->csi->driver};
    int rc = mount_steps(&m, error);
    if (rc == KP_EAGAIN)
        return rc;
    if (rc < 0) /* "<step> failed for volume "x" : <what>", as upstream writes it */
        return kp_wrap(error, "%s failed for volume \"%s\" ", m.step, volume->name);
    *ret_path = m.request.target_path;
    *ret_republish = m.object && m.object->spec->requires_republish;
    return 0;
}
