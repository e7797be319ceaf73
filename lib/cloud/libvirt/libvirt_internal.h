/* What the files of the libvirt driver share. */
#ifndef CLOUD_LIBVIRT_INTERNAL_H
#define CLOUD_LIBVIRT_INTERNAL_H

#include <libvirt/libvirt.h>
#include <libxml/tree.h>
#include <pthread.h>

#include "cloud/cloud.h"

#define LV_URI_DEFAULT "qemu:///system"
#define LV_NAMESPACE "https://kprov.dev/libvirt/1" /* of our element in a domain's metadata */
#define LV_IMAGES_POOL "kprov-images"
#define LV_POOLS_DIR "/var/lib/libvirt/kprov" /* on the machine that libvirt runs on */
#define LV_FIRST_HOST 10
#define LV_LAST_HOST 200 /* as LOCAL_LAST_HOST */
#define LV_MACHINES_MAX CLOUD_MACHINES_MAX
#define LV_STOP_MS 40000 /* an emulated machine takes its time */
#define LV_DATA_DISK_BYTES ((uint64_t)16 << 30) /* sparse */

/* A cluster's objects are found by its uid: network and storage pool have it as their UUID, domains in their metadata.
   Calls with a void pointer stand in the table of cloud.h themselves: it leads to this. */
struct lv {
    virConnectPtr conn;
    char image_dir[4096 - 256];
    bool test; /* test:///: no storage to upload to, no files */
    bool here; /* libvirt's machine is this one, and its files are ours to write */
    int kvm;   /* -1: not tried yet */
    struct kp_strings whole; /* volumes of images that were found whole over this connection */
    struct lv_events *events;
    pthread_mutex_t shared; /* of images, pools, addresses and the trial: machines are made by several threads */
};

/* ---- error.c */
/* Fails with libvirt's last error of this thread; the code follows its kind. */
int lv_fail(struct kp_error *error, const char *format, ...) KP_PRINTF(2, 3);
void lv_silence(void); /* libvirt writes to standard error unless told not to */

/* ---- xml.c: documents as libvirt gives them */
struct lv_xml {
    xmlDocPtr doc;
};
int lv_xml_parse(const char *text, xmlDocPtr *ret_doc, struct kp_error *error) KP_NODISCARD;
void lv_xml_free(xmlDocPtr doc); /* accepts NULL */
KP_DEFINE_AUTO(xmlDocPtr, lv_xml_free)
xmlNodePtr lv_xml_child(xmlNodePtr node, const char *name); /* the first, by local name; NULL when there is none */
xmlNodePtr lv_xml_next(xmlNodePtr node, const char *name);  /* the next sibling of that name */
const char *lv_xml_attr(xmlNodePtr node, const char *name, struct kp_arena *arena); /* NULL when absent */
/* Text in an attribute or element: & < > ' " are written as entities. */
void lv_xml_text(struct kp_buf *out, const char *text);

/* ---- connect.c */
int lv_connect(const char *uri, virConnectPtr *ret_conn, struct kp_error *error) KP_NODISCARD;

/* ---- kvm.c */
/* Whether hardware virtualisation works: a trial domain boots `kernel`, once a boot of this host. */
bool lv_has_kvm(struct lv *lv, const char *kernel);

/* ---- events.c */
void lv_events_loop(void); /* before any connection is opened */
struct lv_events *lv_events_new(virConnectPtr conn);
void lv_events_free(struct lv_events *events, virConnectPtr conn);
/* False when the domain still runs after that time. */
bool lv_wait_off(struct lv_events *events, virDomainPtr domain, int64_t timeout_ms);

/* ---- network.c */
int lv_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena,
                      struct cloud_network *ret, struct kp_error *error);
int lv_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
bool lv_network_exists(struct lv *lv, const char *uid);
int lv_network_delete(struct lv *lv, const char *uid, struct kp_error *error);
int lv_address_reserve(struct lv *lv, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address,
                       struct kp_error *error);
int lv_address_release(struct lv *lv, const char *uid, const char *name, struct kp_error *error);
const char *lv_network_name(const char *uid, struct kp_arena *arena);
/* A locally administered address made of the IPv4 one, so that it needs no record of its own. */
const char *lv_mac_of(const char *address, struct kp_arena *arena);

/* Whether a network could be made there: `cidr` is well-formed and no other network of libvirt's has it. NULL is fine. */
int lv_network_check(struct lv *lv, const char *cidr, struct kp_error *error);

