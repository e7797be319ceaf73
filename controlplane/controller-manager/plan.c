/* Plans: the ordered list of writes a controller asks for, and how each is carried out. */
#include "controlplane/controller-manager/engine_internal.h"

#define PLAN_WRITES_MAX 5000

struct plan *plan_new(struct kp_arena *arena)
{
    struct plan *plan = KP_NEW(arena, struct plan);
    plan->arena = arena;
    plan->requeue_after_ms = -1;
    return plan;
}

static struct plan_write *add(struct plan *plan, enum plan_op op, const struct kp_resource *resource, const char *ns,
                              const char *name)
{
    struct plan_write *write = KP_NEW(plan->arena, struct plan_write);
    write->op = op;
    write->resource = resource;
    write->ns = ns ? ns : "";
    write->name = name ? name : "";
    write->grace_period_s = -1;
    if (plan->len == PLAN_WRITES_MAX) { /* this and all that follow wait for the next plan, which comes at once */
        plan_requeue_after_ms(plan, 0);
        return write;
    }
    if (plan->last)
        plan->last->next = write;
    else
        plan->first = write;
    plan->last = write;
    plan->len++;
    return write;
}

void plan_create(struct plan *plan, const struct kp_resource *resource, const char *ns, const void *obj)
{
    const struct k8s_object_meta *meta = kp_object_meta(resource->type, obj);
    struct plan_write *write = add(plan, PLAN_CREATE, resource, ns, meta->name ? meta->name : meta->generate_name);
    write->obj = obj;
}

static struct plan_write *add_update(struct plan *plan, const struct kp_resource *resource, const char *subresource, const void *obj)
{
    const struct k8s_object_meta *meta = kp_object_meta(resource->type, obj);
    struct plan_write *write = add(plan, PLAN_UPDATE, resource, meta->namespace, meta->name);
    write->obj = obj;
    write->subresource = subresource;
    return write;
}

void plan_update(struct plan *plan, const struct kp_resource *resource, const void *obj)
{
    add_update(plan, resource, NULL, obj);
}

void plan_update_status(struct plan *plan, const struct kp_resource *resource, const void *obj)
{
    add_update(plan, resource, "status", obj);
}

void plan_update_status_told(struct plan *plan, const struct kp_resource *resource, void *obj, const void *was, bool differs, plan_failed_fn failed,
                             int64_t now_s)
{
    struct plan_write *write = add_update(plan, resource, "status", obj);
    write->told.fn = failed;
    write->told.obj = obj;
    write->told.was = was;
    write->told.differs = differs;
    write->told.now_s = now_s;
}

void plan_update_sub(struct plan *plan, const struct kp_resource *resource, const char *subresource, const void *obj)
{
    add_update(plan, resource, subresource, obj);
}

void plan_patch(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name,
                const char *subresource, enum client_patch type, const char *body)
{
    struct plan_write *write = add(plan, PLAN_PATCH, resource, ns, name);
    write->subresource = subresource;
    write->patch_type = type;
    write->text = body;
}

void plan_scale(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name, int32_t replicas)
{
    struct plan_write *write = add(plan, PLAN_PATCH, resource, ns, name);
    write->subresource = "scale";
    write->patch_type = CLIENT_PATCH_MERGE;
    write->text = kp_arena_printf(plan->arena, "{\"spec\":{\"replicas\":%d}}", replicas);
    write->go_on = true;
}

void plan_delete(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name, const char *uid,
                 int64_t grace_period_s, const char *propagation)
{
    struct plan_write *write = add(plan, PLAN_DELETE, resource, ns, name);
    write->uid = uid;
    write->grace_period_s = grace_period_s;
    write->text = propagation;
}

void plan_delete_collection(struct plan *plan, const struct kp_resource *resource, const char *ns)
{
    add(plan, PLAN_DELETE_COLLECTION, resource, ns, "");
}

static struct plan_write *add_event(struct plan *plan, enum plan_op op, const struct kp_type *type, const void *obj,
                                    const char *reason)
{
    const struct k8s_object_meta *meta = kp_object_meta(type, obj);
    struct plan_write *write = add(plan, op, NULL, meta->namespace, meta->name);
    write->target = client_event_target_of(type, obj);
    write->target.api_version = kp_arena_strdup(plan->arena, write->target.api_version);
    write->reason = reason;
    return write;
}

void plan_event(struct plan *plan, const struct kp_type *type, const void *obj, const char *event_type, const char *reason,
                const char *format, ...)
{
    struct plan_write *write = add_event(plan, PLAN_EVENT, type, obj, reason);
    write->event_type = event_type;
    va_list ap;
    va_start(ap, format);
    write->text = kp_arena_vprintf(plan->arena, format, ap);
    va_end(ap);
}

void plan_event_created(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason, const char *text)
{
    struct plan_write *write = add_event(plan, PLAN_EVENT, type, obj, reason);
    write->event_type = "Normal";
    write->text = text;
    write->append_created = true;
}

void plan_event_if_done(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason, const char *text)
{
    struct plan_write *write = add_event(plan, PLAN_EVENT, type, obj, reason);
    write->event_type = "Normal";
    write->text = text;
    write->if_done = true;
}

void plan_event_on_failure(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason,
                           const char *format)
{
    struct plan_write *write = add_event(plan, PLAN_EVENT_ON_FAILURE, type, obj, reason);
    write->event_type = "Warning";
    write->text = format;
}

void plan_requeue_after_ms(struct plan *plan, int64_t delay_ms)
{
    if (plan->requeue_after_ms < 0 || delay_ms < plan->requeue_after_ms)
        plan->requeue_after_ms = delay_ms;
}

void plan_back_off(struct plan *plan)
{
    plan->back_off = true;
}

void plan_describe(const struct plan *plan, struct kp_buf *out)
{
    static const char *const names[] = {"create", "update", "patch", "delete", "event", "event-on-failure", "delete-collection"};
    for (const struct plan_write *write = plan->first; write; write = write->next) {
        if (write->told.fn && !write->told.differs)
            continue; /* only of a failure */
        kp_buf_printf(out, "%s", names[write->op]);
        if (write->resource)
            kp_buf_printf(out, " %s%s%s", write->resource->name, write->subresource ? "/" : "",
                          write->subresource ? write->subresource : "");
        kp_buf_printf(out, " %s%s%s", write->ns, write->ns[0] ? "/" : "", write->name);
        if (write->op == PLAN_EVENT)
            kp_buf_printf(out, " %s %s: %s", write->event_type, write->reason, write->text);
        else if (write->op == PLAN_PATCH)
            kp_buf_printf(out, " %s", write->text);
        kp_buf_putc(out, '\n');
    }
    if (plan->requeue_after_ms >= 0)
        kp_buf_printf(out, "requeue after %lld ms\n", (long long)plan->requeue_after_ms);
    if (plan->back_off)
        kp_buf_puts(out, "requeue with back-off\n");
}
