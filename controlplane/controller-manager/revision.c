/* ControllerRevision objects: made, numbered and cleaned up as upstream's history package does. */
#include "controlplane/controller-manager/revision.h"
#include "controlplane/controller-manager/deployment.h"

#define REVISION_HASH_LABEL "controller-revision-hash"

/* What kubectl's rollout undo applies to the owner: the template, replacing all of the present one. */
static struct kp_raw patch_of(const struct k8s_pod_template_spec *template, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    kp_json_encode(&k8s_pod_template_spec_type, template, &json);
    const char *text = kp_arena_printf(arena, "{\"spec\":{\"template\":{%.*s%s\"$patch\":\"replace\"}}}", (int)json.len - 2, json.data + 1,
                                       json.len > 2 ? "," : "");
    return (struct kp_raw){text, strlen(text)};
}

static bool same_patch(const struct kp_raw *a, const struct kp_raw *b, struct kp_arena *arena)
{
    struct kp_value *x, *y;
    struct kp_error error = {0};
    if (kp_streq(a->json, b->json))
        return true;
    if (!a->json || kp_value_parse(a->json, a->len, arena, NULL, &x, &error) < 0 || kp_value_parse(b->json, b->len, arena, NULL, &y, &error) < 0)
        return false;
    return kp_value_equal(x, y); /* a server may write the members in another order */
}

static int by_number(const void *a, const void *b)
{
    const struct k8s_controller_revision *x = *(const struct k8s_controller_revision *const *)a, *y = *(const struct k8s_controller_revision *const *)b;
    return x->revision < y->revision ? -1 : x->revision > y->revision;
}

static void clean_up(const struct plan_input *in, struct plan *plan, const struct revisions *all, int32_t limit,
                     bool (*in_use)(const char *hash, void *arg), void *arg)
{
    size_t idle = 0;
    for (size_t i = 0; i < all->len; i++)
        idle += all->items[i] != all->current && !in_use(kp_string_map_get(&all->items[i]->metadata->labels, REVISION_HASH_LABEL), arg);
    for (size_t i = 0; i < all->len && idle > (size_t)limit; i++) {
        const struct k8s_controller_revision *old = all->items[i];
        if (old == all->current || in_use(kp_string_map_get(&old->metadata->labels, REVISION_HASH_LABEL), arg))
            continue;
        plan_delete(plan, &k8s_controllerrevisions_resource, in->ns, old->metadata->name, old->metadata->uid, -1, NULL);
        idle--;
    }
}

int revisions_sync(const struct plan_input *in, struct plan *plan, const struct kp_type *owner_type, const struct k8s_object_meta *owner,
                   const struct kp_selector *selector, const struct k8s_pod_template_spec *template, int32_t limit,
                   bool (*in_use)(const char *hash, void *arg), void *arg, struct revisions *ret)
{
    const struct claim claim = {.resource = &k8s_controllerrevisions_resource, .owner_type = owner_type, .owner = owner, .selector = selector};
    const void *const *items;
    struct kp_raw patch = patch_of(template, in->arena);
    size_t n = claim_objects(in, plan, &claim, &items);
    *ret = (struct revisions){.items = KP_NEW_ARRAY(in->arena, const struct k8s_controller_revision *, n + 1), .len = n};
    ret->hash = deployment_template_hash(template, false, 0, in->arena);
    memcpy(ret->items, items, n * sizeof(*ret->items));
    qsort(ret->items, n, sizeof(*ret->items), by_number);
    for (size_t i = 0; i < n; i++)
        if (same_patch(&ret->items[i]->data, &patch, in->arena))
            ret->current = ret->items[i];
    int64_t next = n ? ret->items[n - 1]->revision + 1 : 1;
    if (!ret->current) {
        struct k8s_controller_revision *new = KP_OBJECT_NEW(in->arena, k8s_controller_revision);
        new->metadata->name = kp_arena_printf(in->arena, "%s-%s", owner->name, ret->hash);
        new->metadata->namespace = in->ns;
        new->metadata->labels = KP_OBJECT_CLONE(in->arena, k8s_object_meta, template->metadata)->labels;
        kp_string_map_set(in->arena, &new->metadata->labels, REVISION_HASH_LABEL, ret->hash);
        engine_set_controller(in->arena, new->metadata, owner_type, owner);
        new->data = patch;
        new->revision = next;
        plan_create(plan, &k8s_controllerrevisions_resource, in->ns, new);
        return KP_EAGAIN;
    }
    ret->hash = kp_string_map_get(&ret->current->metadata->labels, REVISION_HASH_LABEL);
    if (ret->current != ret->items[n - 1]) {
        struct k8s_controller_revision *again = KP_OBJECT_CLONE(in->arena, k8s_controller_revision, ret->current);
        again->revision = next;
        plan_update(plan, &k8s_controllerrevisions_resource, again);
        return KP_EAGAIN;
    }
    clean_up(in, plan, ret, limit, in_use, arg);
    return 0;
}
