/* Users and roles in memory: lists by name. */
#include "controlplane/etcd/auth/auth_internal.h"

/* Where the name is, or belongs: index into items of `size` bytes that begin with their name. */
static size_t place(const void *items, size_t len, size_t size, const char *name, bool *ret_found)
{
    size_t low = 0, high = len;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(*(char *const *)(const void *)((const char *)items + middle * size), name);
        if (order == 0)
            *ret_found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct auth_user *user_find(const struct auth_users *users, const char *name)
{
    bool found;
    size_t at = place(users->items, users->len, sizeof *users->items, name, &found);
    return found ? &users->items[at] : NULL;
}

struct auth_role *role_find(const struct auth_roles *roles, const char *name)
{
    bool found;
    size_t at = place(roles->items, roles->len, sizeof *roles->items, name, &found);
    return found ? &roles->items[at] : NULL;
}

struct auth_user *user_insert(struct auth_users *users, const char *name)
{
    bool found;
    size_t at = place(users->items, users->len, sizeof *users->items, name, &found);
    KP_ASSERT(!found);
    if (users->len == users->cap) {
        users->cap = users->cap ? users->cap * 2 : 8;
        users->items = kp_realloc(users->items, users->cap * sizeof *users->items);
    }
    memmove(&users->items[at + 1], &users->items[at], (users->len - at) * sizeof *users->items);
    users->len++;
    users->items[at] = (struct auth_user){.name = kp_strdup(name)};
    return &users->items[at];
}

struct auth_role *role_insert(struct auth_roles *roles, const char *name)
{
    bool found;
    size_t at = place(roles->items, roles->len, sizeof *roles->items, name, &found);
    KP_ASSERT(!found);
    if (roles->len == roles->cap) {
        roles->cap = roles->cap ? roles->cap * 2 : 8;
        roles->items = kp_realloc(roles->items, roles->cap * sizeof *roles->items);
    }
    memmove(&roles->items[at + 1], &roles->items[at], (roles->len - at) * sizeof *roles->items);
    roles->len++;
    roles->items[at] = (struct auth_role){.name = kp_strdup(name)};
    return &roles->items[at];
}

static void user_done(struct auth_user *user)
{
    free(user->name);
    if (user->hash)
        explicit_bzero(user->hash, strlen(user->hash));
    free(user->hash);
    kp_strings_done(&user->roles);
    permission_set_done(&user->read);
    permission_set_done(&user->write);
}

static void role_done(struct auth_role *role)
{
    free(role->name);
    for (size_t i = 0; i < role->len; i++) {
        free((void *)(uintptr_t)role->permissions[i].key.data);
        free((void *)(uintptr_t)role->permissions[i].range_end.data);
    }
    free(role->permissions);
}

void user_remove(struct auth_users *users, struct auth_user *user)
{
    size_t at = (size_t)(user - users->items);
    user_done(user);
    users->len--;
    memmove(&users->items[at], &users->items[at + 1], (users->len - at) * sizeof *users->items);
}

void role_remove(struct auth_roles *roles, struct auth_role *role)
{
    size_t at = (size_t)(role - roles->items);
    role_done(role);
    roles->len--;
    memmove(&roles->items[at], &roles->items[at + 1], (roles->len - at) * sizeof *roles->items);
}

bool role_list_has(const struct kp_strings *roles, const char *role)
{
    for (size_t i = 0; i < roles->len; i++)
        if (strcmp(roles->items[i], role) == 0)
            return true;
    return false;
}

void user_refresh(const struct auth_roles *roles, struct auth_user *user)
{
    permission_set_done(&user->read);
    permission_set_done(&user->write);
    for (size_t i = 0; i < user->roles.len; i++) {
        const struct auth_role *role = role_find(roles, user->roles.items[i]);
        for (size_t j = 0; role && j < role->len; j++) {
            const struct auth_permission *permission = &role->permissions[j];
            if (permission->access != AUTH_WRITE)
                permission_set_add(&user->read, permission->key, permission->range_end);
            if (permission->access != AUTH_READ)
                permission_set_add(&user->write, permission->key, permission->range_end);
        }
    }
    permission_set_merge(&user->read);
    permission_set_merge(&user->write);
}

void users_done(struct auth_users *users)
{
    for (size_t i = 0; i < users->len; i++)
        user_done(&users->items[i]);
    free(users->items);
    *users = (struct auth_users){0};
}

void roles_done(struct auth_roles *roles)
{
    for (size_t i = 0; i < roles->len; i++)
        role_done(&roles->items[i]);
    free(roles->items);
    *roles = (struct auth_roles){0};
}
