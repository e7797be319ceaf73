/* What the files of this folder share: drivers, their calls, and what is kept on the disk. */
#ifndef KUBELET_CSI_INTERNAL_H
#define KUBELET_CSI_INTERNAL_H

#include <pthread.h>

#include "lib/client/client.h"
#include "nodeimage/kubelet/csi/csi.h"

struct grpc_channel;

#define CSI_CALL_TIMEOUT_MS 120000
#define CSI_DATA_FILE "vol_data.json"
#define CSI_DATA_BYTES_MAX 65536

/* ---- drivers -------------------------------------------------------------------------------------------------------- */
enum csi_capability { /* of a driver's node service, the protocol's numbers */
    CSI_CAN_STAGE = 1,
    CSI_CAN_MULTI_WRITE = 5, /* tells one pod that writes from several on one node */
    CSI_CAN_MOUNT_GROUP = 6, /* sets the owning group itself */
};
struct csi_driver {
    int refs; /* atomic */
    char *name;
    struct grpc_channel *channel;
    unsigned capabilities; /* bits by enum csi_capability; valid once known; atomic */
    bool capabilities_known;
};
struct csi_driver *csi_driver_new(struct loop *loop, const char *name, const char *endpoint, struct kp_error *error);
void csi_driver_unref(struct csi_driver *driver); /* accepts NULL */
KP_DEFINE_AUTO(struct csi_driver *, csi_driver_unref)
bool csi_driver_can(const struct csi_driver *driver, enum csi_capability capability); /* after csi_call_capabilities */

struct csi {
    struct csi_config config;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kp_strmap *drivers; /* by name; struct csi_driver */
    struct kp_strmap *busy;    /* "<driver>^<handle>" that a thread works on */
    struct kp_strmap *staged;  /* "<driver>^<handle>" staged since this process began */
    struct csi_plugins *plugins; /* of the thread that watches */
};
void csi_plugins_free(struct csi_plugins *plugins); /* accepts NULL */
/* A reference; fails as upstream does when nobody of that name is registered. */
int csi_driver_find(struct csi *csi, const char *name, struct csi_driver **ret, struct kp_error *error) KP_NODISCARD;
void csi_driver_put(struct csi *csi, struct csi_driver *driver); /* takes the reference over; replaces one of the same name */
void csi_driver_drop(struct csi *csi, const char *name);
/* One thread at a time works on a volume. */
void csi_volume_lock(struct csi *csi, const char *key);
void csi_volume_unlock(struct csi *csi, const char *key);
bool csi_staged(struct csi *csi, const char *key);
void csi_set_staged(struct csi *csi, const char *key, bool staged);

/* ---- calls: one function each --------------------------------------------------------------------------------------- */
/* Errors read "rpc error: code = Internal desc = ...". *ret_final (may be NULL): a failed call has left nothing behind. */
struct csi_node_info {
    const char *node_id;
    int64_t volumes_max; /* 0: no limit */
    struct kp_string_map topology;
};
int csi_call_info(struct csi_driver *driver, struct kp_arena *arena, struct csi_node_info *ret, struct kp_error *error) KP_NODISCARD;
int csi_call_capabilities(struct csi_driver *driver, struct kp_error *error) KP_NODISCARD; /* kept in the driver */
struct csi_request {
    const char *handle, *staging_path, *target_path; /* staging_path NULL: the driver does not stage */
    const char *access_mode;                         /* "ReadWriteOnce", ... */
    const char *fs_type, *mount_group;               /* NULL: none */
    struct kp_string_list mount_flags;
    struct kp_string_map publish_context, volume_context, secrets;
    bool read_only;
};
int csi_call_stage(struct csi_driver *driver, const struct csi_request *request, bool *ret_final, struct kp_error *error) KP_NODISCARD;
int csi_call_publish(struct csi_driver *driver, const struct csi_request *request, bool *ret_final, struct kp_error *error) KP_NODISCARD;
int csi_call_unpublish(struct csi_driver *driver, const char *handle, const char *target_path, struct kp_error *error) KP_NODISCARD;
int csi_call_unstage(struct csi_driver *driver, const char *handle, const char *staging_path, struct kp_error *error) KP_NODISCARD;
/* The protocol's number of an access mode; capable: the driver has CSI_CAN_MULTI_WRITE. 0: unknown. Pure. */
int csi_access_mode(const char *mode, bool capable);

