/* Which definition has which names: the first that was there keeps them (apiextensions-apiserver, pkg/controller/status/naming_controller.go). */
#include "controlplane/apiserver/custom/custom_internal.h"

static bool has_name(const struct k8s_custom_resource_definition_names *names, const char *name)
{
    return kp_streq(names->plural, name) || kp_streq(names->singular, name) || kp_string_list_has(&names->short_names, name);
}

static bool has_kind(const struct k8s_custom_resource_definition_names *names, const char *kind)
{
    return kp_streq(names->kind, kind) || kp_streq(names->list_kind, kind);
}

static bool taken(const struct definitions *all, size_t at, const bool *accepted, const char *value, bool (*has)(const struct k8s_custom_resource_definition_names *, const char *))
{
    for (size_t i = 0; i < at; i++)
        if (accepted[i] && kp_streq(all->items[i]->spec->group, all->items[at]->spec->group) && has(all->items[i]->spec->names, value))
            return true;
    return false;
}

/* A resource of the schema's own, whose group a definition cannot extend under the same name. */
static bool is_built_in(const crd_t *crd)
{
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    for (size_t i = 0; i < count; i++)
        if (!resources[i]->custom && kp_streq(resources[i]->group, crd->spec->group) && kp_streq(resources[i]->name, crd->spec->names->plural))
            return true;
    return false;
}

/* Of several conflicts the last is told, as upstream's controller overwrites one by the next. */
const char *custom_name_conflict(const struct definitions *all, size_t at, const bool *accepted, struct kp_arena *arena, const char **ret_reason)
{
    const crd_t *crd = all->items[at];
    const struct k8s_custom_resource_definition_names *names = crd->spec->names;
    const struct kp_string_list kinds = {.items = (const char *[]){names->kind}, .len = 1}, lists = {.items = (const char *[]){names->list_kind}, .len = 1},
                                plurals = {.items = (const char *[]){names->plural}, .len = 1}, singulars = {.items = (const char *[]){names->singular}, .len = 1};
    const struct {
        const struct kp_string_list *values;
        const char *reason;
        bool (*has)(const struct k8s_custom_resource_definition_names *, const char *);
    } rules[] = {{&plurals, "PluralConflict", has_name}, {&singulars, "SingularConflict", has_name}, {&names->short_names, "ShortNamesConflict", has_name},
                 {&kinds, "KindConflict", has_kind}, {&lists, "ListKindConflict", has_kind}};
    const char *conflict = is_built_in(crd) ? kp_arena_printf(arena, "\"%s\" is already in use", names->plural) : NULL;
    *ret_reason = conflict ? "PluralConflict" : "";
    for (size_t i = 0; i < KP_ARRAY_LEN(rules); i++)
        for (size_t j = 0; j < rules[i].values->len; j++)
            if (taken(all, at, accepted, rules[i].values->items[j], rules[i].has)) {
                *ret_reason = rules[i].reason;
                conflict = kp_arena_printf(arena, "\"%s\" is already in use", rules[i].values->items[j]);
            }
    return conflict;
}
