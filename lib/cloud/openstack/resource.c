/* What Neutron has of a cluster: found by tag. A tag can be set only on what exists, so the description has the mark from the first moment,
   and what a killed run left without tags is found by that and given its tags. */
#include "cloud/openstack/openstack_internal.h"

const struct os_kind os_networks = {"network", "network", "networks"};
const struct os_kind os_subnets = {"subnet", "subnet", "subnets"};
const struct os_kind os_routers = {"router", "router", "routers"};
const struct os_kind os_groups = {"security group", "security_group", "security-groups"};
const struct os_kind os_ports = {"port", "port", "ports"};
const struct os_kind os_floating = {"floating address", "floatingip", "floatingips"};

const char *os_name(const char *uid, const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "kprov-%.8s-%s", uid, name);
}

const char *os_plural(const struct os_kind *kind, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%ss", kind->key);
}

void os_add_once(struct kp_strings *strings, const char *s)
{
    for (size_t i = 0; i < strings->len; i++)
        if (kp_streq(strings->items[i], s))
            return;
    kp_strings_add(strings, s);
}

const char *os_tag_value(const json_t *resource, const char *prefix, struct kp_arena *arena)
{
    const json_t *tags = rest_json_at(resource, "tags");
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        if (tag && kp_starts_with(tag, prefix))
            return kp_arena_strdup(arena, tag + strlen(prefix));
    }
    return "";
}

const char *os_uid_of(const json_t *resource, struct kp_arena *arena)
{
    const char *uid = os_tag_value(resource, OS_CLUSTER_TAG, arena), *description = rest_json_text(resource, "description");
    return *uid || !kp_starts_with(description, OS_CLUSTER_TAG) ? uid : kp_arena_strdup(arena, description + strlen(OS_CLUSTER_TAG));
}

static const char *operation(const struct os_kind *kind, const char *verb, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s.%s", kind->path, verb);
}

/* Names of operations live as long as the process where they are labels: kp_metric copies label values. */
static int list(struct os *os, const struct os_kind *kind, const char *query, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    return os_list(os, operation(kind, "list", arena), OS_NETWORK, kp_arena_printf(arena, "/%s?%s", kind->path, query), os_plural(kind, arena), ret, error);
}

int os_tag(struct os *os, const struct os_kind *kind, const char *id, const struct kp_strings *tags, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    json_t *values = json_array();
    for (size_t i = 0; i < tags->len; i++)
        json_array_append_new(values, json_string(tags->items[i]));
    return os_send(os, operation(kind, "tag", arena), OS_NETWORK, "PUT", kp_arena_printf(arena, "/%s/%s/tags", kind->path, id), json_pack("{s:o}", "tags", values), NULL,
                   error);
}

static int tag_as_ours(struct os *os, const struct os_kind *kind, const char *id, const char *uid, const char *name, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings tags = {0};
    kp_strings_add(&tags, kp_arena_printf(arena, OS_CLUSTER_TAG "%s", uid));
    kp_strings_add(&tags, kp_arena_printf(arena, OS_NAME_TAG "%s", name));
    int r = os_tag(os, kind, id, &tags, error);
    kp_strings_done(&tags);
    return r < 0 ? kp_wrap(error, "tag %s %s", kind->name, name) : 0;
}

int os_find(struct os *os, const struct os_kind *kind, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *tagged = NULL, *described = NULL;
    *ret = NULL;
    int r = list(os, kind, kp_arena_printf(arena, "tags=" "kprov-cluster%%3D%s,kprov-name%%3D%s", os_escape(uid, arena), os_escape(name, arena)), arena, &tagged, error);
    if (r < 0)
        return r;
    if (json_array_size(tagged)) {
        *ret = json_incref(json_array_get(tagged, 0));
        return 0;
    }
    const char *query = kp_arena_printf(arena, "description=kprov-cluster%%3D%s&name=%s", os_escape(uid, arena), os_escape(os_name(uid, name, arena), arena));
    r = list(os, kind, query, arena, &described, error);
    for (size_t i = 0; r == 0 && i < json_array_size(described); i++) {
        json_t *item = json_array_get(described, i);
        if (*os_tag_value(item, OS_NAME_TAG, arena) || !kp_streq(rest_json_text(item, "name"), os_name(uid, name, arena)))
            continue;
        r = tag_as_ours(os, kind, rest_json_text(item, "id"), uid, name, arena, error);
        if (r == 0)
            *ret = json_incref(item);
        break;
    }
    return r;
}

int os_ensure(struct os *os, const struct os_kind *kind, const char *uid, const char *name, json_t *attributes, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *wanted = attributes, *answer = NULL;
    int r = os_find(os, kind, uid, name, ret, error);
    if (r < 0 || *ret)
        return r;
    if (kind != &os_floating)
        json_object_set_new(wanted, "name", json_string(os_name(uid, name, arena)));
    json_object_set_new(wanted, "description", json_string(kp_arena_printf(arena, OS_CLUSTER_TAG "%s", uid)));
    r = os_send(os, operation(kind, "create", arena), OS_NETWORK, "POST", kp_arena_printf(arena, "/%s", kind->path), json_pack("{s:O}", kind->key, wanted), &answer, error);
    if (r < 0)
        return kp_wrap(error, "%s %s", kind->name, name);
    json_t *made = json_object_get(answer, kind->key);
    const char *id = os_text(made, "id", arena);
    if (!*id)
        return kp_fail(error, KP_ECORRUPT, "%s %s: Neutron made one and did not tell its id", kind->name, name);
    r = tag_as_ours(os, kind, id, uid, name, arena, error);
    if (r == 0)
        *ret = json_incref(made);
    return r;
}

static bool has_id(const json_t *items, const char *id)
{
    for (size_t i = 0; i < json_array_size(items); i++)
        if (kp_streq(rest_json_text(json_array_get(items, i), "id"), id))
            return true;
    return false;
}

static int all_of_project(struct os *os, const struct os_kind *kind, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    const char *token = NULL; /* the project is known after logging in */
    int r = os_token(os, NULL, arena, &token, error);
    return r < 0 ? r : list(os, kind, kp_arena_printf(arena, "project_id=%s", os_escape(os->project_id, arena)), arena, ret, error);
}

int os_owned_list(struct os *os, const struct os_kind *kind, const char *uid, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *tagged = NULL, *described = NULL;
    if (!uid)
        return all_of_project(os, kind, arena, ret, error);
    int r = list(os, kind, kp_arena_printf(arena, "tags=kprov-cluster%%3D%s", os_escape(uid, arena)), arena, &tagged, error);
    if (r == 0)
        r = list(os, kind, kp_arena_printf(arena, "description=kprov-cluster%%3D%s", os_escape(uid, arena)), arena, &described, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_array_size(described); i++) {
        json_t *item = json_array_get(described, i);
        if (!has_id(tagged, rest_json_text(item, "id")) && kp_streq(os_uid_of(item, arena), uid))
            json_array_append(tagged, item);
    }
    *ret = KP_TAKE(tagged);
    return 0;
}

int os_remove(struct os *os, const struct os_kind *kind, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = os_delete(os, operation(kind, "delete", arena), OS_NETWORK, kp_arena_printf(arena, "/%s/%s", kind->path, os_escape(id, arena)), error);
    return r < 0 ? kp_wrap(error, "delete %s %s", kind->name, id) : 0;
}
