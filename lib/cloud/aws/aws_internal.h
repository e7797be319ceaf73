/* What the files of the AWS driver share. */
#ifndef CLOUD_AWS_INTERNAL_H
#define CLOUD_AWS_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "cloud/cloud.h"
#include "cloud/rest/rest.h"

/* Everything of a cluster carries the first two; the others are of machines. */
#define AWS_TAG_CLUSTER "kprov-cluster"
#define AWS_TAG_NAME "kprov-name" /* of the machine, the balancer, the part of the network */
#define AWS_TAG_ROLE "kprov-role"
#define AWS_TAG_POOL "kprov-pool"
#define AWS_TAG_IMAGE "kprov-image" /* also of an AMI: the id of the node image in it */
#define AWS_TAG_CREATED "kprov-created"
#define AWS_TAG_STAGE "kprov-stage" /* of a snapshot: "new" until it is whole */
/* Of a network that is somebody else's: kubernetes.io/cluster/<uid> = shared, as cloud-provider-aws writes it. */
#define AWS_TAG_SHARED "kubernetes.io/cluster/"
#define AWS_MACHINE_TYPE "t3.medium"
#define AWS_USER_DATA_MAX ((size_t)16384) /* of EC2, before base64 */
#define AWS_ZONES_MAX 8
#define AWS_ANSWER_MAX ((size_t)16 << 20) /* bytes of one XML document */
#define AWS_DEPTH_MAX 32
#define AWS_REST_HEADERS_MAX 8
#define AWS_PAGES_MAX 1000
#define AWS_TAGS_BATCH 20 /* load balancers that one DescribeTags of ELB takes */
#define AWS_API_BALANCER "api"
#define AWS_KUBELET_PORT 10250

enum aws_service { AWS_EC2, AWS_ELB, AWS_STS, AWS_EBS, AWS_IAM, AWS_SERVICES };
extern const char *const aws_service_names[AWS_SERVICES]; /* as in signatures and host names */

struct aws_profile { /* of credentials and config files; "" what is not there */
    const char *id, *secret, *token, *region, *endpoint, *ca_file, *max_attempts, *role_arn, *process, *sso;
    bool found; /* a section of that name */
};
struct aws_keys {
    const char *id, *secret, *token; /* token "": none */
    int64_t expires_s;               /* 0: never */
    const char *source;              /* "the environment", for errors */
};
/* Calls with a void pointer stand in the table of cloud.h themselves: it leads to this. */
struct aws {
    struct rest *rest, *imds;
    char *region, *profile, *credentials_file, *config_file;
    char *instance_profile; /* of control planes; NULL: none */
    char *image_dir; /* of node images */
    char *endpoints[AWS_SERVICES];
    char *imds_base; /* NULL: instance metadata is not to be asked */
    bool own_authorities; /* certificates are checked by a file of the account's */
    bool profile_only; /* a profile or a file was asked for by name: the environment's keys do not count */
    int attempts_max;
    int64_t backoff_ms, backoff_ms_max; /* of a first retry, and of any */
    int64_t poll_ms;     /* between looks at something that changes */
    int64_t settle_ms;   /* that one call waits for an instance */
    pthread_mutex_t state_lock; /* of what follows */
    struct kp_arena *keys_arena;
    struct aws_keys keys;
    bool have_keys;
    int retry_quota;
    int64_t skew_s; /* of AWS's clock against ours */
    pthread_mutex_t making; /* finding and making of what has no token of its own, one thread at a time */
};

/* ---- xml.c: an answer as a tree in the arena */
struct aws_node {
    const char *name, *text; /* local name; the text directly in it, "" when there is none */
    struct aws_node *first, *next;
};
/* KP_ECORRUPT when it is no XML, brings a document type, or is deeper than AWS_DEPTH_MAX. */
int aws_xml_parse(const char *text, size_t len, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error) KP_NODISCARD;
/* The first element at a path of names separated by '/' below node; NULL when there is none, or node is NULL. */
const struct aws_node *aws_at(const struct aws_node *node, const char *path);
const struct aws_node *aws_again(const struct aws_node *node); /* the next sibling of the same name */
const char *aws_text(const struct aws_node *node, const char *path); /* "" when there is none */
int64_t aws_int(const struct aws_node *node, const char *path); /* 0 when there is none, or it is no number */
const char *aws_tag_of(const struct aws_node *item, const char *key); /* in item's tagSet, or Tags of ELB; "" when there is none */

