/* controlplane/apiserver/admission: the chain of steps that may change or refuse a write after authorisation. */
#ifndef APISERVER_ADMISSION_H
#define APISERVER_ADMISSION_H

#include "controlplane/apiserver/audit/audit.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/backend/backend.h"
#include "controlplane/apiserver/status/status.h"

enum admission_operation { ADMISSION_CREATE, ADMISSION_UPDATE, ADMISSION_DELETE, ADMISSION_CONNECT };
struct admission_attributes {
    enum admission_operation operation;
    const struct kp_resource *resource;
    const char *subresource; /* "" when none */
    const struct kp_type *type; /* of object and old_object: the subresource's body type for binding, eviction, token ... */
    const char *ns, *name;      /* "" when not set (generateName: name is set in validate) */
    const struct auth_user *user;
    void *object;           /* what will be stored; mutate may change it; NULL on delete and connect */
    const void *old_object; /* what is stored; NULL on create */
    bool dry_run;
    bool own; /* the server writes it for itself, and has to when no webhook runs yet: none is asked, nor a policy */
    struct audit_record *audit; /* gets annotations; NULL: it is not audited */
    struct kp_arena *arena;
    struct kp_string_list *warnings; /* texts for Warning headers */
    const char *field_manager;       /* NULL: unknown */
    struct kp_raw delete_options;    /* ADMISSION_DELETE: as sent */
    void *request;                   /* for admission_views: the registry's; NULL when the object is not one that is stored */
    struct webhook_round *round;     /* set by admission_mutate meanwhile */
};
/* How objects look to others; by the registry, which stands above this module. */
struct admission_views {
    bool (*same)(const struct kp_resource *a, const struct kp_resource *b); /* versions of one stored kind */
    /* obj (attributes->type, may be NULL) as the body of attributes->subresource of resource, which is a version of attributes->resource.
       *ret_type is that body's; false when it cannot be shown: a subresource whose body is not at hand. */
    bool (*view)(const struct admission_attributes *attributes, const struct kp_resource *resource, const void *obj, const struct kp_type **ret_type,
                 const void **ret_body);
    /* The other way: attributes->object becomes what body, a changed view, says, with defaults. */
    int (*take)(struct admission_attributes *attributes, const struct kp_resource *resource, const struct kp_type *type, void *body,
                struct api_status *status);
};
struct admission_config {
    struct wcache_set *caches;    /* borrowed */
    struct auth *auth;            /* borrowed */
    struct backends *backends;    /* borrowed; NULL: webhooks are not asked */
    const struct admission_views *views; /* borrowed; required with backends; NULL: policies are not asked either */
    const char *enabled_plugins;  /* comma-separated, beside the default ones; NULL: none more */
    const char *disabled_plugins; /* NULL: none */
};
struct admission;
/* An unknown plugin name fails with KP_EUSAGE. */
int admission_new(const struct admission_config *config, struct admission **ret_admission, struct kp_error *error) KP_NODISCARD;
/* Whether a step is on: of those whose work is done elsewhere ("ResourceQuota", by the registry). */
bool admission_enabled(const struct admission *admission, const char *name);
void admission_free(struct admission *admission); /* accepts NULL */
/* Both: 0, or a negative code with *status set (upstream's texts, mostly 403). Any thread, on the worker pool. Mutate runs after defaulting
   and before validation, validate after validation. */
int admission_mutate(struct admission *admission, struct admission_attributes *attributes, struct api_status *status);
int admission_validate(struct admission *admission, struct admission_attributes *attributes, struct api_status *status);
/* Webhooks and policies alone, mutating and then validating: for bodies that are not stored themselves (bindings, evictions, options of exec). */
int admission_ask_extensions(struct admission *admission, struct admission_attributes *attributes, struct api_status *status);

#endif