int lv_network_read(const struct lv *lv, virNetworkPtr network, xmlDocPtr *ret_doc, struct kp_error *error); /* as stored */
const char *lv_format_address(uint32_t address, struct kp_arena *arena);
bool lv_parse_address(const char *text, uint32_t *ret);

/* ---- bridge.c */
struct lv_host {
    const char *name;
    uint32_t address;
};
struct lv_bridged {
    const char *bridge, *cidr, *addresses, *gateway, *nameservers;
    uint32_t first, last; /* of addresses */
    int bits;
    struct lv_host *hosts; /* room for all of the range */
    size_t n_hosts;
};
/* False when the network is none on somebody else's bridge. */
bool lv_bridged_read(xmlDocPtr doc, struct kp_arena *arena, struct lv_bridged *ret);
int lv_bridged_check(struct lv *lv, const char *cidr, const struct cloud_bridge *wanted, struct kp_error *error);
int lv_bridged_define(struct lv *lv, const char *uid, const char *cidr, const struct cloud_bridge *wanted, struct kp_arena *arena, struct kp_error *error);
int lv_bridged_reserve(struct lv *lv, const char *uid, struct lv_bridged *bridged, const char *name, struct kp_arena *arena, const char **ret_address,
                       struct kp_error *error);
int lv_bridged_release(struct lv *lv, const char *uid, struct lv_bridged *bridged, const char *name, struct kp_arena *arena, struct kp_error *error);

/* ---- check.c */
int lv_check(void *state, const struct cloud_wish *wish, struct kp_error *error);

/* ---- images.c */
struct lv_paths {
    const char *kernel, *initrd, *root, *data, *bootstrap, *console; /* on libvirt's machine */
};
/* Uploads kernel, initrd and root of a node image unless they are there whole. */
int lv_image_ensure(struct lv *lv, const char *image, struct kp_arena *arena, struct lv_paths *ret, struct kp_error *error);
/* The file `path` as volume `name`. What is there already counts when it is what its marker says; else it is made anew. */
int lv_image_put(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *path, struct kp_error *error);
/* Deletes the volumes that no domain has and that are of no image in `keep`; adds their names to *ret_removed. */
int lv_images_prune(struct lv *lv, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);

/* ---- storage.c */
int lv_pool_ensure(struct lv *lv, const char *uid, virStoragePoolPtr *ret, struct kp_error *error); /* uid NULL: of images */
bool lv_volume_exists(virStoragePoolPtr pool, const char *name);
int lv_volume_delete(virStoragePoolPtr pool, const char *name, struct kp_error *error); /* absent is fine */
int lv_volume_create(virStoragePoolPtr pool, const char *name, const char *format, uint64_t bytes, const char *mode,
                     virStorageVolPtr *ret, struct kp_error *error);
int lv_volume_upload(struct lv *lv, virStorageVolPtr volume, int fd, uint64_t bytes, struct kp_error *error);
/* Made anew, of bytes in memory. */
int lv_volume_put(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *data, size_t len, const char *mode,
                  struct kp_error *error);
const char *lv_volume_path(const char *pool, const char *name, struct kp_arena *arena);
/* The machine's own files: data disk (kept when there), bootstrap config (written anew, 0600), console log. */
int lv_disks_ensure(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct lv_paths *ret,
                    struct kp_error *error);
/* Only the bootstrap config: read when the machine is started next. */
int lv_config_put(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct kp_error *error);
int lv_disks_delete(struct lv *lv, const char *uid, const char *name, struct kp_error *error);
int lv_console(struct lv *lv, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error);
int lv_pool_delete(struct lv *lv, const char *uid, struct kp_error *error); /* with all volumes; absent is fine */
bool lv_pool_exists(struct lv *lv, const char *uid);

/* ---- domain.c */
int lv_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                      struct kp_error *error);
int lv_machine_reimage(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                       struct kp_error *error);
int lv_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret,
                   struct kp_error *error);
int lv_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret,
                    struct kp_error *error);
int lv_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error);
int lv_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error);
/* The uids that domains, networks and pools carry. */
int lv_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error);
/* The document of a machine's domain; pure. */
void lv_domain_xml(const struct cloud_machine_spec *spec, const struct lv_paths *paths, const char *type, const char *network,
                   int64_t created_s, struct kp_arena *arena, struct kp_buf *out);

#endif
