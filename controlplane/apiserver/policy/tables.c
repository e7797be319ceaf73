/* Policies and bindings, kept compiled and in order of their names. */
#include "controlplane/apiserver/policy/policy_internal.h"

static const char *name_of(const struct policy_table *table, const void *item)
{
    return table->bindings ? ((const struct policy_binding *)item)->name : ((const struct policy *)item)->name;
}

static void unref(const struct policy_table *table, void *item)
{
    if (table->bindings)
        policy_binding_unref(item);
    else
        policy_unref(item);
}

static void *ref(const struct policy_table *table, void *item)
{
    __atomic_add_fetch(table->bindings ? &((struct policy_binding *)item)->refs : &((struct policy *)item)->refs, 1, __ATOMIC_RELAXED);
    return item;
}

/* new NULL: takes it out. Gives what was there before. */
static void *exchange(struct policy_table *table, const char *name, void *new)
{
    size_t at = 0;
    void *old = NULL;
    while (at < table->len && strcmp(name_of(table, table->items[at]), name) < 0)
        at++;
    bool there = at < table->len && strcmp(name_of(table, table->items[at]), name) == 0;
    if (there)
        old = table->items[at];
    if (new && !there) {
        if (table->len == table->cap) {
            table->cap = table->cap ? table->cap * 2 : 8;
            table->items = kp_realloc(table->items, table->cap * sizeof(void *));
        }
        memmove(&table->items[at + 1], &table->items[at], (table->len - at) * sizeof(void *));
        table->len++;
    } else if (!new && there) {
        table->len--;
        memmove(&table->items[at], &table->items[at + 1], (table->len - at) * sizeof(void *));
    }
    if (new)
        table->items[at] = new;
    return old;
}

static void on_change(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct policy_table *table = arg;
    const struct kp_type *type = table->bindings ? &k8s_validating_admission_policy_binding_type : &k8s_validating_admission_policy_type;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *decoded = NULL, *new = NULL;
    const char *key = object ? object->key : old->key;
    if (object && kp_json_decode(type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0) {
        kp_error_log("a policy or its binding cannot be read: what it was before stays in force", "name", key, "error", error.message, NULL);
        return;
    }
    if (object)
        new = table->bindings ? (void *)policy_binding_new(decoded) : (void *)policy_new(decoded);
    pthread_mutex_lock(&table->policies->mutex);
    void *gone = exchange(table, key, new);
    if (table->bindings)
        __atomic_store_n(&table->policies->count, table->len, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table->policies->mutex);
    unref(table, gone);
}

void policy_tables_follow(struct policies *policies)
{
    static const char group[] = "admissionregistration.k8s.io";
    policies->table = (struct policy_table){.policies = policies};
    policies->bindings = (struct policy_table){.policies = policies, .bindings = true};
    wcache_listen(wcache_find(policies->config.caches, group, "validatingadmissionpolicies"), on_change, &policies->table);
    wcache_listen(wcache_find(policies->config.caches, group, "validatingadmissionpolicybindings"), on_change, &policies->bindings);
}

void policy_tables_done(struct policies *policies)
{
    struct policy_table *const tables[] = {&policies->table, &policies->bindings};
    for (size_t t = 0; t < KP_ARRAY_LEN(tables); t++) {
        for (size_t i = 0; i < tables[t]->len; i++)
            unref(tables[t], tables[t]->items[i]);
        free(tables[t]->items);
    }
}

struct policy_hook *policy_hooks_take(struct policies *policies, struct kp_arena *arena, size_t *ret_count)
{
    size_t count = 0;
    pthread_mutex_lock(&policies->mutex);
    struct policy_hook *hooks = KP_NEW_ARRAY(arena, struct policy_hook, policies->bindings.len + 1);
    for (size_t p = 0; p < policies->table.len; p++)
        for (size_t b = 0; b < policies->bindings.len; b++) {
            const struct policy_binding *binding = policies->bindings.items[b];
            if (!kp_streq(binding->source->spec->policy_name, name_of(&policies->table, policies->table.items[p])))
                continue;
            hooks[count++] = (struct policy_hook){.policy = ref(&policies->table, policies->table.items[p]), .binding = ref(&policies->bindings, policies->bindings.items[b])};
        }
    pthread_mutex_unlock(&policies->mutex);
    *ret_count = count;
    return hooks;
}

void policy_hooks_done(struct policy_hook *hooks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        policy_unref(hooks[i].policy);
        policy_binding_unref(hooks[i].binding);
    }
}
