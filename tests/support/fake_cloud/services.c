/* The fake cloud's sizes, images, public addresses, forwarding and routes. */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "tests/support/fake_cloud/fake_cloud_internal.h"

#define PUBLIC_NET "203.0.113"
#define PUBLIC_FIRST 10
#define PUBLIC_LAST 250

static const struct cloud_machine_type types[] = {{"small", 1, 1024, 10}, {"medium", 2, 2048, 20}, {"large", 4, 8192, 40}};

int fake_check_type(const char *type, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(types); i++)
        if (kp_empty(type) || kp_streq(types[i].name, type))
            return 0;
    return kp_fail(error, KP_EINVALID, "machine type \"%s\" is not sold here: there are small, medium, large", type);
}

int fake_check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    struct fake_call call;
    (void)state;
    int r = fake_call_begin("check", "-", &call, error);
    for (size_t i = 0; r == 0 && wish->machine_types && i < wish->n_machines; i++)
        r = fake_check_type(wish->machine_types[i], error);
    return r < 0 ? r : fake_call_end(&call, 0, error);
}

int fake_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    struct fake_call call;
    (void)state;
    int r = fake_call_begin("machine_types", "-", &call, error);
    if (r < 0)
        return r;
    ret->items = kp_arena_memdup(arena, types, sizeof(types));
    ret->len = KP_ARRAY_LEN(types);
    return fake_call_end(&call, 0, error);
}

/* ---- images: names that the cloud has; a folder beside the clusters', hidden from who lists those */

static void image_path(const struct world *world, const char *image, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/.images%s%.255s", world->dir, image ? "/" : "", image ? image : "");
}

static int image_ensure_now(const struct world *world, const char *image, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX];
    image_path(world, NULL, dir);
    image_path(world, image, path);
    int r = kp_mkdir_p(dir, 0700, error);
    return r < 0 || kp_path_exists(path) ? r : kp_write_file(path, "", 0, 0600, error);
}

int fake_image_ensure(void *state, const char *image, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("image_ensure", image, &call, error);
    return r < 0 ? r : fake_call_end(&call, image_ensure_now(state, image, error), error);
}

static bool is_kept(const char *const *keep, const char *image)
{
    for (; keep && *keep; keep++)
        if (kp_streq(*keep, image))
            return true;
    return false;
}

static int add_used(const struct world *world, const char *uid, struct kp_arena *arena, struct kp_strings *used, struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_strings names = {0};
    struct cloud_machine machine;
    fake_path(world, uid, "machines", NULL, path);
    int r = fake_list(path, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        r = fake_read_machine(world, uid, names.items[i], arena, &machine, error);
        if (r == 0)
            kp_strings_add(used, machine.image);
    }
    kp_strings_done(&names);
    return r;
}

static int images_prune_now(const struct world *world, const char *const *keep, struct kp_strings *ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    char path[PATH_MAX];
    struct kp_strings uids = {0}, used = {0}, images = {0};
    int r = fake_list(world->dir, &uids, error);
    for (size_t i = 0; r == 0 && i < uids.len; i++)
        r = add_used(world, uids.items[i], arena, &used, error);
    image_path(world, NULL, path);
    if (r == 0)
        r = fake_list(path, &images, error);
    for (size_t i = 0; r == 0 && i < images.len; i++) {
        bool in_use = is_kept(keep, images.items[i]);
        for (size_t j = 0; j < used.len; j++)
            in_use |= kp_streq(used.items[j], images.items[i]);
        image_path(world, images.items[i], path);
        if (in_use)
            continue;
        r = fake_remove(path, error);
        if (r == 0)
            kp_strings_add(ret, images.items[i]);
    }
    kp_strings_done(&uids);
    kp_strings_done(&used);
    kp_strings_done(&images);
    return r;
}

int fake_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("images_prune", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, images_prune_now(state, keep, ret_removed, error), error);
}

/* ---- public addresses: of one pool for all clusters */

static bool is_public_taken(const struct world *world, const struct kp_strings *uids, const char *address)
{
    bool taken = false;
    for (size_t i = 0; i < uids->len && !taken; i++) {
        char path[PATH_MAX];
        struct kp_strings names = {0};
        fake_path(world, uids->items[i], "public", NULL, path);
        if (fake_list(path, &names, NULL) < 0)
            continue;
        for (size_t j = 0; j < names.len && !taken; j++) {
            KP_AUTO_BUF struct kp_buf text = {0};
            fake_path(world, uids->items[i], "public", names.items[j], path);
            taken = kp_read_file(path, 64, &text, NULL) == 0 && kp_streq(text.data, address);
        }
        kp_strings_done(&names);
    }
    return taken;
}

