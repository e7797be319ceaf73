/* Which folders of state go by a folder of node images: each is noted there when an image is asked for, so that nobody's pruning
   removes what clusters of another user need. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

#define NOTES_MAX ((size_t)1 << 20)

static const char *notes_path(struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/.states", cli_image_dir());
}

static void add_once(struct kp_strings *list, const char *text)
{
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i], text))
            return;
    kp_strings_add(list, text);
}

/* One that was removed needs no images. */
static void add_noted(const char *notes, struct kp_arena *arena, struct kp_strings *ret)
{
    for (const char *line = notes; *line;) {
        const size_t len = strcspn(line, "\n");
        const char *root = kp_arena_strndup(arena, line, len);
        if (*root == '/' && kp_path_exists(root))
            add_once(ret, root);
        line += len + (line[len] == '\n');
    }
}

int cli_image_states(struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf notes = {0};
    const char *own = NULL;
    int r = state_root(arena, &own, error);
    if (r < 0)
        return r;
    add_once(ret, own);
    r = kp_read_file(notes_path(arena), NOTES_MAX, &notes, error);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r == 0)
        add_noted(notes.data ? notes.data : "", arena, ret);
    return r;
}

/* Written whole each time, without those that are gone: a folder of tests is there for minutes. */
int cli_image_note_state(struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf notes = {0}, text = {0};
    struct kp_strings roots = {0};
    const char *own = NULL;
    int r = state_root(arena, &own, error);
    if (r < 0 || *own != '/')
        return r;
    r = kp_read_file(notes_path(arena), NOTES_MAX, &notes, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    add_noted(notes.data ? notes.data : "", arena, &roots);
    add_once(&roots, own);
    for (size_t i = 0; i < roots.len; i++)
        kp_buf_printf(&text, "%s\n", roots.items[i]);
    kp_strings_done(&roots);
    if (notes.data && kp_streq(notes.data, text.data))
        return 0;
    r = kp_mkdir_p(cli_image_dir(), 0755, error);
    return r < 0 ? r : kp_write_file(notes_path(arena), text.data, text.len, 0644, error);
}
