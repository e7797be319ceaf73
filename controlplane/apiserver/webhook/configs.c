/* The webhook configurations, kept decoded and in order of their names. */
#include "controlplane/apiserver/webhook/webhook_internal.h"

static const struct {
    const char *resource;
    const struct kp_type *type;
} kinds[WEBHOOK_TYPES] = {
    [WEBHOOK_MUTATING] = {"mutatingwebhookconfigurations", &k8s_mutating_webhook_configuration_type},
    [WEBHOOK_VALIDATING] = {"validatingwebhookconfigurations", &k8s_validating_webhook_configuration_type},
};

/* ---- one configuration ------------------------------------------------------------------------------------------------------------ */
static const char *known_version(const struct kp_string_list *versions)
{
    for (size_t i = 0; i < versions->len; i++) {
        if (strcmp(versions->items[i], "v1") == 0)
            return "v1";
        if (strcmp(versions->items[i], "v1beta1") == 0)
            return "v1beta1";
    }
    return NULL;
}

static bool is_on(const char *value, const char *wanted)
{
    return value && strcmp(value, wanted) == 0;
}

static void read_rules(struct kp_arena *arena, const struct k8s_rule_with_operations_items *rules, struct extension_match *match)
{
    match->n_rules = rules->len;
    match->rules = KP_NEW_ARRAY(arena, struct extension_rule, KP_MAX(rules->len, (size_t)1));
    for (size_t i = 0; i < rules->len; i++) {
        const struct k8s_rule_with_operations *rule = &rules->items[i];
        match->rules[i] = (struct extension_rule){.operations = &rule->operations, .groups = &rule->api_groups, .versions = &rule->api_versions,
                                                  .resources = &rule->resources, .scope = rule->scope};
    }
}

/* The two kinds of webhook have the same members in different structs. */
#define READ_HOOK(hook, source)                                                                                                                          \
    do {                                                                                                                                                 \
        (hook)->name = (source)->name;                                                                                                                   \
        (hook)->client = (source)->client_config;                                                                                                        \
        read_rules(arena, &(source)->rules, &(hook)->match);                                                                                             \
        (hook)->timeout_s = (source)->has_timeout_seconds ? (source)->timeout_seconds : WEBHOOK_TIMEOUT_S_DEFAULT;                                       \
        (hook)->ignore_failure = is_on((source)->failure_policy, "Ignore");                                                                              \
        (hook)->match.exact = is_on((source)->match_policy, "Exact");                                                                                          \
        (hook)->dry_run_allowed = is_on((source)->side_effects, "None") || is_on((source)->side_effects, "NoneOnDryRun");                                \
        (hook)->review_version = known_version(&(source)->admission_review_versions);                                                                    \
        extension_selector(arena, (source)->namespace_selector, (source)->name, &(hook)->match.namespaces);                                              \
        extension_selector(arena, (source)->object_selector, (source)->name, &(hook)->match.objects);                                                    \
        extension_conditions_compile(&(source)->match_conditions, extension_environment(arena, false, NULL), arena, &(hook)->conditions);                \
    } while (0)

static void read_mutating(struct webhook_config *config, const struct k8s_mutating_webhook_configuration *source, struct kp_arena *arena)
{
    config->len = source->webhooks.len;
    config->hooks = KP_NEW_ARRAY(arena, struct webhook, KP_MAX(config->len, (size_t)1));
    for (size_t i = 0; i < config->len; i++) {
        READ_HOOK(&config->hooks[i], &source->webhooks.items[i]);
        config->hooks[i].mutating = true;
        config->hooks[i].reinvocable = is_on(source->webhooks.items[i].reinvocation_policy, "IfNeeded");
    }
}

static void read_validating(struct webhook_config *config, const struct k8s_validating_webhook_configuration *source, struct kp_arena *arena)
{
    config->len = source->webhooks.len;
    config->hooks = KP_NEW_ARRAY(arena, struct webhook, KP_MAX(config->len, (size_t)1));
    for (size_t i = 0; i < config->len; i++)
        READ_HOOK(&config->hooks[i], &source->webhooks.items[i]);
}

