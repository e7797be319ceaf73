/* create, update, patch, delete and deletecollection of stored objects and their status-like subresources. */
#include "controlplane/apiserver/http/http_internal.h"

#include "controlplane/apiserver/patch/patch.h"

#define PATCHED_BYTES_MAX ((size_t)128 << 20) /* trees and sets of fields beside the object: four times what a body may take */

static const struct kp_type *storage_type(struct api_request *ar)
{
    return registry_storage_type(ar->rq.kind);
}

static int check_namespace(struct api_request *ar, struct k8s_object_meta *meta)
{
    if (!ar->resource->namespaced)
        return 0;
    if (!kp_empty(meta->namespace) && strcmp(meta->namespace, ar->info.ns) != 0)
        return status_bad_request(&ar->status, "the namespace of the provided object does not match the namespace sent on the request");
    meta->namespace = ar->info.ns;
    return 0;
}

static void respond_written(struct api_request *ar, int code, bool created, struct wcache_object *object)
{
    if (code < 0)
        respond_status(ar);
    else
        respond_object(ar, created ? 201 : 200, object);
}

void handle_create(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    void *obj = NULL;
    if (ar->resource->namespaced && !*ar->info.ns) {
        status_bad_request(&ar->status, "an empty namespace may not be set during creation");
        respond_status(ar);
        return;
    }
    if (decode_body(ar, ar->resource->type, &obj) < 0 || check_namespace(ar, kp_object_meta(ar->resource->type, obj)) < 0) {
        respond_status(ar);
        return;
    }
    struct k8s_object_meta *meta = kp_object_meta(ar->resource->type, obj);
    ar->rq.name = meta->name ? meta->name : "";
    if (!kp_empty(meta->resource_version) && strcmp(meta->resource_version, "0") != 0) {
        status_bad_request(&ar->status, "resourceVersion should not be set on objects to be created");
        respond_status(ar);
        return;
    }
    obj = registry_convert(ar->resource->type, obj, storage_type(ar), ar->arena);
    int code = registry_create(ar->server->config.registry, &ar->rq, obj, &object);
    respond_written(ar, code, true, object);
}

/* ---- update ------------------------------------------------------------------------------------------------------------ */
static int make_put(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    (void)current;
    *ret_new = kp_object_clone(registry_storage_type(rq->kind), arg, rq->arena); /* an attempt may change it */
    return 0;
}

void handle_update(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    struct registry_update_options options = {.create_allowed = registry_creates_on_update(ar->rq.kind) && !*ar->info.subresource};
    void *obj = NULL;
    bool created;
    if (decode_body(ar, ar->resource->type, &obj) < 0 || check_namespace(ar, kp_object_meta(ar->resource->type, obj)) < 0) {
        respond_status(ar);
        return;
    }
    struct k8s_object_meta *meta = kp_object_meta(ar->resource->type, obj);
    if (!kp_streq(meta->name, ar->info.name)) {
        status_bad_request(&ar->status, "the name of the object (%s) does not match the name on the URL (%s)", meta->name ? meta->name : "", ar->info.name);
        respond_status(ar);
        return;
    }
    obj = registry_convert(ar->resource->type, obj, storage_type(ar), ar->arena);
    int code = registry_update(ar->server->config.registry, &ar->rq, &options, make_put, obj, &object, &created);
    respond_written(ar, code, created, object);
}

/* ---- patch ------------------------------------------------------------------------------------------------------------- */
struct patching {
    struct api_request *ar;
    struct patch_request request;
    struct kp_string_list problems;
};

/* Before anything is stored. As upstream: an applied object is like a body, another patch is a field of its own. */
static int refuse_problems(struct patching *p)
{
    struct api_request *ar = p->ar;
    int code;
    if (!p->problems.len || field_validation(ar, &code) != REGISTRY_STRICT)
        return 0;
    if (p->request.kind == PATCH_APPLY)
        return report_problems(ar, ar->resource->type, &p->problems);
    struct field_errors errors = {.arena = ar->arena};
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_puts(&text, "strict decoding error: ");
    for (size_t i = 0; i < p->problems.len; i++)
        kp_buf_printf(&text, "%s%s", i ? ", " : "", p->problems.items[i]);
    field_invalid(&errors, p->request.body, text.data, "patch");
    return status_invalid(&ar->status, "", "", "", &errors);
}