/* Registration: who shows a socket. Strings in arena. */
struct csi_plugin_info {
    const char *type, *name, *endpoint;
    struct kp_string_list versions;
};
int csi_call_plugin_info(struct loop *loop, const char *socket, struct kp_arena *arena, struct csi_plugin_info *ret, struct kp_error *error)
    KP_NODISCARD;
int csi_call_plugin_notify(struct loop *loop, const char *socket, const char *complaint, struct kp_error *error) KP_NODISCARD; /* NULL: registered */
/* Why a plugin is not taken, in arena, or NULL. Pure. */
const char *csi_plugin_refuse(const struct csi_plugin_info *info, struct kp_arena *arena);

/* ---- the API: what drivers are on this node --------------------------------------------------------------------------- */
/* Writes the driver into the CSINode (info NULL: takes it out), and its topology as labels of the node. */
int csi_node_publish(struct csi *csi, const char *driver, const struct csi_node_info *info, struct kp_error *error) KP_NODISCARD;
/* The CSINode is gone, or is a former Node's of this name: what was told of the drivers must be told again. */
bool csi_node_is_another(struct csi *csi);
int csi_node_ensure(struct csi *csi, struct kp_error *error) KP_NODISCARD; /* the CSINode is there, if empty */
/* What is to be written for a driver that has come or changed (info NULL: gone); false: nothing. Pure; node's lists come from arena. */
bool csi_node_change(struct k8s_csi_node *node, const char *driver, const struct csi_node_info *info, struct kp_arena *arena);

/* ---- on the disk ------------------------------------------------------------------------------------------------------- */
/* vol_data.json: of a volume in a pod, and of a staged one. "" for what is absent. */
struct csi_data {
    const char *spec_name, *handle, *driver, *node, *attachment, *lifecycle;
    bool attaching; /* the driver has not been asked to publish it yet */
};
int csi_data_parse(const char *text, size_t len, struct kp_arena *arena, struct csi_data *ret, struct kp_error *error) KP_NODISCARD;
void csi_data_format(const struct csi_data *data, struct kp_buf *out);
int csi_data_load(const char *folder, struct kp_arena *arena, struct csi_data *ret, struct kp_error *error) KP_NODISCARD;
int csi_data_save(const char *folder, const struct csi_data *data, struct kp_error *error) KP_NODISCARD;
const char *csi_pod_folder(const char *root_dir, const char *uid, const char *name, struct kp_arena *arena); /* its "mount" is the volume */
const char *csi_stage_folder(const char *root_dir, const char *driver, const char *handle, struct kp_arena *arena); /* its "globalmount" is */
const char *csi_attachment_name(const char *handle, const char *driver, const char *node, struct kp_arena *arena);
const char *csi_ephemeral_handle(const char *pod_uid, const char *volume, struct kp_arena *arena);
const char *csi_volume_key(const char *driver, const char *handle, struct kp_arena *arena);

/* Every volume of pods that is on the disk (uid NULL: of all pods). Stops when fn returns false. False: not all of it could be read. */
typedef bool (*csi_each_fn)(void *arg, const char *uid, const char *folder, const struct csi_data *data);
bool csi_each_published(const char *root_dir, const char *uid, struct kp_arena *arena, csi_each_fn fn, void *arg);
void csi_each_staged(const char *root_dir, struct kp_arena *arena, csi_each_fn fn, void *arg); /* uid is NULL */
/* Another pod than uid (may be NULL) has the volume. */
bool csi_used(const char *root_dir, const char *driver, const char *handle, const char *except_uid, struct kp_arena *arena);

/* ---- what a driver is told (pure, given the getter) --------------------------------------------------------------------- */
/* The pod's names and its tokens, as the CSIDriver object (may be NULL) asks for them. */
int csi_pod_context(const struct csi_volume *volume, const struct k8s_csi_driver *object, const struct kubelet_getter *getter,
                    struct kp_arena *arena, struct csi_request *request, struct kp_error *error) KP_NODISCARD;
int csi_secrets(const struct kubelet_getter *getter, const char *ns, const char *name, struct kp_arena *arena, struct kp_string_map *ret,
                struct kp_error *error) KP_NODISCARD;
/* Whether the kubelet is to set the owning group; policy as in the CSIDriver object. */
bool csi_wants_group(const struct csi_volume *volume, const struct k8s_csi_driver *object);
/* Unstages a volume that no pod has. */
int csi_unstage(struct csi *csi, const char *driver, const char *handle, struct kp_error *error) KP_NODISCARD;

#endif
