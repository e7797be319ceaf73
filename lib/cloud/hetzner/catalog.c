/* What is on offer: server types, and snapshots of node images. */
#include "cloud/hetzner/hetzner_internal.h"

#define CORES_MIN 2
#define MEMORY_MIB_MIN 4096

static bool sold_in(const json_t *type, const char *location)
{
    const json_t *locations = rest_json_at(type, "locations");
    for (size_t i = 0; i < json_array_size(locations); i++) {
        const json_t *place = json_array_get(locations, i);
        if ((!location || kp_streq(rest_json_text(place, "name"), location)) && !json_is_object(rest_json_at(place, "deprecation")))
            return true;
    }
    return false;
}

static int by_size(const void *a, const void *b)
{
    const struct cloud_machine_type *one = a, *other = b;
    if (one->vcpus != other->vcpus)
        return one->vcpus < other->vcpus ? -1 : 1;
    if (one->memory_mib != other->memory_mib)
        return one->memory_mib < other->memory_mib ? -1 : 1;
    return strcmp(one->name, other->name);
}

/* Of architecture x86, as the node image is. */
static int list_types(struct hz *hz, const char *location, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *types = NULL;
    int r = hz_list(hz, "server_types", "", &types, error);
    if (r < 0)
        return r;
    ret->len = 0;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine_type, json_array_size(types) + 1);
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *type = json_array_get(types, i);
        if (!kp_streq(rest_json_text(type, "architecture"), "x86") || rest_json_bool(type, "deprecated") || !sold_in(type, location))
            continue;
        ret->items[ret->len++] = (struct cloud_machine_type){
            .name = kp_arena_strdup(arena, rest_json_text(type, "name")), .vcpus = (int)rest_json_int(type, "cores"),
            .memory_mib = (int64_t)(json_number_value(rest_json_at(type, "memory")) * 1024), .disk_gib = (int64_t)json_number_value(rest_json_at(type, "disk")),
        };
    }
    qsort(ret->items, ret->len, sizeof(*ret->items), by_size);
    return 0;
}

int hz_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    struct hz *hz = state;
    return list_types(hz, NULL, arena, ret, error);
}

int hz_default_type(struct hz *hz, const char *location, struct kp_arena *arena, const char **ret_type, struct kp_error *error)
{
    struct cloud_machine_type_list types;
    int r = list_types(hz, location, arena, &types, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < types.len; i++)
        if (types.items[i].vcpus >= CORES_MIN && types.items[i].memory_mib >= MEMORY_MIB_MIN) {
            *ret_type = types.items[i].name;
            return 0;
        }
    return kp_fail(error, KP_EUNAVAILABLE, "no server type of %d cores and %d MiB is for sale in %s: name a machine type or another location", CORES_MIN, MEMORY_MIB_MIN,
                   location ? location : hz->zone);
}

int hz_image_find(struct hz *hz, const char *image, int64_t *ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *images = NULL;
    KP_AUTO_BUF struct kp_buf query = {0};
    kp_buf_printf(&query, "type=snapshot&status=available&architecture=x86&label_selector=" HZ_IMAGE_LABEL "%%3D");
    rest_escape(&query, image);
    int r = hz_list(hz, "images", query.data, &images, error);
    if (r < 0)
        return r;
    if (json_array_size(images) == 0)
        return kp_fail(error, KP_ENOTFOUND,
                       "no snapshot of the project has the label " HZ_IMAGE_LABEL "=%s (docs/hetzner.md)", image);
    *ret_id = rest_json_int(images, "0/id");
    return 0;
}