static int make_patched(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct patching *p = arg;
    struct api_request *ar = p->ar;
    const struct kp_type *type = ar->resource->type;
    void *obj = NULL;
    size_t before = kp_arena_used(ar->arena);
    p->problems = (struct kp_string_list){0};
    if (patch_apply(type, &p->request, registry_convert(storage_type(ar), current, type, rq->arena), rq->arena, &p->problems, &obj, rq->status) < 0)
        return rq->status->code;
    if (check_decoded(ar, before, PATCHED_BYTES_MAX) < 0)
        return ar->status.code;
    if ((ar->resource->custom && prune_patched(ar, &obj, &p->problems) < 0) || refuse_problems(p) < 0)
        return ar->status.code;
    struct k8s_object_meta *meta = kp_object_meta(type, obj);
    if (!kp_empty(meta->name) && strcmp(meta->name, ar->info.name) != 0 && !current)
        return status_bad_request(rq->status, "the name of the object (%s) does not match the name on the URL (%s)", meta->name, ar->info.name);
    if (!current)
        meta->name = ar->info.name;
    if (check_namespace(ar, meta) < 0)
        return rq->status->code;
    *ret_new = registry_convert(type, obj, storage_type(ar), rq->arena);
    return 0;
}

static int patch_kind_of(struct api_request *ar, enum patch_kind *ret_kind)
{
    static const struct {
        const char *type;
        enum patch_kind kind;
    } table[] = {{"application/json-patch+json", PATCH_JSON},
                 {"application/merge-patch+json", PATCH_MERGE},
                 {"application/apply-patch+yaml", PATCH_APPLY},
                 {"application/apply-patch+json", PATCH_APPLY},
                 {"application/strategic-merge-patch+json", PATCH_STRATEGIC}};
    bool custom = ar->resource->custom; /* their schemas have no merge keys */
    const char *header = http_request_header(ar->http, "content-type");
    size_t len = header ? strcspn(header, "; ") : 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(table) - (custom ? 1 : 0); i++)
        if (header && strlen(table[i].type) == len && strncmp(table[i].type, header, len) == 0) {
            *ret_kind = table[i].kind;
            return 0;
        }
    return status_fail(&ar->status, KP_EMEDIATYPE, 415, "UnsupportedMediaType",
                       "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "
                       "application/merge-patch+json, %sapplication/apply-patch+yaml",
                       custom ? "" : "application/strategic-merge-patch+json, ");
}

int patch_begin(struct api_request *ar, struct patch_request *request)
{
    int code;
    *request = (struct patch_request){.body = (const char *)ar->http->body.data,
                                      .body_len = ar->http->body.len,
                                      .field_manager = query_of(ar, "fieldManager"),
                                      .force = query_true(ar, "force"),
                                      .subresource = ar->info.subresource,
                                      .now_s = ar->rq.now_s};
    request->strict = field_validation(ar, &code) != REGISTRY_IGNORE;
    if (code < 0 || patch_kind_of(ar, &request->kind) < 0)
        return ar->status.code;
    if (audit_wants(ar->audit, AUDIT_REQUEST))
        api_audit_patch(ar, request->kind == PATCH_APPLY);
    struct field_errors errors = {.arena = ar->arena};
    if (request->kind == PATCH_APPLY && kp_empty(request->field_manager))
        field_required(&errors, "is required for apply patch", "fieldManager");
    if (request->kind != PATCH_APPLY && query_of(ar, "force"))
        field_forbidden(&errors, "may not be specified for non-apply patch", "force");
    return status_invalid(&ar->status, "meta.k8s.io", "PatchOptions", "", &errors);
}

void handle_patch(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    struct patching patching = {.ar = ar};
    bool created;
    if (patch_begin(ar, &patching.request) < 0) {
        respond_status(ar);
        return;
    }
    bool apply = patching.request.kind == PATCH_APPLY;
    struct registry_update_options options = {.patch = true, .managed_done = apply, .create_allowed = apply && !*ar->info.subresource};
    ar->rq.applied = apply;
    int code = registry_update(ar->server->config.registry, &ar->rq, &options, make_patched, &patching, &object, &created);
    if (code == 0 && report_problems(ar, ar->resource->type, &patching.problems) < 0)
        code = ar->status.code;
    respond_written(ar, code, created, object);
}

/* ---- delete ------------------------------------------------------------------------------------------------------------ */
void handle_delete(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    struct k8s_delete_options *options;
    bool gone = false, as_status = false;
    if (decode_delete_options(ar, &options) < 0 ||
        registry_delete(ar->server->config.registry, &ar->rq, options, &object, &gone, &as_status) < 0) {
        respond_status(ar);
        return;
    }
    bool accepted = !gone && options->has_orphan_dependents && !options->orphan_dependents;
    if (as_status)
        respond_success(ar, object->name, object->uid);
    else
        respond_object(ar, accepted ? 202 : 200, object);
}

void handle_delete_collection(struct api_request *ar)
{
    struct k8s_delete_options *options;
    struct registry_list_options list_opts;
    struct registry_list list;
    if (decode_delete_options(ar, &options) < 0 || list_options(ar, &list_opts) < 0 ||
        registry_delete_collection(ar->server->config.registry, &ar->rq, &list_opts, options, &list) < 0) {
        respond_status(ar);
        return;
    }
    respond_list(ar, &list);
    wcache_list_done(&list.objects);
}
