/* RBAC: decoded roles and bindings, kept current from the watch caches; a request is matched against the rules of its user. */
#include "controlplane/apiserver/auth/auth_internal.h"

#include <pthread.h>

/* One decoded role or binding. */
struct rbac_object {
    struct kp_arena *arena;
    void *data;
};

enum rbac_table { RBAC_ROLES, RBAC_ROLE_BINDINGS, RBAC_CLUSTER_ROLES, RBAC_CLUSTER_ROLE_BINDINGS, RBAC_TABLES };

struct rbac_slot {
    struct auth_rbac *rbac;
    enum rbac_table table;
};

struct auth_rbac {
    pthread_rwlock_t lock;
    struct kp_strmap *tables[RBAC_TABLES]; /* key -> struct rbac_object */
    struct rbac_slot slots[RBAC_TABLES];
};

static const struct {
    const char *resource;
    const struct kp_type *type;
} kinds[RBAC_TABLES] = {
    [RBAC_ROLES] = {"roles", &k8s_role_type},
    [RBAC_ROLE_BINDINGS] = {"rolebindings", &k8s_role_binding_type},
    [RBAC_CLUSTER_ROLES] = {"clusterroles", &k8s_cluster_role_type},
    [RBAC_CLUSTER_ROLE_BINDINGS] = {"clusterrolebindings", &k8s_cluster_role_binding_type},
};

static void free_object(void *p)
{
    struct rbac_object *object = p;
    if (!object)
        return;
    kp_arena_free(object->arena);
    free(object);
}

static void on_event(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct rbac_slot *slot = arg;
    struct rbac_object *new = NULL;
    if (object) {
        struct kp_error error = {0};
        new = kp_calloc(1, sizeof(*new));
        new->arena = kp_arena_new(0);
        if (kp_json_decode(kinds[slot->table].type, (const char *)object->json->data, object->json->len, new->arena, NULL, &new->data, &error) < 0) {
            kp_error_log("RBAC object left out", "object", object->key, "error", error.message, NULL);
            free_object(new);
            new = NULL;
        }
    }
    pthread_rwlock_wrlock(&slot->rbac->lock);
    const char *key = object ? object->key : old->key;
    struct rbac_object *gone = new ? kp_strmap_put(slot->rbac->tables[slot->table], key, new) : kp_strmap_remove(slot->rbac->tables[slot->table], key);
    pthread_rwlock_unlock(&slot->rbac->lock);
    free_object(gone);
}

struct auth_rbac *auth_rbac_new(struct wcache_set *caches)
{
    struct auth_rbac *rbac = kp_calloc(1, sizeof(*rbac));
    pthread_rwlock_init(&rbac->lock, NULL);
    for (int i = 0; i < RBAC_TABLES; i++) {
        struct wcache *cache = wcache_find(caches, "rbac.authorization.k8s.io", kinds[i].resource);
        rbac->tables[i] = kp_strmap_new();
        rbac->slots[i] = (struct rbac_slot){rbac, (enum rbac_table)i};
        KP_ASSERT(cache);
        wcache_listen(cache, on_event, &rbac->slots[i]);
    }
    return rbac;
}

void auth_rbac_free(struct auth_rbac *rbac)
{
    if (!rbac)
        return;
    for (int i = 0; i < RBAC_TABLES; i++)
        kp_strmap_free(rbac->tables[i], free_object);
    pthread_rwlock_destroy(&rbac->lock);
    free(rbac);
}

/* ---- rules -------------------------------------------------------------------------------------------------------------------- */
static bool has(const struct kp_string_list *list, const char *value)
{
    return kp_string_list_has(list, "*") || kp_string_list_has(list, value);
}

static bool resource_matches(const struct k8s_policy_rule *rule, const struct auth_attributes *a)
{
    size_t len = strlen(a->resource);
    for (size_t i = 0; i < rule->resources.len; i++) {
        const char *r = rule->resources.items[i];
        if (strcmp(r, "*") == 0)
            return true;
        if (kp_empty(a->subresource)) {
            if (strcmp(r, a->resource) == 0)
                return true;
            continue;
        }
        if (strncmp(r, "*/", 2) == 0 && strcmp(r + 2, a->subresource) == 0)
            return true;
        if (strncmp(r, a->resource, len) == 0 && r[len] == '/' && strcmp(r + len + 1, a->subresource) == 0)
            return true;
    }
    return false;
}

