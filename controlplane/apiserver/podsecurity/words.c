/* Lists of names as findings write them. */
#include "controlplane/apiserver/podsecurity/checks_internal.h"

const char *psa_joined(const struct kp_string_list *names, const char *between, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < names->len; i++)
        kp_buf_printf(&out, "%s%s", i ? between : "", names->items[i]);
    return out.len ? kp_arena_strndup(arena, out.data, out.len) : "";
}

const char *psa_quoted(const struct kp_string_list *names, struct kp_arena *arena)
{
    return names->len ? kp_arena_printf(arena, "\"%s\"", psa_joined(names, "\", \"", arena)) : "";
}

const char *psa_containers(const struct kp_string_list *names, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s %s", names->len == 1 ? "container" : "containers", psa_quoted(names, arena));
}

const char *psa_setters(bool pod, const struct kp_string_list *containers, struct kp_arena *arena)
{
    if (!containers->len)
        return "pod";
    return kp_arena_printf(arena, "%s%s", pod ? "pod and " : "", psa_containers(containers, arena));
}

void psa_add_sorted(struct kp_string_list *set, const char *name, struct kp_arena *arena)
{
    if (kp_string_list_has(set, name))
        return;
    kp_string_list_add(arena, set, name);
    for (size_t i = set->len - 1; i > 0 && strcmp(set->items[i - 1], set->items[i]) > 0; i--) {
        const char *other = set->items[i - 1];
        set->items[i - 1] = set->items[i];
        set->items[i] = other;
    }
}
