/* The field path of a rule: ".spec.replicas", ".metadata['a.b']" (apiextensions-apiserver .../cel/validation.go, ValidFieldPath). */
#include "controlplane/apiserver/structural/structural_internal.h"

/* The name between quotes at p, past which *ret_end is; NULL when it does not end or has an escape that is none. */
static const char *quoted_name(const char *p, const char **ret_end, struct kp_arena *arena)
{
    static const char from[] = "abfnrtv'\\", to[] = "\a\b\f\n\r\t\v'\\";
    KP_AUTO_BUF struct kp_buf out = {0};
    if (*p++ != '\'')
        return NULL;
    for (; *p && *p != '\''; p++) {
        const char *escape = *p == '\\' && p[1] ? strchr(from, p[1]) : NULL;
        if (*p == '\\' && !escape)
            return NULL;
        kp_buf_putc(&out, escape ? to[escape - from] : *p);
        p += escape != NULL;
    }
    if (*p != '\'')
        return NULL;
    *ret_end = p + 1;
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

const char *rule_field_path(const struct snode *node, const char *path, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *p = path;
    while (*p) {
        const char *name = NULL;
        if (*p == '[') {
            name = quoted_name(p + 1, &p, arena);
            if (!name || *p++ != ']')
                return NULL;
        } else if (*p == '.') {
            size_t len = strcspn(p + 1, ".[]");
            name = kp_arena_strndup(arena, p + 1, len);
            p += 1 + len;
        } else {
            return NULL;
        }
        bool field = node->n_properties > 0;
        node = field ? snode_property(node, name) : node->additional;
        if (!node)
            return NULL;
        if (field)
            kp_buf_printf(&out, "%s%s", out.len ? "." : "", name);
        else
            kp_buf_printf(&out, "[%s]", name);
    }
    return out.len ? kp_arena_strndup(arena, out.data, out.len) : NULL;
}
