/* What the files of the OpenStack driver share. */
#ifndef CLOUD_OPENSTACK_INTERNAL_H
#define CLOUD_OPENSTACK_INTERNAL_H

#include <pthread.h>

#include "cloud/cloud.h"
#include "cloud/rest/json.h"
#include "cloud/rest/rest.h"

#define OS_CLUSTER_TAG "kprov-cluster=" /* the cluster's uid follows */
#define OS_NAME_TAG "kprov-name="       /* of what: a machine, a balancer, "network" */
#define OS_IMAGE_TAG "kprov-node-image"
#define OS_COMPUTE_VERSION "2.60"       /* the oldest of Nova (Queens) that takes tags with a new server and shows its flavor's name */
#define OS_PAGE 500
#define OS_ITEMS_MAX 20000              /* of one list */
#define OS_USER_DATA_MAX 65535          /* bytes that Nova takes, in base64 */
#define OS_ATTEMPT_MS 55000              /* a router takes its time to be made */
#define OS_POLL_MS 500
#define OS_BUILD_MS 280000              /* below the time that a call may take */
#define OS_DELETE_MS 170000
#define OS_POWER_MS 170000
#define OS_UPLOAD_MS 1500000
#define OS_SETTLE_MS 25000              /* that a call waits for a balancer in PENDING_*, all in all, before it says KP_EAGAIN */

enum os_service { OS_COMPUTE, OS_NETWORK, OS_IMAGE, OS_BALANCER, OS_SERVICES };

/* ---- clouds.c: who asks, and where; texts are "" when absent */
struct os_account {
    const char *source; /* for errors: "cloud \"x\" of /etc/openstack/clouds.yaml" or "the environment" */
    bool from_environment;
    const char *auth_type, *auth_url;
    const char *username, *user_id, *password, *user_domain_name, *user_domain_id;
    const char *project_name, *project_id, *project_domain_name, *project_domain_id;
    const char *application_credential_id, *application_credential_name, *application_credential_secret;
    const char *region, *interface, *cacert;
    bool insecure;
};
/* From options' file and profile, OS_CLOUD with the usual clouds.yaml, or OS_* alone. In the arena. */
int os_account_read(const struct cloud_account *wanted, struct kp_arena *arena, struct os_account *ret, struct kp_error *error) KP_NODISCARD;
/* One cloud of a clouds.yaml; secure_text (may be NULL) is that of the secure.yaml beside it. name "" is the only cloud there is. */
int os_account_parse(const char *path, const char *text, size_t len, const char *secure_text, size_t secure_len, const char *name,
                     struct kp_arena *arena, struct os_account *ret, struct kp_error *error) KP_NODISCARD;
/* Whether everything is there that logging in takes: names the field that is missing and where it belongs. */
int os_account_check(const struct os_account *account, struct kp_error *error) KP_NODISCARD;

/* ---- export.c */
struct os;
int os_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error);

/* ---- the driver's state
   Calls with a void pointer stand in the table of cloud.h themselves: it leads to this. */
struct os {
    struct kp_arena *arena; /* of account */
    struct os_account account;
    struct rest *rest;
    char *image_dir;
    pthread_mutex_t login; /* of what follows */
    char *token;
    int64_t token_until_s;
    char *endpoints[OS_SERVICES]; /* with their version, without a slash at the end; NULL: the cloud has no such service. Fixed after the first login */
    char *project_id, *region;
    pthread_mutex_t shared; /* of reserving addresses and uploading images: machines are made by several threads */
    struct kp_strings whole; /* images that were found, or uploaded */
};

/* ---- auth.c */
/* A token that lasts for a while yet, as a header; logs in when there is none, or when `refused` is the one there is. */
int os_token(struct os *os, const char *refused, struct kp_arena *arena, const char **ret_token, struct kp_error *error) KP_NODISCARD;
/* Reads endpoints of the catalogue of a token; pure but for errors. */
int os_catalog_read(const json_t *token, const struct os_account *account, char *endpoints[OS_SERVICES], char **ret_region, struct kp_error *error) KP_NODISCARD;
const char *os_service_name(enum os_service service);

/* ---- api.c: requests below a service's endpoint */
struct os_request {
    const char *operation; /* "servers.create" */
    enum os_service service;
    const char *method, *path; /* "/servers/detail?limit=10" */
    json_t *body;              /* taken over; or NULL */
    bool repeatable;           /* a POST that may be made twice */
    int upload_fd;
    int64_t upload_len;
};
/* *ret (may be NULL) is the answer's document, NULL when it is empty; the caller's. Answers of 400 and above are errors. */
int os_do(struct os *os, const struct os_request *request, json_t **ret, struct kp_error *error) KP_NODISCARD;
int os_get(struct os *os, const char *operation, enum os_service service, const char *path, json_t **ret, struct kp_error *error) KP_NODISCARD;
int os_send(struct os *os, const char *operation, enum os_service service, const char *method, const char *path, json_t *body, json_t **ret,
            struct kp_error *error) KP_NODISCARD;