static bool url_matches(const struct k8s_policy_rule *rule, const char *path)
{
    for (size_t i = 0; i < rule->non_resource_urls.len; i++) {
        const char *url = rule->non_resource_urls.items[i];
        size_t len = strlen(url);
        if (strcmp(url, path) == 0 || (len && url[len - 1] == '*' && strncmp(url, path, len - 1) == 0))
            return true;
    }
    return false;
}

bool auth_rule_allows(const struct k8s_policy_rule *rule, const struct auth_attributes *a)
{
    if (!has(&rule->verbs, a->verb))
        return false;
    if (!a->resource_request)
        return url_matches(rule, a->path);
    return has(&rule->api_groups, a->group) && resource_matches(rule, a) &&
           (rule->resource_names.len == 0 || kp_string_list_has(&rule->resource_names, a->name));
}

/* ---- subjects ------------------------------------------------------------------------------------------------------------------ */
static bool subject_matches(const struct k8s_subject *subject, const struct auth_user *user, const char *binding_ns)
{
    if (kp_streq(subject->kind, "User"))
        return kp_streq(subject->name, user->name);
    if (kp_streq(subject->kind, "Group"))
        return kp_string_list_has(&user->groups, subject->name);
    if (!kp_streq(subject->kind, "ServiceAccount") || !kp_starts_with(user->name, AUTH_SERVICE_ACCOUNT_PREFIX))
        return false;
    const char *ns = kp_empty(subject->namespace) ? binding_ns : subject->namespace, *rest = user->name + strlen(AUTH_SERVICE_ACCOUNT_PREFIX);
    size_t len = strlen(ns);
    return strncmp(rest, ns, len) == 0 && rest[len] == ':' && strcmp(rest + len + 1, subject->name) == 0;
}

static const struct k8s_subject *applies(const struct k8s_subject_items *subjects, const struct auth_user *user, const char *ns)
{
    for (size_t i = 0; i < subjects->len; i++)
        if (subject_matches(&subjects->items[i], user, ns))
            return &subjects->items[i];
    return NULL;
}

/* ---- walking ---------------------------------------------------------------------------------------------------------------------- */
struct walk {
    struct auth_rbac *rbac;
    auth_rule_fn visit;
    void *arg;
    bool stopped;
};

static void visit_rules(struct walk *walk, const struct k8s_policy_rule_items *rules, const char *why)
{
    for (size_t i = 0; i < rules->len && !walk->stopped; i++)
        walk->stopped = !walk->visit(&rules->items[i], why, walk->arg);
}

static void visit_cluster_role(struct walk *walk, const char *name, const char *why)
{
    const struct rbac_object *object = kp_strmap_get(walk->rbac->tables[RBAC_CLUSTER_ROLES], name);
    const struct k8s_cluster_role *role = object ? object->data : NULL;
    if (!role)
        return;
    if (!role->aggregation_rule) {
        visit_rules(walk, &role->rules, why);
        return;
    }
    size_t iter = 0;
    const char *key;
    void *value;
    while (!walk->stopped && kp_strmap_next(walk->rbac->tables[RBAC_CLUSTER_ROLES], &iter, &key, &value)) {
        const struct k8s_cluster_role *part = ((struct rbac_object *)value)->data;
        for (size_t i = 0; i < role->aggregation_rule->cluster_role_selectors.len && part != role; i++)
            if (kp_label_selector_matches(&role->aggregation_rule->cluster_role_selectors.items[i], &part->metadata->labels)) {
                visit_rules(walk, &part->rules, why);
                break;
            }
    }
}

static void visit_cluster_bindings(struct walk *walk, const struct auth_user *user)
{
    size_t iter = 0;
    const char *key;
    void *value;
    while (!walk->stopped && kp_strmap_next(walk->rbac->tables[RBAC_CLUSTER_ROLE_BINDINGS], &iter, &key, &value)) {
        const struct k8s_cluster_role_binding *binding = ((struct rbac_object *)value)->data;
        const struct k8s_subject *subject = applies(&binding->subjects, user, "");
        if (!subject)
            continue;
        KP_AUTO_FREE char *why = kp_asprintf("RBAC: allowed by ClusterRoleBinding \"%s\" of ClusterRole \"%s\" to %s \"%s\"", binding->metadata->name,
                                             binding->role_ref->name, subject->kind, subject->name);
        visit_cluster_role(walk, binding->role_ref->name, why);
    }
}

