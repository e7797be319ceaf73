/* Server-side apply and managed fields: who owns which field, conflicts, and the removal of what an applier gave up
 * (structured-merge-diff's merge.Updater). */
#include "controlplane/apiserver/patch/patch_internal.h"

#define APPLY_MANAGERS_MAX 1000

/* One entry of metadata.managedFields, with its set as a tree. */
struct manager {
    const char *name, *operation, *api_version, *subresource;
    struct kp_time time;
    struct kp_value *set;
};

struct managers {
    struct manager *items;
    size_t len;
};

static struct managers read_managers(const struct k8s_object_meta *meta, struct kp_arena *arena)
{
    struct managers managers = {0};
    for (size_t i = 0; i < meta->managed_fields.len && i < APPLY_MANAGERS_MAX; i++) {
        const struct k8s_managed_fields_entry *entry = &meta->managed_fields.items[i];
        struct kp_value *set = NULL;
        if (!entry->fields_v1.json || kp_value_parse(entry->fields_v1.json, entry->fields_v1.len, arena, NULL, &set, NULL) < 0 ||
            set->kind != KP_VALUE_OBJECT || kp_empty(entry->operation))
            continue;
        *KP_LIST_ADD(arena, &managers) = (struct manager){entry->manager ? entry->manager : "", entry->operation, entry->api_version,
                                                          entry->subresource ? entry->subresource : "", entry->time, set};
    }
    return managers;
}

/* Appliers first, then by time and name, as upstream orders them. */
static int compare_managers(const void *a, const void *b)
{
    const struct manager *m = a, *n = b;
    int by_operation = strcmp(m->operation, n->operation);
    if (by_operation)
        return by_operation;
    if (m->time.seconds != n->time.seconds)
        return m->time.seconds < n->time.seconds ? -1 : 1;
    int by_name = strcmp(m->name, n->name);
    return by_name ? by_name : strcmp(m->subresource, n->subresource);
}

static void write_managers(struct k8s_object_meta *meta, const struct managers *managers, struct kp_arena *arena)
{
    memset(&meta->managed_fields, 0, sizeof(meta->managed_fields));
    if (managers->len > 1)
        qsort(managers->items, managers->len, sizeof(*managers->items), compare_managers);
    for (size_t i = 0; i < managers->len; i++) {
        const struct manager *m = &managers->items[i];
        KP_AUTO_BUF struct kp_buf json = {0};
        if (fields_empty(m->set))
            continue;
        kp_value_print_sorted(m->set, &json);
        struct k8s_managed_fields_entry *entry = KP_LIST_ADD(arena, &meta->managed_fields);
        entry->manager = m->name;
        entry->operation = m->operation;
        entry->api_version = m->api_version;
        entry->subresource = kp_empty(m->subresource) ? NULL : m->subresource;
        entry->time = m->time;
        entry->fields_type = "FieldsV1";
        entry->fields_v1 = (struct kp_raw){kp_arena_strdup(arena, json.data), json.len};
    }
}

static struct manager *find(struct managers *managers, const char *name, const char *operation, const char *subresource)
{
    for (size_t i = 0; i < managers->len; i++) {
        struct manager *m = &managers->items[i];
        if (kp_streq(m->name, name) && kp_streq(m->operation, operation) && kp_streq(m->subresource, subresource))
            return m;
    }
    return NULL;
}

static struct manager *need(struct managers *managers, const char *name, const char *operation, const char *subresource, const char *api_version,
                            struct kp_arena *arena)
{
    struct manager *m = find(managers, name, operation, subresource);
    if (m)
        return m;
    m = KP_LIST_ADD(arena, managers);
    *m = (struct manager){.name = name, .operation = operation, .subresource = subresource, .api_version = api_version, .set = kp_value_object(arena)};
    return m;
}

static const char *api_version_of(const struct kp_type *type, struct kp_arena *arena)
{
    char text[KP_API_VERSION_MAX];
    return kp_arena_strdup(arena, kp_type_api_version(type, text));
}

