/* Controllers without a server: caches filled by hand, plans looked at line by line, and their writes applied to the caches. */
#ifndef TEST_KCM_WORLD_H
#define TEST_KCM_WORLD_H

#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/engine_internal.h"

struct fake_api;

#define WORLD_NOW 1000000 /* seconds since 1970 at the start */

struct kcm_world {
    struct engine *engine;
    struct client_view *view; /* of the last plan */
    struct plan *plan;        /* of the last world_plan */
    struct kp_buf text;       /* plan_describe() of it */
    int64_t now_s;
    unsigned made; /* for names and uids of what plans create */
};
/* Ends the test program when a setup fails. config may be NULL. */
struct kcm_world *world_new(const struct controller *const *controllers, size_t n, const struct engine_config *config);
void world_free(struct kcm_world *world);
/* An object in YAML into the cache of its resource, which a controller must watch. */
void world_put(struct kcm_world *world, const struct kp_resource *resource, const char *yaml);
/* Only its metadata, for controllers that watch no more (engine_metadata_informer). */
void world_put_metadata(struct kcm_world *world, const struct kp_resource *resource, const char *yaml);
/* A CustomResourceDefinition in YAML, for controllers that go by custom resources; its objects' metadata is put by the resource's full name
   ("widgets.example.org"). NULL when there is no such custom resource, or its definition has gone. */
void world_define(struct kcm_world *world, const char *yaml);
void world_undefine(struct kcm_world *world, const char *name);
struct client_informer *world_customs(struct kcm_world *world, const char *name);
void world_put_custom(struct kcm_world *world, const char *name, const char *yaml);
/* Widgets of example.org, established, namespaced, v1alpha1 and (stored) v1. */
#define WORLD_WIDGETS(uid, more) \
    "{metadata: {name: widgets.example.org, uid: " uid ", resourceVersion: '1'}, spec: {group: example.org, names: {plural: widgets, singular: widget, " \
    "kind: Widget}, scope: Namespaced, versions: [{name: v1alpha1, served: true, storage: false}, {name: v1, served: true, storage: true}" more "]}, " \
    "status: {acceptedNames: {plural: widgets, singular: widget, kind: Widget}, conditions: [{type: Established, status: 'True'}]}}"
void world_remove(struct kcm_world *world, const struct kp_resource *resource, const char *ns, const char *name);
/* The plan for "ns/name" as text, borrowed until the next one; "error: ..." when planning failed. */
const char *world_plan(struct kcm_world *world, const struct controller *controller, const char *key);
/* Puts creates, updates and deletes of the last plan into the caches, as a server would. Patches are not applied. */
void world_apply(struct kcm_world *world);
/* From the cache, borrowed until the next world_plan; NULL when it is not there. */
const void *world_get(struct kcm_world *world, const struct kp_resource *resource, const char *ns, const char *name);
/* The object of the nth write of an op on a resource in the last plan, or NULL. */
const void *world_written(struct kcm_world *world, enum plan_op op, const struct kp_resource *resource, size_t nth);
/* How many lines of the last plan begin so. */
size_t world_count(const struct kcm_world *world, const char *prefix);

/* A world of one controller whose plans ask a store as well: a small API server, empty at first. */
struct kcm_store_world {
    struct loop *loop;
    struct fake_api *api;
    struct client *client;
    struct kcm_world *world;
};
struct kcm_store_world *store_world_new(const struct controller *controller);
void store_world_free(struct kcm_store_world *world);

#endif