static void visit_bindings(struct walk *walk, const struct auth_user *user, const char *ns)
{
    size_t iter = 0;
    const char *key;
    void *value;
    while (!walk->stopped && kp_strmap_next(walk->rbac->tables[RBAC_ROLE_BINDINGS], &iter, &key, &value)) {
        const struct k8s_role_binding *binding = ((struct rbac_object *)value)->data;
        if (!kp_streq(binding->metadata->namespace, ns))
            continue;
        const struct k8s_subject *subject = applies(&binding->subjects, user, ns);
        if (!subject)
            continue;
        KP_AUTO_FREE char *why = kp_asprintf("RBAC: allowed by RoleBinding \"%s/%s\" of %s \"%s\" to %s \"%s\"", binding->metadata->name, ns,
                                             binding->role_ref->kind, binding->role_ref->name, subject->kind, subject->name);
        if (kp_streq(binding->role_ref->kind, "ClusterRole")) {
            visit_cluster_role(walk, binding->role_ref->name, why);
            continue;
        }
        KP_AUTO_FREE char *role_key = kp_asprintf("%s/%s", ns, binding->role_ref->name);
        const struct rbac_object *object = kp_strmap_get(walk->rbac->tables[RBAC_ROLES], role_key);
        if (object)
            visit_rules(walk, &((const struct k8s_role *)object->data)->rules, why);
    }
}

void auth_rbac_visit(struct auth_rbac *rbac, const struct auth_user *user, const char *ns, auth_rule_fn visit, void *arg)
{
    struct walk walk = {.rbac = rbac, .visit = visit, .arg = arg};
    pthread_rwlock_rdlock(&rbac->lock);
    visit_cluster_bindings(&walk, user);
    if (!kp_empty(ns) && !walk.stopped)
        visit_bindings(&walk, user, ns);
    pthread_rwlock_unlock(&rbac->lock);
}

struct copied {
    struct kp_arena *arena;
    struct k8s_policy_rule_items *rules;
};

static bool copy_rule(const struct k8s_policy_rule *rule, const char *why, void *arg)
{
    (void)why;
    struct copied *copied = arg;
    *KP_LIST_ADD(copied->arena, copied->rules) = *(struct k8s_policy_rule *)kp_object_clone(&k8s_policy_rule_type, rule, copied->arena);
    return true;
}

bool auth_cluster_role_rules(struct auth *auth, const char *name, struct kp_arena *arena, struct k8s_policy_rule_items *ret_rules)
{
    struct copied copied = {arena, ret_rules};
    struct walk walk = {.rbac = auth->rbac, .visit = copy_rule, .arg = &copied};
    pthread_rwlock_rdlock(&auth->rbac->lock);
    bool found = kp_strmap_get(auth->rbac->tables[RBAC_CLUSTER_ROLES], name) != NULL;
    visit_cluster_role(&walk, name, "");
    pthread_rwlock_unlock(&auth->rbac->lock);
    return found;
}

struct question {
    const struct auth_attributes *attributes;
    struct kp_arena *arena;
    const char *why;
    bool allowed;
};

static bool ask(const struct k8s_policy_rule *rule, const char *why, void *arg)
{
    struct question *question = arg;
    if (!auth_rule_allows(rule, question->attributes))
        return true;
    question->allowed = true;
    question->why = kp_arena_strdup(question->arena, why);
    return false;
}

bool auth_rbac_allows(struct auth_rbac *rbac, const struct auth_attributes *attributes, struct kp_arena *arena, const char **ret_reason)
{
    struct question question = {.attributes = attributes, .arena = arena, .why = ""};
    auth_rbac_visit(rbac, attributes->user, attributes->resource_request ? attributes->ns : "", ask, &question);
    *ret_reason = question.why;
    return question.allowed;
}

/* Matching itself treats "*" in the question as a word that only "*" in a rule matches; so a question for everything needs no more. */
bool auth_covers(struct auth *auth, const struct auth_attributes *wanted, struct kp_arena *arena)
{
    const char *why;
    return auth_rbac_allows(auth->rbac, wanted, arena, &why);
}

bool auth_uses_rbac(const struct auth *auth)
{
    for (size_t i = 0; i < auth->n_modes; i++)
        if (auth->modes[i] == AUTH_MODE_RBAC)
            return true;
    return false;
}