/* What is gone already is fine. */
int os_delete(struct os *os, const char *operation, enum os_service service, const char *path, struct kp_error *error) KP_NODISCARD;
/* All pages of a list as one array. path without limit and marker; key is the array's in the answer. */
int os_list(struct os *os, const char *operation, enum os_service service, const char *path, const char *key, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* The error that an answer means, and what the cloud said about it; pure. */
int os_code(int status, const char *detail, int64_t retry_after_ms);
const char *os_detail(const char *body, size_t len, struct kp_arena *arena);
const char *os_escape(const char *s, struct kp_arena *arena);
const char *os_text(const json_t *value, const char *path, struct kp_arena *arena); /* copied */
bool os_has_service(struct os *os, enum os_service service, struct kp_error *error); /* false with error->code 0: logged in, and it has none */

/* ---- resource.c: what Neutron has, found by the cluster's tag. A tag can be set only on what exists; between the two the description has it. */
struct os_kind {
    const char *name, *key, *path; /* "security group", "security_group", "security-groups" */
};
extern const struct os_kind os_networks, os_subnets, os_routers, os_groups, os_ports, os_floating;
const char *os_name(const char *uid, const char *name, struct kp_arena *arena); /* for people: "kprov-1a2b3c4d-w1" */
const char *os_plural(const struct os_kind *kind, struct kp_arena *arena); /* the key of a list of them */
/* *ret is NULL when the cluster has none of that name; the caller's. */
int os_find(struct os *os, const struct os_kind *kind, const char *uid, const char *name, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* What there is of that name, or one with these attributes (taken over). */
int os_ensure(struct os *os, const struct os_kind *kind, const char *uid, const char *name, json_t *attributes, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* All of the cluster, an array. uid NULL: of the project's clusters, whatever else there is too. */
int os_owned_list(struct os *os, const struct os_kind *kind, const char *uid, json_t **ret, struct kp_error *error) KP_NODISCARD;
int os_remove(struct os *os, const struct os_kind *kind, const char *id, struct kp_error *error) KP_NODISCARD;
int os_tag(struct os *os, const struct os_kind *kind, const char *id, const struct kp_strings *tags, struct kp_error *error) KP_NODISCARD;
/* The uid that a resource's tags or description tell, "" when it is nobody's. */
const char *os_uid_of(const json_t *resource, struct kp_arena *arena);
/* What follows `prefix` in the one of the resource's tags that begins with it, or "". */
const char *os_tag_value(const json_t *resource, const char *prefix, struct kp_arena *arena);
void os_add_once(struct kp_strings *strings, const char *s);

/* ---- network.c */
/* What the cluster's security group remembers of its network. */
struct os_record {
    const char *group, *network, *subnet, *router, *external; /* ids; router and external "" when there is none */
    const char *cidr, *gateway, *nameservers, *pods;          /* pods "": none */
    const char *zones;                                        /* separated by spaces, in order */
    bool own;                                                 /* network, subnet and router are the cluster's own */
};
int os_record_read(struct os *os, const char *uid, struct kp_arena *arena, struct os_record *ret, struct kp_error *error) KP_NODISCARD;
int os_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int os_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int os_network_delete(struct os *os, const char *uid, struct kp_error *error); /* with the addresses in it */
/* Networks that exist: by name or id, and the one of public addresses (*ret_id "" when there is none). */
int os_existing_find(struct os *os, const char *wanted, struct kp_arena *arena, json_t **ret_network, json_t **ret_subnet, struct kp_error *error) KP_NODISCARD;
int os_external_find(struct os *os, const char *wanted, struct kp_arena *arena, const char **ret_id, struct kp_error *error) KP_NODISCARD;

/* ---- cidr.c */
struct os_cidr {
    uint32_t address;
    int bits;
};
bool os_cidr_parse(const char *text, struct os_cidr *ret);
bool os_cidr_overlap(struct os_cidr a, struct os_cidr b);
/* The first of 10.90.0.0/24 to 10.99.255.0/24 that overlaps with none. */
int os_cidr_choose(const struct os_cidr *taken, size_t n, struct kp_arena *arena, const char **ret, struct kp_error *error) KP_NODISCARD;

/* ---- group.c */
int os_group_ensure(struct os *os, const char *uid, json_t **ret, struct kp_error *error) KP_NODISCARD;

/* ---- port.c */
int os_port_find(struct os *os, const char *uid, const char *name, struct kp_arena *arena, const char **ret_id, const char **ret_address,
                 struct kp_error *error) KP_NODISCARD; /* KP_ENOTFOUND */
int os_address_reserve(struct os *os, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);
int os_address_release(void *state, const char *uid, const char *name, struct kp_error *error);
int os_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);
int os_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error);
/* The floating address at a port, made or (wanted not "") taken; "" when `external` is "". */
int os_floating_ensure(struct os *os, const char *uid, const char *name, const char *external, const char *port, const char *wanted, struct kp_arena *arena,
                       const char **ret_address, struct kp_error *error) KP_NODISCARD;
int os_floating_release(struct os *os, const char *uid, const char *port, struct kp_error *error) KP_NODISCARD;

/* ---- flavor.c */
struct os_flavor {
    const char *id, *name;
    int vcpus;
    int64_t memory_mib, root_gib, data_gib;
};
/* name "": the smallest that a node runs on. */
int os_flavor_find(struct os *os, const char *name, struct kp_arena *arena, struct os_flavor *ret, struct kp_error *error) KP_NODISCARD;
int os_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error);
/* Of a list of flavors, sorted; pure. */
int os_flavor_choose(const struct os_flavor *flavors, size_t n, const char *name, struct kp_arena *arena, struct os_flavor *ret, struct kp_error *error) KP_NODISCARD;

