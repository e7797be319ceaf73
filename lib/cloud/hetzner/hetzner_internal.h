/* What the files of the Hetzner Cloud driver share. */
#ifndef CLOUD_HETZNER_INTERNAL_H
#define CLOUD_HETZNER_INTERNAL_H

#include <pthread.h>

#include "cloud/cloud.h"
#include "cloud/rest/json.h"
#include "cloud/rest/rest.h"

#define HZ_ENDPOINT_DEFAULT "https://api.hetzner.cloud/v1"
#define HZ_ZONE_DEFAULT "eu-central"
#define HZ_CLUSTER_LABEL "kprov-cluster" /* whose a resource is; the others are read of such alone */
#define HZ_NAME_LABEL "kprov-name"       /* of a machine or balancer */
#define HZ_ROLE_LABEL "kprov-role"
#define HZ_POOL_LABEL "kprov-pool"
#define HZ_IMAGE_LABEL "kprov-image"     /* of a snapshot, and of a server made of it */
#define HZ_ADDRESS_LABEL "kprov-address"
#define HZ_STAGE_LABEL "kprov-stage"     /* "new" of a server that is not attached and started yet */
#define HZ_LOCATIONS_LABEL "kprov-locations"      /* of a network: "fsn1.nbg1", where its machines are made */
#define HZ_RESERVED_PREFIX "address.kprov.dev/"   /* of a network: a label for every machine that has an address there */
#define HZ_UPLOAD_LABEL "kprov-upload" /* of the server and the key that bring a node image there: the image's id */
#define HZ_USER_DATA_MAX 32768                    /* bytes of text that the API takes */
#define HZ_PAGE 50                                /* as many as a page can have */
#define HZ_PAGES_MAX 200
#define HZ_POLL_MS 500                            /* as the hcloud command's default, $HCLOUD_POLL_INTERVAL */
#define HZ_POLL_MS_MAX 5000
#define HZ_ACTION_MS 240000                       /* that an action may take */
#define HZ_BUSY_MS 60000                          /* that a resource may be locked by another action */
#define HZ_STOP_MS 60000                          /* that a machine has to stop in order */
#define HZ_FIRST_HOST 10                          /* of a network; balancers have the last quarter */
#define HZ_TOKEN_MAX 256

struct hz_rate { /* what the last answer's headers said; limit 0: nothing yet */
    int64_t limit, remaining, reset_s;
};
/* Calls with a void pointer stand in the table of cloud.h themselves: it leads to this. */
struct hz {
    struct rest *rest;
    char *image_dir; /* of node images */
    char *endpoint, *token, *zone; /* zone: "eu-central", where new networks are */
    int64_t poll_ms;
    pthread_mutex_t shared; /* of reserving addresses and what a cluster has one of: machines are made by several threads */
    pthread_mutex_t rate_lock;
    struct hz_rate rate;
};

/* ---- request.c */
/* One call of the API; body is taken over. *ret (may be NULL) is the answer, the caller's, NULL when it has none. Waits while the resource is
   locked by another action or changes. KP_EEXISTS: the name is taken, or the part is there already. */
