/* What the files of aggregator share. */
#ifndef APISERVER_AGGREGATOR_INTERNAL_H
#define APISERVER_AGGREGATOR_INTERNAL_H

#include "api/k8s.h"
#include "controlplane/apiserver/aggregator/aggregator.h"

#include <pthread.h>

#define AUTOMANAGED "kube-aggregator.kubernetes.io/automanaged"
#define AUTOMANAGED_ON_START "onstart" /* of what is built in */
#define AUTOMANAGED_ALWAYS "true"      /* of custom resources */

typedef struct k8s_api_service api_service_t;

/* An APIService, and what is known of the server behind it. */
struct tracked {
    char *name;
    int64_t revision;
    struct kp_arena *arena; /* of object */
    api_service_t *object;
    char *spec; /* as JSON: another one is looked at anew at once */
    bool seen;  /* in this round */
    /* of those with a Service; times by kp_mono_ms */
    int64_t check_ms, discover_ms; /* when it is its turn */
    int64_t retry_ms;              /* how long was waited after the last failure; 0: there was none */
    struct kp_blob *resources;
    bool current;
    char *openapi_url;
};

/* The group versions a CustomResourceDefinition defines, remembered while it does not change. */
struct definition {
    char *name;
    int64_t revision;
    struct kp_arena *arena;
    const char *group;
    struct kp_string_list versions; /* served ones */
    bool seen;
};

struct aggregator {
    struct aggregator_config config;
    struct kp_arena *arena; /* of trust */
    struct kp_string_map trust; /* what the ConfigMap is to hold; empty: there is to be none */
    struct kp_metric *unavailable, *unavailable_total;
    pthread_t thread;
    pthread_mutex_t mutex; /* of what follows, up to view */
    pthread_cond_t changed;
    bool dirty, stopping;
    struct kp_strmap *watched;   /* "ns/name" of each Service that an APIService names */
    struct kp_strmap *touched;   /* those of them that changed, or whose EndpointSlices did */
    struct aggregator_view *view;
    /* of the thread alone */
    struct kp_strmap *tracked;     /* by name */
    struct kp_strmap *definitions; /* by name */
    bool registered;               /* what is built in, at the start */
    bool trusted;                  /* the ConfigMap is as it should be; under mutex */
};

/* ---- aggregator.c */
/* Without its thread, for tests. */
int aggregator_make(const struct aggregator_config *config, struct aggregator **ret_aggregator, struct kp_error *error) KP_NODISCARD;
/* Does what is to be done at now_ms (of the caller's own clock) and tells when there is something again: in how many milliseconds, -1: when something
   changes. Blocks on servers for AGGREGATOR_ANSWER_MS, twice at most. */
int64_t aggregator_round(struct aggregator *aggregator, int64_t now_ms);

/* ---- view.c */
struct aggregator_view *view_make(const struct aggregator *aggregator); /* of what is tracked */
bool is_available(const api_service_t *service);

/* ---- register.c */
/* Creates, changes and deletes the APIServices of what this server serves itself. False: to be tried again. */
bool register_all(struct aggregator *aggregator, struct kp_arena *arena);
void definition_free(void *definition);

/* ---- check.c */
/* What Service and EndpointSlices say; false when the server need not be asked, for *ret_reason and *ret_message (in arena). *ret_url: what is
   asked, as messages have it. */
bool check_service(const api_service_t *service, struct wcache_set *caches, struct kp_arena *arena, const char **ret_reason, const char **ret_message,
                   const char **ret_url);
/* Looks at those whose turn it is. */
void check_all(struct aggregator *aggregator, int64_t now_ms, struct kp_arena *arena);

/* ---- discover.c */
/* Asks those whose turn it is what they serve; true when something is known that was not. */
bool discover_all(struct aggregator *aggregator, int64_t now_ms, struct kp_arena *arena);
/* The list of resources, as aggregated discovery has it, of a group version in an answer: of /apis as APIGroupDiscoveryList, or of
   /apis/<group>/<version> as APIResourceList. KP_ENOTFOUND when it does not have the group version; KP_EBADREQUEST when it is neither. */
int discover_parse(const char *text, size_t len, const char *group, const char *version, struct kp_arena *arena, struct kp_buf *out, struct kp_error *error)
    KP_NODISCARD;
/* The address of a group version's document in an OpenAPI v3 index; NULL when it has none. In arena. */
const char *discover_openapi(const char *text, size_t len, const char *group, const char *version, struct kp_arena *arena);

/* ---- headers.c */
struct aggregator_headers own_headers(struct kp_arena *arena); /* of requests that we make ourselves */

/* ---- trust.c */
int trust_read(const struct aggregator_trust *trust, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error) KP_NODISCARD;
/* What the ConfigMap is to hold when it holds this: certificates and names are added to those of others. */
struct kp_string_map trust_merge(const struct kp_string_map *there, const struct kp_string_map *own, int64_t now_s, struct kp_arena *arena);
bool trust_publish(struct aggregator *aggregator, struct kp_arena *arena); /* false: to be tried again */
#define TRUST_NAMESPACE "kube-system"
#define TRUST_NAME "extension-apiserver-authentication"

#endif
