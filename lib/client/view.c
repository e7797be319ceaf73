/* A view: keeps objects read from informers alive for the time of one plan. */
#include "lib/client/client_internal.h"

struct client_view {
    struct kp_arena *arena;
    struct client_object **held;
    size_t len, cap;
};

struct client_view *client_view_new(void)
{
    struct client_view *view = kp_calloc(1, sizeof(*view));
    view->arena = kp_arena_new(0);
    return view;
}

void client_view_free(struct client_view *view)
{
    if (!view)
        return;
    for (size_t i = 0; i < view->len; i++)
        client_object_unref(view->held[i]);
    free(view->held);
    kp_arena_free(view->arena);
    free(view);
}

struct kp_arena *client_view_arena(struct client_view *view)
{
    return view->arena;
}

static void hold(struct client_view *view, struct client_object *object)
{
    if (view->len == view->cap) {
        view->cap = view->cap ? view->cap * 2 : 16;
        view->held = kp_realloc(view->held, view->cap * sizeof(struct client_object *));
    }
    view->held[view->len++] = object;
}

const void *client_view_get(struct client_view *view, const struct client_informer *informer, const char *ns,
                            const char *name)
{
    struct client_object *object = client_informer_get(informer, ns, name);
    if (!object)
        return NULL;
    hold(view, object);
    return object->data;
}

static int by_key(const void *a, const void *b)
{
    const struct client_object *x = *(struct client_object *const *)a, *y = *(struct client_object *const *)b;
    int order = strcmp(x->ns, y->ns);
    return order ? order : strcmp(x->name, y->name);
}

static size_t take(struct client_view *view, const struct client_informer *informer, const char *ns, int index,
                   const char *value, const void *const **ret_items)
{
    struct client_object **objects;
    size_t n = client_informer_snapshot(informer, ns, index, value, &objects);
    qsort(objects, n, sizeof(struct client_object *), by_key);
    const void **items = KP_NEW_ARRAY(view->arena, const void *, n + 1);
    for (size_t i = 0; i < n; i++) {
        hold(view, objects[i]);
        items[i] = objects[i]->data;
    }
    free(objects);
    *ret_items = items;
    return n;
}

size_t client_view_list(struct client_view *view, const struct client_informer *informer, const char *ns,
                        const void *const **ret_items)
{
    return take(view, informer, ns, -1, NULL, ret_items);
}

size_t client_view_index(struct client_view *view, const struct client_informer *informer, int index,
                         const char *value, const void *const **ret_items)
{
    return take(view, informer, NULL, index, value, ret_items);
}
