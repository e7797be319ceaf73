/* Objects as webhooks see them: in the version they ask for, as the body of the subresource that is written; and back. */
#include "controlplane/apiserver/registry/registry_internal.h"

static bool same_kind(const struct kp_resource *a, const struct kp_resource *b)
{
    const struct registry_kind *kind = registry_kind_of(a);
    return kind && kind == registry_kind_of(b);
}

static const struct kp_subresource *subresource_of(const struct admission_attributes *a, const struct kp_resource *resource)
{
    return kp_empty(a->subresource) ? NULL : kp_subresource_find(resource, a->subresource);
}

static bool view(const struct admission_attributes *a, const struct kp_resource *resource, const void *obj, const struct kp_type **ret_type, const void **ret_body)
{
    struct registry_request *rq = a->request;
    const struct kp_subresource *sub = subresource_of(a, resource);
    *ret_type = rq ? resource->type : a->type;
    *ret_body = obj;
    if (!rq)
        return true; /* not an object that is stored: it is the body */
    if (sub && sub->type == &k8s_scale_type) {
        struct registry_request own = *rq; /* what fails here is no failure of the request */
        struct api_status ignored = API_STATUS(rq->arena);
        struct k8s_scale *scale = NULL;
        own.status = &ignored;
        *ret_type = &k8s_scale_type;
        if (obj && registry_make_scale(&own, (void *)(uintptr_t)obj, &scale) < 0)
            return false;
        *ret_body = scale;
        return true;
    }
    if (sub && sub->type && sub->type != resource->type)
        return false;
    *ret_body = registry_convert(rq->kind->storage->type, obj, resource->type, rq->arena);
    return true;
}

static int take(struct admission_attributes *a, const struct kp_resource *resource, const struct kp_type *type, void *body, struct api_status *status)
{
    struct registry_request *rq = a->request;
    if (!rq) {
        kp_object_default(type, body, a->arena);
        a->object = body;
        return 0;
    }
    const struct kp_type *storage = rq->kind->storage->type;
    if (type == &k8s_scale_type)
        return registry_set_scale(rq, body, &a->object);
    void *obj = registry_convert(resource->type, body, storage, rq->arena);
    kp_object_default(storage, obj, rq->arena);
    if (rq->kind->defaults)
        rq->kind->defaults(rq, obj);
    const char *ns = kp_object_meta(storage, obj)->namespace;
    if (rq->resource->namespaced && !kp_streq(ns, rq->ns))
        return status_bad_request(status, "the namespace of the provided object does not match the namespace sent on the request");
    a->object = obj;
    return 0;
}

const struct admission_views registry_views = {.same = same_kind, .view = view, .take = take};
