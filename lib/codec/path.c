/* The place in a document that a message is about. */
#include "codec/codec_internal.h"

void kp_path_print(const struct kp_path *path, bool indices, struct kp_buf *out)
{
    if (!path)
        return;
    kp_path_print(path->parent, indices, out);
    if (!path->name) {
        if (indices)
            kp_buf_printf(out, "[%zu]", path->index);
        return;
    }
    if (out->len > 0)
        kp_buf_putc(out, '.');
    kp_buf_puts(out, path->name);
}

void kp_path_problem(const struct kp_path *path, const char *what, struct kp_arena *arena, struct kp_string_list *problems)
{
    if (!problems || problems->len >= KP_DECODE_PROBLEMS_MAX)
        return;
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_path_print(path, true, &text);
    char *problem = kp_arena_try(arena, text.len + strlen(what) + 4);
    if (!problem)
        return; /* the decoder itself is about to report that the arena is full */
    snprintf(problem, text.len + strlen(what) + 4, "%s \"%s\"", what, text.len ? text.data : "");
    for (size_t i = 0; i < problems->len; i++)
        if (strcmp(problems->items[i], problem) == 0)
            return;
    const char **slot = kp_list_try(arena, (struct kp_list *)(void *)problems, sizeof(*slot));
    if (slot)
        *slot = problem;
}