static int publish_new(const struct world *world, const char *uid, const char *path, struct kp_error *error)
{
    char address[64], dir[PATH_MAX];
    struct kp_strings uids = {0};
    int host = PUBLIC_FIRST, r = fake_list(world->dir, &uids, error);
    for (; r == 0 && host <= PUBLIC_LAST; host++) {
        snprintf(address, sizeof(address), PUBLIC_NET ".%d", host);
        if (!is_public_taken(world, &uids, address))
            break;
    }
    kp_strings_done(&uids);
    if (r == 0 && host > PUBLIC_LAST)
        r = kp_fail(error, KP_EQUOTA, "no public address is free");
    fake_path(world, uid, "public", NULL, dir);
    if (r == 0)
        r = kp_mkdir_p(dir, 0700, error);
    return r < 0 ? r : kp_write_file(path, address, strlen(address), 0600, error);
}

static int publish_now(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r < 0)
        return r;
    fake_path(world, uid, "addresses", name, path);
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "no address is reserved for %s", name);
    fake_path(world, uid, "public", name, path);
    if (!kp_path_exists(path))
        r = publish_new(world, uid, path, error);
    if (r == 0)
        r = kp_read_file(path, 64, &text, error);
    if (r == 0)
        *ret = kp_arena_strdup(arena, text.data);
    return r;
}

int fake_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("address_publish", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, publish_now(state, uid, name, arena, ret, error), error);
}

/* ---- forwarding: the list as lines */

static int forward_now(const struct world *world, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r < 0)
        return r;
    fake_path(world, uid, "machines", name, dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    for (; cidrs && *cidrs; cidrs++)
        kp_buf_printf(&text, "%s\n", *cidrs);
    snprintf(path, sizeof(path), "%.3900s/forward", dir);
    return kp_write_file(path, text.data ? text.data : "", text.len, 0600, error);
}

int fake_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_forward", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, forward_now(state, uid, name, cidrs, error), error);
}

/* ---- routes: <uid>/routes/10.244.1.0_24, with the machine's name in it */

static void route_path(const struct world *world, const char *uid, const char *destination, char out[PATH_MAX])
{
    char name[64];
    snprintf(name, sizeof(name), "%s", destination);
    name[strcspn(name, "/")] = '_';
    fake_path(world, uid, "routes", name, out);
}

static int route_list_now(const struct world *world, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_strings names = {0};
    fake_path(world, uid, "routes", NULL, path);
    int r = fake_list(path, &names, error);
    *ret = (struct cloud_route_list){.items = KP_NEW_ARRAY(arena, struct cloud_route, names.len + 1)};
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        KP_AUTO_BUF struct kp_buf machine = {0};
        fake_path(world, uid, "routes", names.items[i], path);
        r = kp_read_file(path, 256, &machine, error);
        if (r < 0)
            break;
        fake_path(world, uid, "machines", machine.data, path);
        char *destination = kp_arena_strdup(arena, names.items[i]);
        destination[strcspn(destination, "_")] = '/';
        ret->items[ret->len++] = (struct cloud_route){destination, kp_path_exists(path) ? kp_arena_strdup(arena, machine.data) : ""};
    }
    kp_strings_done(&names);
    return r;
}

int fake_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("route_list", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, route_list_now(state, uid, arena, ret, error), error);
}

static int route_ensure_now(const struct world *world, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    char path[PATH_MAX], dir[PATH_MAX];
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r < 0)
        return r;
    fake_path(world, uid, "machines", route->machine, path);
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", route->machine);
    fake_path(world, uid, "routes", NULL, dir);
    route_path(world, uid, route->destination, path);
    r = kp_mkdir_p(dir, 0700, error);
    return r < 0 ? r : kp_write_file(path, route->machine, strlen(route->machine), 0600, error);
}

int fake_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("route_ensure", route->destination, &call, error);
    return r < 0 ? r : fake_call_end(&call, route_ensure_now(state, uid, route, error), error);
}

int fake_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct fake_call call;
    char path[PATH_MAX];
    int r = fake_call_begin("route_delete", route->destination, &call, error);
    if (r < 0)
        return r;
    route_path(state, uid, route->destination, path);
    return fake_call_end(&call, fake_remove(path, error), error);
}

/* ---- the account */

int fake_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    (void)state;
    (void)arena;
    (void)error;
    *ret = (struct cloud_export){.account = {.profile = "fake", .region = "here"}, .credentials = "a secret of the fake cloud\n"};
    return 0;
}
