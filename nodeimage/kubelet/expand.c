/* Expansion of $(VAR) references in commands, arguments, environment values and sub-paths. */
#include "nodeimage/kubelet/text_internal.h"

/* Handles what follows one '$' at s (len bytes left); gives how many bytes it took. */
static size_t expand_one(struct kp_buf *out, const char *s, size_t len, kubelet_lookup_fn lookup, void *lookup_arg)
{
    if (len == 0) {
        kp_buf_putc(out, '$');
        return 0;
    }
    if (s[0] == '$') {
        kp_buf_putc(out, '$');
        return 1;
    }
    if (s[0] != '(') {
        kp_buf_putc(out, '$');
        kp_buf_putc(out, s[0]);
        return 1;
    }
    const char *end = memchr(s, ')', len);
    if (!end) {
        kp_buf_puts(out, "$(");
        return 1;
    }
    size_t name_len = (size_t)(end - s) - 1;
    const char *value = lookup(lookup_arg, s + 1, name_len);
    if (value) {
        kp_buf_puts(out, value);
    } else {
        kp_buf_putc(out, '$');
        kp_buf_append(out, s, name_len + 2);
    }
    return name_len + 2;
}

char *kubelet_expand(struct kp_arena *arena, const char *input, kubelet_lookup_fn lookup, void *lookup_arg)
{
    if (!input)
        return NULL;
    if (!strchr(input, '$'))
        return kp_arena_strdup(arena, input);
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t len = strlen(input);
    for (size_t i = 0; i < len; i++) {
        if (input[i] == '$')
            i += expand_one(&out, input + i + 1, len - i - 1, lookup, lookup_arg);
        else
            kp_buf_putc(&out, input[i]);
    }
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}