int hz_do(struct hz *hz, const char *operation, const char *method, const char *path, json_t *body, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* All pages of a collection ("servers") as one array, in order of id; query: "label_selector=..." escaped, or "". */
int hz_list(struct hz *hz, const char *collection, const char *query, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* The query for what carries a cluster's uid and, when not NULL, that name. uid NULL: for whatever has a cluster. */
const char *hz_owned_query(const char *uid, const char *name, struct kp_arena *arena);
/* Waits until all actions of an answer have succeeded; fails as the first that has not. answer NULL is fine. */
int hz_wait(struct hz *hz, const char *operation, const json_t *answer, struct kp_error *error) KP_NODISCARD;
/* hz_do and hz_wait of a POST. */
int hz_act(struct hz *hz, const char *operation, const char *path, json_t *body, struct kp_error *error) KP_NODISCARD;
/* DELETE, with its action; what is gone already is fine. */
int hz_delete(struct hz *hz, const char *collection, int64_t id, struct kp_error *error) KP_NODISCARD;
/* Sleeps between two looks at something; *poll_ms grows. Longer when few requests are left of the hour's. */
void hz_pause(struct hz *hz, int64_t *poll_ms);

/* ---- error.c: pure */
/* What an error code of the API means; 404 alone is no word of the API. */
int hz_code(int status, const char *code);
/* Appends "message (code)", the fields of invalid_input, and what to do. */
void hz_error_text(struct kp_buf *out, const json_t *answer);
/* How long until one more request goes: a bucket of `limit` fills up evenly over an hour. */
int64_t hz_retry_after_ms(const struct hz_rate *rate, int64_t now_s);
/* The pause between two polls. */
int64_t hz_pace_ms(const struct hz_rate *rate, int64_t wanted_ms);
bool hz_rate_read(const char *limit, const char *remaining, const char *reset, struct hz_rate *ret);

/* ---- range.c: pure; addresses are in host order */
struct hz_range {
    uint32_t base;
    int bits;
};
bool hz_range_parse(const char *text, struct hz_range *ret);
bool hz_range_overlaps(const struct hz_range *a, const struct hz_range *b);
bool hz_range_is_private(const struct hz_range *range); /* of RFC 1918, and of a size that networks can have */
const char *hz_address_format(uint32_t address, struct kp_arena *arena);
bool hz_address_parse(const char *text, uint32_t *ret);
/* The hosts that machines, or balancers, may have: [*first, *last]. */
void hz_range_hosts(const struct hz_range *range, bool balancers, uint32_t *first, uint32_t *last);

/* ---- network.c */
/* The cluster's network as the API has it, the caller's. KP_ENOTFOUND. */
int hz_network_find(struct hz *hz, const char *uid, json_t **ret, struct kp_error *error) KP_NODISCARD;
int hz_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int hz_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int hz_network_delete(void *state, const char *uid, struct kp_error *error);
/* Checks zones ("fsn1 nbg1") and gives them, or the cloud's choice, in the form of the label. */
int hz_locations(struct hz *hz, const char *zones, struct kp_arena *arena, const char **ret_label, struct kp_error *error) KP_NODISCARD;
int hz_check(void *state, const struct cloud_wish *wish, struct kp_error *error);

/* ---- address.c */
int hz_address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);
int hz_address_release(void *state, const char *uid, const char *name, struct kp_error *error);
int hz_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);

/* ---- machine.c */
/* Where a machine of that name is made: always the same place of the network's. */
const char *hz_location_of(const json_t *network, const char *name, struct kp_arena *arena);
/* "cp-1.1a2b3c4d": of one project, as names must be. */
const char *hz_resource_name(const char *uid, const char *name, struct kp_arena *arena);
int hz_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int hz_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int hz_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error);
int hz_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error);
int hz_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error);
/* The server of that name, the caller's. KP_ENOTFOUND. */
int hz_server_find(struct hz *hz, const char *uid, const char *name, json_t **ret, struct kp_error *error) KP_NODISCARD;
void hz_server_read(const json_t *server, struct kp_arena *arena, struct cloud_machine *ret);

/* ---- catalog.c: what is on offer */
int hz_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error);
/* The smallest that a node runs well on, where `location` (NULL: any) sells it. */
int hz_default_type(struct hz *hz, const char *location, struct kp_arena *arena, const char **ret_type, struct kp_error *error) KP_NODISCARD;
int hz_image_find(struct hz *hz, const char *image, int64_t *ret_id, struct kp_error *error) KP_NODISCARD;

/* ---- image.c */
int hz_image_ensure(void *state, const char *image, struct kp_error *error);
int hz_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);
/* ---- rescue.c */
/* Writes a disk image over the whole disk of a machine that runs from its rescue system, and reads it back there. identity: a private key's text. */
int hz_rescue_write(const char *address, const char *identity, const char *path, struct kp_error *error) KP_NODISCARD;

/* ---- parts.c: what a cluster has one of */
int hz_firewall_ensure(struct hz *hz, const char *uid, struct kp_error *error) KP_NODISCARD;
int hz_firewall_find(struct hz *hz, const char *uid, int64_t *ret_id, struct kp_error *error) KP_NODISCARD;
/* The placement group of control planes. */
int hz_group_ensure(struct hz *hz, const char *uid, struct kp_arena *arena, int64_t *ret_id, struct kp_error *error) KP_NODISCARD;
int hz_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error);
int hz_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error);
int hz_purge(void *state, const char *uid, struct kp_error *error);

/* ---- balancer.c, balancer_make.c */
/* Whether the cloud can do it so: says why not, and what to do. Pure. */
int hz_balancer_check(const struct cloud_balancer_spec *spec, struct kp_error *error) KP_NODISCARD;
/* The service that a listener is, in the API's form; the caller's. Pure. */
json_t *hz_service(const struct cloud_balancer_spec *spec, const struct cloud_listener *listener);
bool hz_service_same(const json_t *wanted, const json_t *got);
int hz_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int hz_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int hz_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error);
int hz_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error);
int hz_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error);
int hz_balancer_find(struct hz *hz, const char *uid, const char *name, json_t **ret, struct kp_error *error) KP_NODISCARD;
void hz_balancer_read(const json_t *balancer, struct kp_arena *arena, struct cloud_balancer *ret);

/* ---- route.c */
int hz_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error);
int hz_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);
int hz_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);

#endif