/* ---- form.c: parameters of a call, as application/x-www-form-urlencoded */
struct aws_form {
    struct kp_buf text;
    int filters, specs, tags;
};
void aws_form_done(struct aws_form *form);
#define AWS_FORM __attribute__((cleanup(aws_form_done))) struct aws_form
void aws_set(struct aws_form *form, const char *name, const char *value);
void aws_set_int(struct aws_form *form, const char *name, int64_t value);
void aws_set_at(struct aws_form *form, const char *value, const char *name_format, ...) KP_PRINTF(3, 4);
void aws_filter(struct aws_form *form, const char *name, const char *value);
void aws_filter_more(struct aws_form *form, int n, const char *value); /* another value of the filter set last; n from 2 on */
/* Tags that EC2 puts on what it makes: the cluster's, and the name. */
void aws_tags(struct aws_form *form, const char *resource_type, const char *uid, const char *name);
void aws_tag(struct aws_form *form, const char *key, const char *value); /* another one on the same */

/* ---- error.c */
enum aws_retry { AWS_FINAL, AWS_TRANSIENT, AWS_THROTTLED, AWS_SKEWED, AWS_STALE_KEYS };
int aws_code(const char *code, int status); /* AWS's error code as one of ours */
enum aws_retry aws_retry_of(const char *code, int status);
/* Code and message of an answer that is no success; both "" when the body tells none. */
void aws_read_error(const struct rest_answer *answer, struct kp_arena *arena, const char **ret_code, const char **ret_message);

/* What was kept apart becomes the caller's error. */
int aws_pass(struct kp_error *error, const struct kp_error *why);

/* ---- profile.c */
/* One profile out of a file; config: sections are called "profile NAME" there. Adds to what *ret has: what is set already stays. */
void aws_profile_parse(const char *text, size_t len, bool config, const char *profile, struct kp_arena *arena, struct aws_profile *ret);
/* Both files, credentials first. Absent files are fine; *ret_looked tells what was looked at. */
int aws_profile_read(const struct aws *aws, struct kp_arena *arena, struct aws_profile *ret, const char **ret_looked, struct kp_error *error);

/* ---- imds.c */
int aws_imds_get(struct aws *aws, const char *path, struct kp_arena *arena, const char **ret_text, struct kp_error *error);
int aws_imds_keys(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, struct kp_error *error);
int64_t aws_parse_time(const char *rfc3339); /* seconds since 1970; 0 when it is none */

/* ---- credentials.c: the chain of the SDKs */
int aws_keys_get(struct aws *aws, struct kp_arena *arena, struct aws_keys *ret, struct kp_error *error);
void aws_keys_forget(struct aws *aws, const char *id); /* those of that id were refused: the next call looks anew */

/* ---- open.c */
int aws_open(const struct cloud_options *options, struct aws **ret, struct kp_error *error);
void aws_close(struct aws *aws);
const char *aws_own_endpoint(const struct aws *aws, enum aws_service service, struct kp_arena *arena);

/* ---- export.c */
int aws_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error);

/* ---- query.c */
#define AWS_ONCE 1 /* not made again when its answer was lost: it would make a second thing */
/* Signs, sends, repeats as the SDKs' standard mode. *ret is the answer's root, of ELB and STS its result; may be NULL. Takes the form's content. */
int aws_do(struct aws *aws, enum aws_service service, const char *action, struct aws_form *form, unsigned flags, struct kp_arena *arena,
           const struct aws_node **ret, struct kp_error *error) KP_NODISCARD;
struct aws_list {
    const struct aws_node **items;
    size_t len;
};
/* All pages' elements at path. */
int aws_list(struct aws *aws, enum aws_service service, const char *action, struct aws_form *form, const char *path, struct kp_arena *arena,
             struct aws_list *ret, struct kp_error *error) KP_NODISCARD;