static struct kp_value *stripped(const struct kp_type *type, const void *obj, struct kp_arena *arena)
{
    const struct patch_node node = patch_node_of_type(type);
    struct kp_value *tree = kp_value_from_object(type, obj, arena);
    fields_strip(tree);
    fields_canonical(&node, tree, arena);
    return tree;
}

/* What a write through this endpoint cannot set is nobody's by it: status by the object, spec by its status. */
static void drop_unset(const struct kp_type *type, const char *subresource, struct kp_value *tree)
{
    const struct kp_resource *resource = type->kind ? kp_resource_find_kind(type->group, type->version, type->kind) : NULL;
    if (!resource || !kp_subresource_find(resource, "status"))
        return;
    if (kp_empty(subresource))
        kp_value_remove(tree, "status");
    else if (strcmp(subresource, "status") == 0)
        kp_value_remove(tree, "spec");
}

void patch_managed_fields_update(const struct kp_type *type, const void *old, void *obj, const char *name, const char *subresource,
                                 int64_t now_s, struct kp_arena *arena)
{
    struct k8s_object_meta *meta = kp_object_meta(type, obj);
    if (!meta || kp_empty(name))
        return;
    const struct patch_node node = patch_node_of_type(type);
    struct managers managers = read_managers(old ? kp_object_meta(type, old) : meta, arena);
    struct kp_value *new_tree = stripped(type, obj, arena), *old_tree = stripped(type, old ? old : kp_object_new(type, arena), arena);
    struct kp_value *new_set = kp_value_clone(new_tree, arena);
    drop_unset(type, subresource, new_set);
    struct kp_value *changed = fields_changed(&node, old_tree, new_set, arena);
    if (!fields_empty(changed)) {
        struct manager *own = need(&managers, name, "Update", subresource ? subresource : "", api_version_of(type, arena), arena);
        own->set = fields_union(own->set, changed, arena);
        own->time = KP_TIME_OF(now_s);
        own->api_version = api_version_of(type, arena);
    }
    for (size_t i = 0; i < managers.len; i++) { /* a changed field has a new owner; what is gone has none */
        struct manager *m = &managers.items[i];
        bool self = kp_streq(m->name, name) && kp_streq(m->operation, "Update") && kp_streq(m->subresource, subresource ? subresource : "");
        if (!self)
            m->set = fields_minus(m->set, changed, arena);
        m->set = fields_present(m->set, &node, new_tree, arena);
    }
    write_managers(meta, &managers, arena);
}

/* ---- merging an applied configuration ------------------------------------------------------------------------------------- */
static struct kp_value *merge(const struct patch_node *node, struct kp_value *current, const struct kp_value *config, struct kp_arena *arena);

/* Where the first element of config from `at` on that current has as well is in current; -1: there is none. */
static int next_shared(const struct patch_node *node, const struct kp_value *current, const struct kp_value *config, size_t at)
{
    int found = -1;
    for (; at < config->array.len && found < 0; at++)
        found = patch_find_element(node, current, config->array.items[at]);
    return found;
}

/* Applied elements keep their order among themselves, and those that are others' alone come before what they are followed by
   (structured-merge-diff, typed/merge.go). */
static struct kp_value *merge_list(const struct patch_node *node, struct kp_value *current, const struct kp_value *config, struct kp_arena *arena)
{
    const struct patch_node element = patch_node_of_element(node);
    struct kp_value *result = kp_value_array(arena);
    size_t l = 0;
    for (size_t i = 0; i < config->array.len; i++) {
        int at = patch_find_element(node, current, config->array.items[i]), shared = next_shared(node, current, config, i);
        for (; l < current->array.len; l++) {
            bool others = patch_find_element(node, config, current->array.items[l]) < 0;
            if (others)
                kp_value_append(arena, result, current->array.items[l]);
            else if ((int)l == at || (int)l == shared || shared < 0)
                break;
        }
        l += l < current->array.len && (int)l == at;
        kp_value_append(arena, result, merge(&element, at >= 0 ? current->array.items[at] : NULL, config->array.items[i], arena));
    }
    for (; l < current->array.len; l++)
        if (patch_find_element(node, config, current->array.items[l]) < 0)
            kp_value_append(arena, result, current->array.items[l]);
    return result;
}

