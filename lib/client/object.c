/* Cached objects: immutable, counted, each in an arena of its own. */
#include "lib/client/client_internal.h"

static struct client_object *wrap(const struct kp_type *type, const void *data, struct kp_arena *arena)
{
    struct client_object *object = kp_calloc(1, sizeof(*object));
    const struct k8s_object_meta *meta = kp_object_meta(type, data);
    object->refs = 1;
    object->type = type;
    object->data = data;
    object->arena = arena;
    object->ns = meta->namespace ? meta->namespace : "";
    object->name = meta->name ? meta->name : "";
    object->uid = meta->uid ? meta->uid : "";
    object->resource_version = meta->resource_version ? meta->resource_version : "";
    return object;
}

struct client_object *client_object_copy(const struct kp_type *type, const void *data)
{
    struct kp_arena *arena = kp_arena_new(0);
    return wrap(type, kp_object_clone(type, data, arena), arena);
}

int client_object_decode(const struct kp_type *type, const char *json, size_t len, struct client_object **ret_object,
                         struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *data;
    if (kp_json_decode(type, json, len, arena, NULL, &data, error) < 0)
        return error->code;
    *ret_object = wrap(type, data, KP_TAKE(arena));
    return 0;
}

struct client_object *client_object_ref(struct client_object *object)
{
    __atomic_fetch_add(&object->refs, 1, __ATOMIC_RELAXED);
    return object;
}

void client_object_unref(struct client_object *object)
{
    if (!object || __atomic_sub_fetch(&object->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kp_arena_free(object->arena);
    free(object);
}