struct webhook_config *webhook_config_new(enum webhook_type type, const void *configuration)
{
    struct webhook_config *config = kp_calloc(1, sizeof(*config));
    config->refs = 1;
    config->arena = kp_arena_new(0);
    void *own = kp_object_clone(kinds[type].type, configuration, config->arena);
    config->name = kp_object_meta(kinds[type].type, own)->name;
    if (type == WEBHOOK_MUTATING)
        read_mutating(config, own, config->arena);
    else
        read_validating(config, own, config->arena);
    for (size_t i = 0; i < config->len; i++) {
        config->hooks[i].configuration = config->name;
        config->hooks[i].uid = kp_arena_printf(config->arena, "%s/%s/%zu", config->name, config->hooks[i].name, i);
    }
    return config;
}

void webhook_config_unref(struct webhook_config *config)
{
    if (!config || __atomic_sub_fetch(&config->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < config->len; i++)
        extension_conditions_done(&config->hooks[i].conditions);
    kp_arena_free(config->arena);
    free(config);
}

/* ---- all of a kind ------------------------------------------------------------------------------------------------------------------ */
/* The place of a name, or where it belongs. */
static size_t place_of(const struct webhook_table *table, const char *name, bool *ret_there)
{
    size_t i = 0;
    while (i < table->len && strcmp(table->items[i]->name, name) < 0)
        i++;
    *ret_there = i < table->len && strcmp(table->items[i]->name, name) == 0;
    return i;
}

/* new NULL: takes it out. Gives what was there before. */
static struct webhook_config *exchange(struct webhook_table *table, const char *name, struct webhook_config *new)
{
    bool there;
    struct webhook_config *old = NULL;
    size_t at = place_of(table, name, &there), len = table->len;
    if (there)
        old = table->items[at];
    if (new && !there) {
        if (len == table->cap) {
            table->cap = table->cap ? table->cap * 2 : 8;
            table->items = kp_realloc(table->items, table->cap * sizeof(struct webhook_config *));
        }
        memmove(&table->items[at + 1], &table->items[at], (len - at) * sizeof(struct webhook_config *));
        len++;
    } else if (!new && there) {
        len--;
        memmove(&table->items[at], &table->items[at + 1], (len - at) * sizeof(struct webhook_config *));
    }
    if (new)
        table->items[at] = new;
    __atomic_store_n(&table->len, len, __ATOMIC_RELEASE);
    return old;
}

static void on_change(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct webhook_table *table = arg;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct webhook_config *new = NULL;
    void *decoded;
    const char *key = object ? object->key : old->key;
    if (object && kp_json_decode(kinds[table->type].type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0) {
        kp_error_log("a webhook configuration cannot be read: what it was before stays in force", "configuration", key, "error", error.message, NULL);
        return;
    }
    if (object)
        new = webhook_config_new(table->type, decoded);
    pthread_mutex_lock(&table->webhooks->mutex);
    struct webhook_config *gone = exchange(table, key, new);
    pthread_mutex_unlock(&table->webhooks->mutex);
    webhook_config_unref(gone);
}

void webhook_tables_follow(struct webhooks *webhooks)
{
    for (enum webhook_type type = 0; type < WEBHOOK_TYPES; type++) {
        webhooks->tables[type].webhooks = webhooks;
        webhooks->tables[type].type = type;
        wcache_listen(wcache_find(webhooks->config.caches, "admissionregistration.k8s.io", kinds[type].resource), on_change, &webhooks->tables[type]);
    }
}

void webhook_tables_done(struct webhooks *webhooks)
{
    for (enum webhook_type type = 0; type < WEBHOOK_TYPES; type++) {
        for (size_t i = 0; i < webhooks->tables[type].len; i++)
            webhook_config_unref(webhooks->tables[type].items[i]);
        free(webhooks->tables[type].items);
    }
}

void webhook_list_take(struct webhooks *webhooks, enum webhook_type type, struct kp_arena *arena, struct webhook_list *ret)
{
    struct webhook_table *table = &webhooks->tables[type];
    *ret = (struct webhook_list){0};
    if (!__atomic_load_n(&table->len, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&webhooks->mutex);
    ret->items = KP_NEW_ARRAY(arena, struct webhook_config *, KP_MAX(table->len, (size_t)1));
    for (size_t i = 0; i < table->len; i++) {
        ret->items[i] = table->items[i];
        __atomic_add_fetch(&ret->items[i]->refs, 1, __ATOMIC_RELAXED);
    }
    ret->len = table->len;
    pthread_mutex_unlock(&webhooks->mutex);
}

void webhook_list_done(struct webhook_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        webhook_config_unref(list->items[i]);
    list->len = 0;
}
