/* Custom resources: which are served, and the metadata of their objects, for those controllers that go by every resource there is.
 *
 * Upstream's controllers ask discovery for what is served. Ours go by the CustomResourceDefinitions themselves, which tell the same and are
 * watched: a new one is known at once instead of at the next round of discovery (30 s), and nothing is polled. What comes of other API servers
 * (APIServices) is not known so. */
#ifndef KCM_CUSTOMS_H
#define KCM_CUSTOMS_H

#include "controlplane/controller-manager/engine.h"

/* CustomResourceDefinitions without their schemas, which would be most of the cache: objects are struct k8s_custom_resource_definition, of which
   only the name, uid, resourceVersion, group, names, scope, versions (name, served, storage), conditions and accepted names are there. */
extern const struct kp_resource customs_definitions_resource;

/* What a definition defines, when it is established and any version is served: that of the version objects are stored in, or else the first that is
   served. Types are of the metadata alone. Borrows from the definition; served may be NULL. */
bool customs_describe(const struct k8s_custom_resource_definition *definition, struct kp_arena *arena, struct kp_resource *ret_resource,
                      struct kp_string_list *ret_served);
/* A copy that shares nothing, for plans' writes: they are made when the list it is from may have been released. */
const struct kp_resource *customs_copy(const struct kp_resource *resource, struct kp_arena *arena);

/* One custom resource, and its objects' metadata. */
struct custom {
    struct kp_resource resource;
    struct kp_string_list served;     /* every version, not only the one that is watched */
    struct client_informer *informer; /* NULL: the definition was deleted, and its objects with it; what they owned may not have gone yet */
    int index;                        /* by the function of customs_index; -1 without */
    /* customs.c's own: */
    struct customs *customs;
    struct kp_arena *arena;      /* of it and its strings */
    const char *definition, *uid; /* its CustomResourceDefinition */
    int64_t ready_ms;            /* by kp_mono_ms(): from then on it counts as listed */
    bool gone;                   /* the definition was deleted: what is cached has gone too */
};
/* False while its first list is under way, for at most half a minute (upstream's garbage collector waits as long for new monitors): a resource that
   cannot be listed must not hold up everything else. */
bool custom_ready(const struct custom *custom);

/* An immutable list of them: those that are served, then those that are gone. */
struct customs;
struct customs_list {
    struct customs *customs;
    struct customs_list *next; /* the one that replaced it */
    size_t len, n_dropped, refs;  /* refs by the lock of customs */
    struct custom **items, **dropped; /* dropped: those that its successor has no longer */
};
/* The present list, and what is in it, stay until released. Any thread; never waits for long. */
struct customs_list *customs_hold(struct customs *customs);
void customs_release(struct customs_list *list); /* accepts NULL */
KP_DEFINE_AUTO(struct customs_list *, customs_release)

/* ---- for setup ------------------------------------------------------------------------------------------------------------- */
/* The engine's, made on first use; run is the one whose workers start and stop the informers. */
struct customs *engine_follow_customs(struct engine *engine, struct controller_run *run);
struct customs *engine_customs(const struct engine *engine); /* NULL when nobody follows them */
/* Told of every change of an object; old is NULL for an add, new for a delete. When a definition goes, of every object that it had still. Runs on the
   loop, or in a worker: must not block. */
typedef void (*customs_handler)(const struct custom *custom, const struct k8s_object_meta *old, const struct k8s_object_meta *new, void *arg);
void customs_follow(struct customs *customs, customs_handler handler, void *arg);
void customs_index(struct customs *customs, client_index_fn fn); /* at most one */

/* ---- for the engine -------------------------------------------------------------------------------------------------------- */
#define CUSTOMS_KEY ":customs" /* on the queue of run: definitions have changed; no object has such a name */
struct customs *customs_new(struct engine *engine, struct controller_run *run);
bool customs_is_of(const struct customs *customs, const struct controller_run *run);
void customs_start(struct customs *customs); /* from now on informers are started; the definitions have been listed */
/* Goes by the definitions as they are now. In how many milliseconds it is to be called again, to free what was still in use; -1: when they change.
   One thread at a time, not the loop's. */
int64_t customs_update(struct customs *customs);
void customs_stop(struct customs *customs); /* accepts NULL; no handler runs any more */
void customs_free(struct customs *customs); /* accepts NULL; after the last plan */

#endif