/* As aws_do with one parameter and no answer; KP_ENOTFOUND and KP_EEXISTS count as done. */
int aws_simple(struct aws *aws, enum aws_service service, const char *action, const char *name, const char *value, struct kp_error *error) KP_NODISCARD;
struct aws_rest { /* a call of a service that is no query API: of EBS */
    const char *method, *path, *type; /* type: of the body's content */
    const char *const *headers;       /* "Name: value", NULL-terminated, at most AWS_REST_HEADERS_MAX; or NULL */
    const void *body;
    size_t body_len;
    bool unsigned_body; /* its digest goes by a header of the call's own */
};
/* As aws_do. The answer's body is JSON, or nothing. */
int aws_rest_do(struct aws *aws, enum aws_service service, const char *action, const struct aws_rest *call, struct kp_arena *arena,
                struct rest_answer *ret, struct kp_error *error) KP_NODISCARD;
/* A token that makes a call repeatable. */
void aws_token(struct aws_form *form);

/* ---- sign.c */
struct aws_signing {
    const char *method, *url; /* without a query */
    const char *const *headers; /* "Name: value", NULL-terminated, at most AWS_REST_HEADERS_MAX + 1 */
    const void *body;
    size_t body_len;
    bool unsigned_body;
    const char *region, *service;
    const struct aws_keys *keys;
    time_t now;
};
/* The headers and what signs them. */
const char *const *aws_sign(const struct aws_signing *signing, struct kp_arena *arena);

/* ---- network.c */
struct aws_subnet {
    const char *id, *zone, *cidr;
    bool public; /* machines in it need a public address to get out */
};
struct aws_net {
    const char *vpc, *cidr, *nodes, *balancers; /* the last two: security groups, "" when there is none */
    bool shared;                                /* the VPC and its subnets are somebody else's */
    struct aws_subnet *subnets;                 /* in order of zone */
    size_t n_subnets;
    const char **tables; /* route tables of the subnets */
    size_t n_tables;
};
int aws_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int aws_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error);
int aws_network_delete(void *state, const char *uid, struct kp_error *error);
/* The network with its parts; KP_ENOTFOUND when the cluster has none. */
int aws_net_find(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_net *ret, struct kp_error *error);
int aws_zones(struct aws *aws, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error);
bool aws_parse_cidr(const char *text, uint32_t *ret_base, int *ret_bits); /* host bits cut off */
const char *aws_format_cidr(uint32_t base, int bits, struct kp_arena *arena);
const char *aws_format_address(uint32_t address, struct kp_arena *arena);
/* ---- layout.c: pure */
int aws_check_cidr(const char *cidr, struct kp_error *error);
/* The network of the n-th zone of `zones`; NULL when it has no room. */
const char *aws_subnet_cidr(const char *cidr, size_t zones, size_t n, struct kp_arena *arena);
/* A free network for a VPC: overlaps with none of `taken`. NULL when all are taken. */
const char *aws_free_cidr(const struct kp_strings *taken, struct kp_arena *arena);

/* ---- groups.c */
/* The rules of a security group, in full: what is missing is added, what is too much is taken away. */
struct aws_rule {
    const char *protocol; /* "-1": all, "tcp", "udp" */
    int from, to;
    const char *cidr, *group; /* one of both */
};
int aws_group_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error);
int aws_group_ensure(struct aws *aws, const char *uid, const char *vpc, const char *name, struct kp_arena *arena, const struct aws_node **ret,
                     struct kp_error *error);
int aws_rules_ensure(struct aws *aws, const struct aws_node *group, const struct aws_rule *rules, size_t n, struct kp_arena *arena, struct kp_error *error);

/* ---- address.c */
struct aws_interface {
    const char *id, *address, *public_address, *instance, *subnet, *zone, *name;
    bool checked; /* source and destination are */
};
int aws_interface_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, struct aws_interface *ret, struct kp_error *error);
int aws_address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);
int aws_address_release(void *state, const char *uid, const char *name, struct kp_error *error);
int aws_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error);
int aws_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error);
int aws_interfaces(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_interface **ret, size_t *ret_n, struct kp_error *error);
int aws_interfaces_delete(struct aws *aws, const char *uid, const char *name, struct kp_error *error); /* name NULL: all */
int aws_addresses_release(struct aws *aws, const char *uid, const char *name, struct kp_error *error); /* elastic ones; name NULL: all */

