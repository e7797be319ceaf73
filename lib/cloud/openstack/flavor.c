/* Sizes of machines: Nova's flavors. */
#include "cloud/openstack/openstack_internal.h"

#define NODE_MEMORY_MIB 1024
#define NODE_ROOT_GIB 1 /* that the node image takes */
#define NODE_DATA_GIB 3

static int compare(const void *a, const void *b)
{
    const struct os_flavor *x = a, *y = b;
    if (x->vcpus != y->vcpus)
        return x->vcpus < y->vcpus ? -1 : 1;
    if (x->memory_mib != y->memory_mib)
        return x->memory_mib < y->memory_mib ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int list_flavors(struct os *os, struct kp_arena *arena, struct os_flavor **ret, size_t *ret_n, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *items = NULL;
    int r = os_list(os, "flavors.list", OS_COMPUTE, "/flavors/detail", "flavors", &items, error);
    if (r < 0)
        return r;
    size_t n = json_array_size(items);
    struct os_flavor *flavors = KP_NEW_ARRAY(arena, struct os_flavor, n + 1);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(items, i);
        flavors[i] = (struct os_flavor){.id = os_text(item, "id", arena), .name = os_text(item, "name", arena), .vcpus = (int)rest_json_int(item, "vcpus"),
                                        .memory_mib = rest_json_int(item, "ram"), .root_gib = rest_json_int(item, "disk"),
                                        .data_gib = rest_json_int(item, "OS-FLV-EXT-DATA:ephemeral")};
    }
    if (n)
        qsort(flavors, n, sizeof(*flavors), compare);
    *ret = flavors;
    *ret_n = n;
    return 0;
}

/* Data lies on the second disk, or behind the node image on the first. */
static bool carries_node(const struct os_flavor *flavor)
{
    int64_t data = flavor->data_gib ? flavor->data_gib : flavor->root_gib - NODE_ROOT_GIB;
    return flavor->vcpus >= 1 && flavor->memory_mib >= NODE_MEMORY_MIB && flavor->root_gib >= NODE_ROOT_GIB && data >= NODE_DATA_GIB;
}

int os_flavor_choose(const struct os_flavor *flavors, size_t n, const char *name, struct kp_arena *arena, struct os_flavor *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf known = {0};
    const char **names = KP_NEW_ARRAY(arena, const char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        if (*name ? kp_streq(flavors[i].name, name) || kp_streq(flavors[i].id, name) : carries_node(&flavors[i])) {
            *ret = flavors[i];
            return 0;
        }
        names[i] = flavors[i].name;
        if (i < 24)
            kp_buf_printf(&known, "%s%s", i ? ", " : "", flavors[i].name);
    }
    if (!*name)
        return kp_fail(error, KP_EINVALID, "none of this cloud's flavors carries a node (1 vCPU, %d MiB of memory, a root disk of %d GB or one of %d GB and %d GB of ephemeral disk): it has %s",
                       NODE_MEMORY_MIB, NODE_ROOT_GIB + NODE_DATA_GIB, NODE_ROOT_GIB, NODE_DATA_GIB, known.len ? known.data : "none");
    const char *near = kp_closest(name, names);
    return kp_fail(error, KP_EINVALID, "machine type \"%s\": this cloud has no such flavor%s%s%s: it has %s", name, near ? ", did you mean \"" : "", near ? near : "",
                   near ? "\"?" : "", known.len ? known.data : "none");
}

int os_flavor_find(struct os *os, const char *name, struct kp_arena *arena, struct os_flavor *ret, struct kp_error *error)
{
    struct os_flavor *flavors = NULL;
    size_t n = 0;
    int r = list_flavors(os, arena, &flavors, &n, error);
    return r < 0 ? r : os_flavor_choose(flavors, n, name ? name : "", arena, ret, error);
}

int os_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    struct os *os = state;
    struct os_flavor *flavors = NULL;
    size_t n = 0;
    int r = list_flavors(os, arena, &flavors, &n, error);
    if (r < 0)
        return r;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine_type, n + 1);
    ret->len = n;
    for (size_t i = 0; i < n; i++)
        ret->items[i] = (struct cloud_machine_type){.name = flavors[i].name, .vcpus = flavors[i].vcpus, .memory_mib = flavors[i].memory_mib,
                                                    .disk_gib = flavors[i].root_gib + flavors[i].data_gib};
    return 0;
}
