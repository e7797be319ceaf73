/* Users and roles as the database has them: etcd's buckets, keys and records. */
#include "controlplane/etcd/auth/auth_internal.h"
#include "proto/auth.pb-c.h"

#define KEY_ENABLED "authEnabled"   /* one byte, 1 or 0 */
#define KEY_REVISION "authRevision" /* eight bytes, big endian */

static ProtobufCBinaryData data_of(const void *bytes, size_t len)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)bytes, .len = len};
}

static void put(struct backend *backend, enum backend_bucket bucket, const char *name, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    KP_AUTO_FREE uint8_t *bytes = kp_malloc(len + 1);
    protobuf_c_message_pack(message, bytes);
    backend_put(backend, bucket, name, strlen(name), bytes, len);
}

void record_put_user(struct backend *backend, const struct auth_user *user)
{
    Authpb__UserAddOptions options = AUTHPB__USER_ADD_OPTIONS__INIT;
    Authpb__User record = AUTHPB__USER__INIT;
    options.no_password = user->no_password;
    record.name = data_of(user->name, strlen(user->name));
    if (user->hash)
        record.password = data_of(user->hash, strlen(user->hash));
    record.n_roles = user->roles.len;
    record.roles = user->roles.items;
    record.options = &options;
    put(backend, BACKEND_AUTH_USERS, user->name, &record.base);
}

void record_put_role(struct backend *backend, const struct auth_role *role)
{
    Authpb__Role record = AUTHPB__ROLE__INIT;
    Authpb__Permission *items = kp_calloc(role->len + 1, sizeof *items);
    Authpb__Permission **pointers = kp_calloc(role->len + 1, sizeof *pointers);
    for (size_t i = 0; i < role->len; i++) {
        const struct auth_permission *permission = &role->permissions[i];
        authpb__permission__init(&items[i]);
        items[i].permtype = (Authpb__Permission__Type)permission->access;
        items[i].key = data_of(permission->key.data, permission->key.len);
        items[i].range_end = data_of(permission->range_end.data, permission->range_end.len);
        pointers[i] = &items[i];
    }
    record.name = data_of(role->name, strlen(role->name));
    record.n_keypermission = role->len;
    record.keypermission = pointers;
    put(backend, BACKEND_AUTH_ROLES, role->name, &record.base);
    free(pointers);
    free(items);
}

void record_put_enabled(struct backend *backend, bool enabled)
{
    uint8_t value = enabled;
    backend_put(backend, BACKEND_AUTH, KEY_ENABLED, strlen(KEY_ENABLED), &value, sizeof value);
}

void record_put_revision(struct backend *backend, uint64_t revision)
{
    uint8_t value[8];
    for (int i = 0; i < 8; i++)
        value[i] = (uint8_t)(revision >> (56 - 8 * i));
    backend_put(backend, BACKEND_AUTH, KEY_REVISION, strlen(KEY_REVISION), value, sizeof value);
}

struct loading {
    struct auth_users *users;
    struct auth_roles *roles;
    bool bad;
};

static char *text_of(ProtobufCBinaryData data) { return kp_strndup((const char *)data.data, data.len); }

static bool load_user(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct loading *loading = ctx;
    Authpb__User *record = authpb__user__unpack(NULL, value.len, value.data);
    if (!record || record->name.len == 0 || record->name.len > AUTH_NAME_MAX) {
        loading->bad = true;
    } else {
        KP_AUTO_FREE char *name = text_of(record->name);
        struct auth_user *user = user_insert(loading->users, name);
        user->no_password = record->options && record->options->no_password;
        user->hash = record->password.len ? text_of(record->password) : NULL;
        for (size_t i = 0; i < record->n_roles; i++)
            kp_strings_add(&user->roles, record->roles[i]);
    }
    if (record)
        authpb__user__free_unpacked(record, NULL);
    return !loading->bad;
}

static bool load_role(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct loading *loading = ctx;
    Authpb__Role *record = authpb__role__unpack(NULL, value.len, value.data);
    if (!record || record->name.len == 0 || record->name.len > AUTH_NAME_MAX) {
        loading->bad = true;
    } else {
        KP_AUTO_FREE char *name = text_of(record->name);
        struct auth_role *role = role_insert(loading->roles, name);
        role->permissions = kp_calloc(record->n_keypermission + 1, sizeof *role->permissions);
        role->len = record->n_keypermission;
        for (size_t i = 0; i < role->len; i++) {
            const Authpb__Permission *permission = record->keypermission[i];
            role->permissions[i] = (struct auth_permission){
                .access = (enum auth_access)permission->permtype,
                .key = bytes_copy((struct kp_bytes){permission->key.data, permission->key.len}),
                .range_end = bytes_copy((struct kp_bytes){permission->range_end.data, permission->range_end.len})};
        }
    }
    if (record)
        authpb__role__free_unpacked(record, NULL);
    return !loading->bad;
}

static int load_marks(struct backend_reader *reader, bool *ret_enabled, uint64_t *ret_revision, struct kp_error *error)
{
    struct kp_bytes value;
    *ret_enabled = false;
    *ret_revision = 1; /* of a store where nothing was ever configured */
    int rc = backend_reader_get(reader, BACKEND_AUTH, KEY_ENABLED, strlen(KEY_ENABLED), &value, error);
    if (rc < 0 && rc != KP_ENOTFOUND)
        return rc;
    if (rc == 0)
        *ret_enabled = value.len == 1 && value.data[0] == 1;
    rc = backend_reader_get(reader, BACKEND_AUTH, KEY_REVISION, strlen(KEY_REVISION), &value, error);
    if (rc == KP_ENOTFOUND)
        return 0;
    if (rc == 0 && value.len != 8)
        return kp_fail(error, KP_ECORRUPT, "%s is %zu bytes long", KEY_REVISION, value.len);
    uint64_t revision = 0;
    for (int i = 0; rc == 0 && i < 8; i++)
        revision = revision << 8 | value.data[i];
    if (rc == 0 && revision)
        *ret_revision = revision;
    return rc;
}

int records_load(struct backend *backend, struct auth_users *users, struct auth_roles *roles, bool *ret_enabled,
                 uint64_t *ret_revision, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct loading loading = {.users = users, .roles = roles};
    int rc = backend_reader_begin(backend, &reader, error);
    if (rc < 0 || (rc = load_marks(reader, ret_enabled, ret_revision, error)) < 0 ||
        (rc = backend_reader_each(reader, BACKEND_AUTH_USERS, load_user, &loading, error)) < 0 ||
        (rc = backend_reader_each(reader, BACKEND_AUTH_ROLES, load_role, &loading, error)) < 0)
        return kp_wrap(error, "users and roles");
    if (loading.bad)
        return kp_fail(error, KP_ECORRUPT, "a user's or role's record is unreadable");
    if (error)
        *error = (struct kp_error){0}; /* what was not found is no failure */
    for (size_t i = 0; i < users->len; i++)
        user_refresh(roles, &users->items[i]);
    return 0;
}