static struct kp_value *merge(const struct patch_node *node, struct kp_value *current, const struct kp_value *config, struct kp_arena *arena)
{
    bool list = node->kind == PATCH_LIST;
    if (node->atomic || node->kind == PATCH_SCALAR || !current || current->kind != config->kind ||
        (list ? config->kind != KP_VALUE_ARRAY : config->kind != KP_VALUE_OBJECT))
        return kp_value_clone(config, arena);
    if (!list) {
        for (size_t i = 0; i < config->object.len; i++) {
            const struct kp_member *member = &config->object.members[i];
            const struct patch_node sub = patch_node_of_member(node, member->key);
            kp_value_set(arena, current, member->key, merge(&sub, kp_value_get(current, member->key), member->value, arena));
        }
        return current;
    }
    return merge_list(node, current, config, arena);
}

static void sort_paths(struct kp_string_list *paths)
{
    for (size_t i = 1; i < paths->len; i++)
        for (size_t k = i; k > 0 && strcmp(paths->items[k - 1], paths->items[k]) > 0; k--) {
            const char *swap = paths->items[k];
            paths->items[k] = paths->items[k - 1];
            paths->items[k - 1] = swap;
        }
}

/* 409 as upstream writes it: one cause a field, and the message grouped by manager. */
static int conflict(struct api_status *status, const struct managers *managers, struct kp_value *const *conflicts, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_string_list all = {0};
    const char *one = "";
    size_t total = 0;
    for (size_t i = 0; i < managers->len; i++) {
        struct kp_string_list paths = {0};
        if (fields_empty(conflicts[i]))
            continue;
        fields_paths(conflicts[i], arena, &paths);
        sort_paths(&paths);
        total += paths.len;
        const struct manager *m = &managers->items[i];
        bool applier = kp_streq(m->operation, "Apply"); /* appliers are told apart by name alone */
        const char *who = kp_arena_printf(arena, "\"%s\"%s%s%s%s%s", m->name, kp_empty(m->subresource) ? "" : " with subresource \"",
                                          m->subresource, kp_empty(m->subresource) ? "" : "\"", applier ? "" : " using ", applier ? "" : m->api_version);
        kp_buf_printf(&text, "%sconflicts with %s:", text.len ? "\n" : "", who);
        one = kp_arena_printf(arena, "conflict with %s: %s", who, paths.items[0]);
        for (size_t k = 0; k < paths.len; k++) {
            kp_buf_printf(&text, "\n- %s", paths.items[k]);
            kp_string_list_add(arena, &all, kp_arena_printf(arena, "conflict with %s", who));
            kp_string_list_add(arena, &all, paths.items[k]);
        }
    }
    status_fail(status, KP_ECONFLICT, 409, "Conflict", "Apply failed with %zu conflict%s: %s", total, total > 1 ? "s" : "",
                total > 1 ? text.data : one);
    for (size_t i = 0; i + 1 < all.len; i += 2)
        status_add_cause(status, "FieldManagerConflict", all.items[i], all.items[i + 1]);
    return status->code;
}