/* ---- machine.c */
int aws_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int aws_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error);
int aws_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error);
int aws_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error);
int aws_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error); /* name NULL: all */
int aws_machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error);
/* As EC2 takes them: gzip, base64. */
int aws_user_data(const void *data, size_t len, struct kp_buf *out, struct kp_error *error);

/* ---- instances.c */
enum { AWS_PENDING = 1, AWS_RUNNING = 2, AWS_STOPPING = 4, AWS_STOPPED = 8, AWS_SHUTTING_DOWN = 16, AWS_ALIVE = 15, AWS_UNGONE = 31 };
/* Instances of a cluster in one of these states; name and id NULL: any. */
int aws_instances(struct aws *aws, const char *uid, const char *name, const char *id, int states, struct kp_arena *arena, struct aws_list *ret,
                  struct kp_error *error);
void aws_to_machine(const struct aws *aws, const struct aws_node *item, struct kp_arena *arena, struct cloud_machine *ret);
/* Until all of these are in none of those states, or settle_ms are over (KP_EAGAIN); an answer that knows none of them is fine. */
int aws_wait_not_in(struct aws *aws, const char *uid, const char *name, const char *id, int states, int64_t settle_ms, struct kp_error *error);

/* ---- image.c */
int aws_image_ensure(void *state, const char *image, struct kp_error *error);
int aws_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error);
int aws_image_find(struct aws *aws, const char *image, struct kp_arena *arena, const char **ret_ami, struct kp_error *error);

/* ---- snapshot.c */
/* A snapshot that is open to be filled, as large as the file and tagged as new. */
int aws_snapshot_start(struct aws *aws, const char *image, const char *path, struct kp_arena *arena, const char **ret_snapshot, struct kp_error *error);
/* Writes the file to an open one and closes it; what is there already is written again. */
int aws_snapshot_fill(struct aws *aws, const char *snapshot, const char *path, struct kp_arena *arena, struct kp_error *error);

/* ---- types.c */
int aws_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error);
int aws_check_type(struct aws *aws, const char *name, struct kp_error *error);

/* ---- balancer.c */
int aws_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int aws_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error);
int aws_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                        struct kp_error *error);
int aws_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error);
int aws_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error);
/* ---- balancers.c: finding them by tag */
struct aws_tagged { /* a load balancer or a target group with its tags */
    const struct aws_node *item;
    const char *arn, *uid, *name; /* of the tags */
};
int aws_tagged_list(struct aws *aws, bool groups, const char *uid, struct kp_arena *arena, struct aws_tagged **ret, size_t *ret_n, struct kp_error *error);
/* Names in ELB have 32 characters and are unique in a region: made of the uid, the name and what else tells one from another. */
const char *aws_elb_name(const char *uid, const char *name, const char *more, struct kp_arena *arena);
int aws_balancer_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error);
void aws_to_balancer(const struct aws_node *item, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret);
/* ---- target_group.c */
struct aws_port { /* one listener of an NLB: a port with one or both protocols */
    const char *protocol; /* "TCP", "UDP", "TCP_UDP" */
    int port, target_port;
    const char *group_arn;
};
/* KP_EINVALID when the NLB has nothing like it. At most CLOUD_LISTENERS_MAX come back. */
int aws_ports(const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct aws_port **ret, size_t *ret_n, struct kp_error *error);
int aws_target_group_ensure(struct aws *aws, const struct cloud_balancer_spec *spec, const char *vpc, struct aws_port *port, struct kp_arena *arena,
                            struct kp_error *error);
struct aws_health { /* with the NLB's limits kept */
    bool http;
    const char *port, *path;
    int interval_s, timeout_s, healthy, unhealthy;
};
void aws_health_of(const struct cloud_balancer_spec *spec, const struct aws_port *port, struct kp_arena *arena, struct aws_health *ret);

/* ---- route.c */
int aws_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error);
int aws_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);
int aws_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error);

/* ---- owned.c */
int aws_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error);
int aws_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error);
int aws_purge(void *state, const char *uid, struct kp_error *error);

/* ---- check.c */
int aws_check(void *state, const struct cloud_wish *wish, struct kp_error *error);

#endif