/* ---- image.c */
int os_image_ensure(struct os *os, const char *image, struct kp_arena *arena, const char **ret_id, struct kp_error *error);
int os_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);

/* ---- server.c */
int os_servers(struct os *os, const char *uid, json_t **ret, struct kp_error *error) KP_NODISCARD;
int os_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int os_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int os_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error);
int os_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error);
int os_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error);
int os_machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error);
int os_servers_delete(struct os *os, const char *uid, struct kp_error *error); /* all, at once */

/* ---- balancer.c */
int os_balancer_find(struct os *os, const char *uid, const char *name, json_t **ret, struct kp_error *error) KP_NODISCARD; /* KP_ENOTFOUND */
int os_balancers(struct os *os, const char *uid, json_t **ret, struct kp_error *error) KP_NODISCARD; /* empty where there is no Octavia */
int os_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int os_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int os_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error);
int os_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error);
int os_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error);
int os_balancers_delete(struct os *os, const char *uid, struct kp_error *error);
/* Where a balancer is made, and until when a call waits for it. */
struct os_balancer_place {
    const char *uid, *id, *subnet;
    int64_t deadline_ms; /* monotonic */
};
/* Waits until it is not PENDING_* or, when `gone`, not there at all; KP_EAGAIN after the deadline. *ret (may be NULL) is what it is then. */
int os_balancer_settle(struct os *os, const struct os_balancer_place *place, bool gone, json_t **ret, struct kp_error *error) KP_NODISCARD;
/* A change of the balancer or of what hangs on it, and waiting for it. KP_EAGAIN also when the cloud is at work on another one. */
int os_balancer_change(struct os *os, const struct os_balancer_place *place, const char *operation, const char *method, const char *path, json_t *body,
                       struct kp_error *error) KP_NODISCARD;
/* ---- listeners.c: what hangs on a balancer, made as the spec says by full difference. KP_EAGAIN when the cloud is at work longer than we wait. */
int os_listeners_converge(struct os *os, const struct cloud_balancer_spec *spec, const struct os_balancer_place *place, struct kp_arena *arena,
                          struct kp_error *error) KP_NODISCARD;
/* What belongs to the balancer of a list: "listeners" or "pools". */
int os_balancer_parts(struct os *os, const char *what, const char *id, struct kp_arena *arena, json_t **ret, struct kp_error *error) KP_NODISCARD;

/* ---- pool.c */
/* The pool of a listener, with its members and health monitor. pool NULL: there is none yet. */
int os_pool_converge(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const char *listener_id, const json_t *pool,
                     const struct os_balancer_place *place, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;
int os_members(struct os *os, const char *pool, struct kp_arena *arena, json_t **ret, struct kp_error *error) KP_NODISCARD;

/* ---- route.c */
int os_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error);
int os_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);
int os_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);

/* ---- check.c */
int os_check(void *state, const struct cloud_wish *wish, struct kp_error *error);

/* ---- owned.c */
int os_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error);
int os_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error);
int os_purge(void *state, const char *uid, struct kp_error *error);

#endif
