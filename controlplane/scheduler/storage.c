/* What the scheduler knows of claims, volumes, their classes and drivers, and what it has promised of them to pods that are being bound. */
#include "controlplane/scheduler/volumes_internal.h"

struct sched_storage {
    struct kp_strmap *objects[SCHED_STORAGE_KINDS]; /* "ns/name" or "name" -> struct client_object */
    struct sched_promise *promises; /* few: of pods that wait for their volumes */
    size_t n_promises;
};

struct sched_storage *sched_storage_new(void)
{
    struct sched_storage *storage = kp_calloc(1, sizeof(*storage));
    for (size_t i = 0; i < SCHED_STORAGE_KINDS; i++)
        storage->objects[i] = kp_strmap_new();
    return storage;
}

static void unref_object(void *object)
{
    client_object_unref(object);
}

static void free_promise(struct sched_promise *promise)
{
    free(promise->pod);
    free(promise->claim);
    free(promise->volume);
    free(promise->node);
}

void sched_storage_free(struct sched_storage *storage)
{
    if (!storage)
        return;
    for (size_t i = 0; i < SCHED_STORAGE_KINDS; i++)
        kp_strmap_free(storage->objects[i], unref_object);
    for (size_t i = 0; i < storage->n_promises; i++)
        free_promise(&storage->promises[i]);
    free(storage->promises);
    free(storage);
}

static char *key_of(const char *ns, const char *name)
{
    return kp_empty(ns) ? kp_strdup(name) : kp_asprintf("%s/%s", ns, name);
}

void sched_storage_set(struct sched_storage *storage, enum sched_storage_kind kind, struct client_object *object)
{
    KP_AUTO_FREE char *key = key_of(object->ns, object->name);
    client_object_unref(kp_strmap_put(storage->objects[kind], key, client_object_ref(object)));
}

void sched_storage_remove(struct sched_storage *storage, enum sched_storage_kind kind, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = key_of(ns, name);
    client_object_unref(kp_strmap_remove(storage->objects[kind], key));
}

struct client_object *sched_storage_get(const struct sched_storage *storage, enum sched_storage_kind kind, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = key_of(ns, name ? name : "");
    return kp_strmap_get(storage->objects[kind], key);
}

struct client_object *sched_storage_next(const struct sched_storage *storage, enum sched_storage_kind kind, size_t *iter)
{
    const char *key;
    void *value;
    return kp_strmap_next(storage->objects[kind], iter, &key, &value) ? value : NULL;
}

/* ---- promises ------------------------------------------------------------------------------------------------------------- */
void sched_storage_promise(struct sched_storage *storage, const char *pod, const struct sched_volume_plan *plan)
{
    if (!plan->len)
        return;
    storage->promises = kp_realloc(storage->promises, (storage->n_promises + plan->len) * sizeof(*storage->promises));
    for (size_t i = 0; i < plan->len; i++) {
        const struct sched_volume_step *step = &plan->items[i];
        storage->promises[storage->n_promises++] = (struct sched_promise){
            .pod = kp_strdup(pod), .claim = key_of(step->claim->ns, step->claim->name),
            .volume = step->volume ? kp_strdup(step->volume->name) : NULL, .node = kp_strdup(plan->node),
        };
    }
}

void sched_storage_keep(struct sched_storage *storage, const char *pod)
{
    size_t left = 0;
    for (size_t i = 0; i < storage->n_promises; i++) {
        if (strcmp(storage->promises[i].pod, pod) == 0)
            free_promise(&storage->promises[i]);
        else
            storage->promises[left++] = storage->promises[i];
    }
    storage->n_promises = left;
}

const struct sched_promise *sched_storage_promised_claim(const struct sched_storage *storage, const struct client_object *claim)
{
    if (!storage->n_promises)
        return NULL;
    KP_AUTO_FREE char *key = key_of(claim->ns, claim->name);
    for (size_t i = 0; i < storage->n_promises; i++)
        if (strcmp(storage->promises[i].claim, key) == 0)
            return &storage->promises[i];
    return NULL;
}

const struct sched_promise *sched_storage_promised_volume(const struct sched_storage *storage, const char *volume)
{
    for (size_t i = 0; i < storage->n_promises; i++)
        if (kp_streq(storage->promises[i].volume, volume))
            return &storage->promises[i];
    return NULL;
}
