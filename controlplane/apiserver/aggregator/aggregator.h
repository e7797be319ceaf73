/* controlplane/apiserver/aggregator: APIServices at work - which group versions other API servers serve, whether those can be reached, what
 * they serve, and who asks them; and the APIServices of what this server serves itself. As upstream's kube-aggregator. */
#ifndef APISERVER_AGGREGATOR_H
#define APISERVER_AGGREGATOR_H

#include "controlplane/apiserver/backend/backend.h"
#include "controlplane/apiserver/registry/registry.h"

#define AGGREGATOR_CHECK_MS 30000                             /* between two looks at a server; upstream's resync */
#define AGGREGATOR_DISCOVER_MS 60000                          /* between two looks at what it serves */
#define AGGREGATOR_ANSWER_MS 5000                             /* how long it may take over either */
#define AGGREGATOR_ATTEMPTS 5                                 /* side by side, each at an endpoint of its own choice; one that succeeds is enough */
#define AGGREGATOR_RETRY_MS_MIN 100                           /* after a failure, twice as long after each */
#define AGGREGATOR_RETRY_MS_MAX 30000
#define AGGREGATOR_DISCOVERY_BYTES_MAX ((size_t)4 << 20)      /* of what is kept of one group version's resources */
#define AGGREGATOR_SERVERS_MAX 500                            /* APIServices with a Service; more are not routed, and the log says so */

/* What front proxies are trusted by, for the ConfigMap kube-system/extension-apiserver-authentication. Files are read once; NULL or "": not set.
   Lists by commas, as the flags have them. */
struct aggregator_trust {
    const char *client_ca_file, *requestheader_client_ca_file;
    const char *requestheader_allowed_names, *requestheader_username_headers, *requestheader_group_headers, *requestheader_extra_headers_prefix;
};
/* All borrowed until aggregator_free; trust may be NULL. */
struct aggregator_config {
    struct registry *registry;
    struct wcache_set *caches;
    struct backends *backends;
    const struct aggregator_trust *trust;
};
struct aggregator;
/* Starts the thread that follows APIServices, and what they depend on. */
int aggregator_new(const struct aggregator_config *config, struct aggregator **ret_aggregator, struct kp_error *error) KP_NODISCARD;
/* Ends the thread; requests may still ask. Accepts NULL. */
void aggregator_stop(struct aggregator *aggregator);
/* Of one that was stopped, once neither requests nor the caches can come to it any more. Accepts NULL. */
void aggregator_free(struct aggregator *aggregator);

/* ---- the APIServices as they are now: immutable, counted ------------------------------------------------------------------------- */
struct aggregator_entry {
    const char *name, *group, *version;
    int32_t group_priority, version_priority;
    bool remote; /* it has a Service; all that follows is of such ones */
    bool available;
    const char *ns, *service;
    int32_t port;
    struct kp_bytes ca;
    bool insecure_skip_verify;
    struct kp_blob *resources; /* what it serves, as aggregated discovery has it: a JSON list; NULL: not known yet */
    bool current;              /* that is how it was at the last look, which succeeded */
    const char *openapi_url;   /* of its OpenAPI v3 document, as its own index has it: "/openapi/v3/apis/g/v?hash=..."; NULL: it has none */
};
struct aggregator_view {
    int refs;
    struct kp_arena *arena;
    const struct aggregator_entry *items; /* by name */
    size_t len;
};
/* The caller's reference; NULL while the APIServices have not been read yet, and for a NULL aggregator. Any thread. */
struct aggregator_view *aggregator_hold(struct aggregator *aggregator);
void aggregator_release(struct aggregator_view *view); /* accepts NULL */
KP_DEFINE_AUTO(struct aggregator_view *, aggregator_release)
/* The APIService of a group version, or NULL; view may be NULL. */
const struct aggregator_entry *aggregator_find(const struct aggregator_view *view, const char *group, const char *version);
/* How its server is asked, with our certificate; borrows from the entry. */
struct backend aggregator_backend(const struct aggregator_entry *entry);

/* ---- pure ---------------------------------------------------------------------------------------------------------------------------- */
/* The priorities of a group version this server serves itself, as upstream registers it; false: it does not. custom: of a
   CustomResourceDefinition. */
bool aggregator_priority(const char *group, const char *version, bool custom, int32_t *ret_group, int32_t *ret_version);
struct aggregator_headers {
    struct http_header *items;
    size_t len;
};
/* Adds X-Remote-User, -Uid, -Group and -Extra-*, by which a server behind this one knows who asks. Strings are borrowed or in arena. */
void aggregator_add_user(const struct auth_user *user, struct kp_arena *arena, struct aggregator_headers *headers);
bool aggregator_is_user_header(const char *name); /* one of those: a client may not send them itself */

#endif