static int check_config(const struct kp_type *type, const struct patch_request *request, const struct kp_value *config, struct kp_arena *arena,
                        struct api_status *status)
{
    const char *api_version = kp_value_str(kp_value_get(config, "apiVersion")), *kind = kp_value_str(kp_value_get(config, "kind"));
    const struct kp_value *managed = kp_value_path(config, "metadata", "managedFields", NULL);
    if (kp_empty(request->field_manager))
        return status_fail(status, KP_EINVALID, 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch");
    if (kp_empty(api_version) || kp_empty(kind))
        return status_bad_request(status, "apiVersion and kind must be set in an applied configuration");
    if (!kp_streq(kind, type->kind) || !kp_streq(api_version, api_version_of(type, arena)))
        return status_bad_request(status, "the applied configuration is a %s of %s, the resource a %s of %s", kind, api_version, type->kind,
                                  api_version_of(type, arena));
    if (managed && managed->kind != KP_VALUE_NULL)
        return status_bad_request(status, "metadata.managedFields must be nil");
    return 0;
}

int apply_server_side(const struct kp_type *type, const struct patch_request *request, struct kp_value *current, struct kp_value *config,
                      struct kp_arena *arena, struct kp_value **ret, struct api_status *status)
{
    const struct patch_node node = patch_node_of_type(type);
    const char *subresource = request->subresource ? request->subresource : "", *api_version = api_version_of(type, arena);
    struct kp_error error = {0};
    void *typed = NULL;
    if (check_config(type, request, config, arena, status) < 0)
        return status->code;
    if (kp_value_to_object(type, config, arena, NULL, &typed, &error) < 0)
        return status_bad_request(status, "failed to create typed patch object: %s", error.message);
    struct kp_value *live = current ? current : kp_value_from_object(type, kp_object_new(type, arena), arena);
    void *live_obj;
    if (kp_value_to_object(type, live, arena, NULL, &live_obj, &error) < 0)
        return status_internal(status, "%s", error.message);
    struct managers managers = read_managers(kp_object_meta(type, live_obj), arena);
    fields_canonical(&node, live, arena);
    fields_canonical(&node, config, arena);
    drop_unset(type, subresource, config);
    struct kp_value *config_bare = kp_value_clone(config, arena), *live_bare = kp_value_clone(live, arena);
    fields_strip(config_bare);
    fields_strip(live_bare);
    struct kp_value *applied = fields_of(&node, config_bare, arena);
    struct kp_value *merged = merge(&node, kp_value_clone(live, arena), config, arena);
    struct kp_value *merged_bare = kp_value_clone(merged, arena);
    fields_strip(merged_bare);

    /* Conflicts: fields of others that this would set to something else. */
    struct kp_value *would_change = fields_and(applied, fields_changed(&node, live_bare, merged_bare, arena), arena);
    struct kp_value **conflicts = KP_NEW_ARRAY(arena, struct kp_value *, managers.len + 1);
    bool any = false;
    for (size_t i = 0; i < managers.len; i++) {
        struct manager *m = &managers.items[i];
        bool self = kp_streq(m->name, request->field_manager) && kp_streq(m->operation, "Apply") && kp_streq(m->subresource, subresource);
        conflicts[i] = self ? kp_value_object(arena) : fields_and(m->set, would_change, arena);
        any |= !fields_empty(conflicts[i]);
    }
    if (any && !request->force)
        return conflict(status, &managers, conflicts, arena);
    for (size_t i = 0; i < managers.len; i++)
        managers.items[i].set = fields_minus(managers.items[i].set, conflicts[i], arena);

    /* What this manager applied before and no longer does goes, unless another owns it too. */
    struct manager *own = need(&managers, request->field_manager, "Apply", subresource, api_version, arena);
    struct kp_value *given_up = fields_minus(own->set, applied, arena), *kept = applied;
    for (size_t i = 0; i < managers.len; i++)
        if (&managers.items[i] != own) {
            given_up = fields_minus(given_up, managers.items[i].set, arena);
            kept = fields_union(kept, managers.items[i].set, arena);
        }
    fields_remove(given_up, kept, &node, merged, arena);
    bool changed = !current || !kp_value_equal(own->set, applied) || !kp_value_equal(merged, live);
    own->set = applied;
    own->api_version = api_version;
    if (changed || !own->time.set)
        own->time = KP_TIME_OF(request->now_s);

    void *result;
    if (kp_value_to_object(type, merged, arena, NULL, &result, &error) < 0)
        return status_bad_request(status, "%s", error.message);
    merged = stripped(type, result, arena); /* what the schema does not know has fallen away */
    for (size_t i = 0; i < managers.len; i++)
        managers.items[i].set = fields_present(managers.items[i].set, &node, merged, arena);
    write_managers(kp_object_meta(type, result), &managers, arena);
    *ret = kp_value_from_object(type, result, arena);
    return 0;
}
